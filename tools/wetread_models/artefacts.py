"""The files beside the weights that say what the model is: pipeline.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

PIPELINE = "chest_xray"
CLASSIFIER = "chest_xray_classifier"
POSTPROCESS = "chest_xray_postprocess"
SYNTHETIC_FILMS = "synthetic_films.npz"


@dataclass(frozen=True)
class Calibration:
    """What is chosen on held-out patients."""

    temperature: float
    threshold: float
    """On the calibrated probability, sigmoid(LOGITS / temperature)."""
    heatmap_scale: float
    """The ACTIVATION that the heatmap shows as 255."""
    novelty_99: float
    """The 99th percentile of the held-out films' distances."""


def pipeline_card(calibration: Calibration) -> dict[str, Any]:
    """The content of pipeline.json for the chest film classifier."""
    return {
        "schema": 1,
        "pipeline": PIPELINE,
        "task": "classification",
        "algorithm": {"name": "Wetread chest film pneumonia classifier", "manufacturer": "Wetread"},
        "intended_use": {
            "statement": "A preliminary reading of frontal chest films of children for pneumonia, for research and "
            "engineering. Not a medical device, not for clinical use.",
            "modalities": ["CR", "DX", "RG"],
            "body_part": "CHEST",
            "views": ["AP", "PA"],
            "age_years": [1, 5],
            "limits": "Trained on films of one hospital, children aged 1 to 5. At chance level on films of adults.",
        },
        "findings": [
            {
                "label": "pneumonia",
                "codes": [
                    {"scheme": "SCT", "value": "233604007", "meaning": "Pneumonia"},
                    {"scheme": "RADLEX", "value": "RID5350", "meaning": "pneumonia"},
                ],
                "threshold": round(calibration.threshold, 6),
                "temperature": round(calibration.temperature, 6),
                "heatmap_scale": round(calibration.heatmap_scale, 4),
            }
        ],
        "novelty": {"statistics": "novelty.npz", "percentile_99": round(calibration.novelty_99, 4)},
    }


def write_pipeline(path: Path, calibration: Calibration, reference: dict[str, Any] | None = None) -> None:
    """Write pipeline.json; `reference`: what drift is measured from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    card = pipeline_card(calibration) | ({} if reference is None else {"reference": reference})
    path.write_text(json.dumps(card, indent=2) + "\n")
