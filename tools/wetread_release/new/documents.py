"""The files of a new pipeline's parts: recipe.json, pipeline.json and the card to fill in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wetread_release.new.hints import Scores, Values
    from wetread_release.new.onnx_file import Image
    from wetread_release.new.wish import Wish

Json = dict[str, object]

_IMAGENET = ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))
_IMAGENET_GRAY = (0.449, 0.226)
_CAPTURE = "OT"
_FRONTAL = frozenset({"AP", "PA"})
# PS3.3 C.8.11.5 and what devices write beside it
_LATERAL_VIEWS = ("LL", "RL", "LLD", "RLD", "LLO", "RLO", "LAT", "LATERAL", "LEFT LATERAL", "RIGHT LATERAL")
# PS3.16 CID 4010: the lateral and lateral oblique views, as SNOMED CT and as the retired SNOMED-RT
_LATERAL_CODES = ("399067008", "399173006", "399198007", "R-10230", "R-10232", "R-10236")
# PS3.16 Annex L, Body Part Examined's defined terms for what X-ray films show
_BODY_PARTS = (
    "ABDOMEN", "ABDOMENPELVIS", "ANKLE", "ARM", "BLADDER", "BRAIN", "BREAST", "CALCANEUS", "CERVICALSPINE", "CHEST",
    "CLAVICLE", "COCCYX", "COLON", "CSPINE", "EAR", "ELBOW", "EXTREMITY", "EYE", "FACE", "FEMUR", "FINGER", "FOOT",
    "FOREARM", "HAND", "HEAD", "HEADNECK", "HIP", "HUMERUS", "JAW", "KIDNEY", "KNEE", "LEG", "LSPINE", "LUMBARSPINE",
    "LUNG", "MANDIBLE", "MAXILLA", "NECK", "NOSE", "ORBIT", "PATELLA", "PELVIS", "RADIUS", "RIB", "SACRUM", "SCAPULA",
    "SHOULDER", "SINUS", "SKULL", "SPINE", "SSPINE", "TEETH", "THORAX", "THUMB", "TIBIA", "TOE", "TSPINE", "ULNA",
    "WRIST",
)  # fmt: skip
_SAME_PART: Mapping[str, tuple[str, ...]] = {"CHEST": ("CHEST", "THORAX", "LUNG", "RIB")}
_SHORT = 16
"""Characters of DICOM's SH, which a code's scheme and value are."""
DEFAULT_THRESHOLD = 0.5


def recipe(wish: Wish, image: Image, values: Values) -> Json:
    """Give recipe.json: what follows from the file and the wish, replaced by the wish's own recipe."""
    parts = _SAME_PART.get(wish.body_part, (wish.body_part,)) if wish.body_part else ()
    frontal = bool(wish.views) and set(wish.views) <= _FRONTAL
    mean, scale = normalisation(values, image.channels)
    rows, columns = wish.size or (image.rows, image.columns)
    return {
        "schema": 1,
        "size": [rows, columns],
        "channels": image.channels,
        "layout": image.layout,
        "mean": mean,
        "scale": scale,
        "modalities": list(wish.modalities),
        "declared_modalities": [_CAPTURE],
        "lateral_views": list(_LATERAL_VIEWS) if frontal else [],
        "lateral_view_codes": list(_LATERAL_CODES) if frontal else [],
        "body_parts": list(parts),
        "other_body_parts": [each for each in _BODY_PARTS if not any(part in each for part in parts)],
        **wish.recipe,
    }


def normalisation(values: Values, channels: int) -> tuple[list[float], list[float]]:
    """Give mean and scale of each channel, of gray levels 0..255."""
    imagenet = _IMAGENET if channels == len(_IMAGENET) else (_IMAGENET_GRAY,) * channels
    pairs = {
        "levels": ((0.0, 1.0),) * channels,
        "unit": ((0.0, 255.0),) * channels,
        "symmetric": ((127.5, 127.5),) * channels,
        "imagenet": tuple((255 * mean, 255 * deviation) for mean, deviation in imagenet),
    }[values]
    return [round(mean, 6) for mean, _ in pairs], [round(scale, 6) for _, scale in pairs]


def pipeline(wish: Wish, scores: Scores) -> Json:
    """Give pipeline.json: labels, codes, thresholds, intended use."""
    document: Json = {
        "schema": 1,
        "pipeline": wish.name,
        "task": "classification",
        "algorithm": {"name": wish.name.replace("_", " "), "manufacturer": wish.manufacturer or "not stated"},
        "intended_use": {
            "statement": wish.statement
            or f"A preliminary reading of films ({wish.body_part}), for research and "
            "engineering. Not a medical device, not for clinical use.",
            "modalities": list(wish.modalities),
            "body_part": wish.body_part,
            "views": list(wish.views),
            "age_years": list(wish.age_years),
            "limits": "Not stated: fill in the model card.",
        },
        "scores": scores,
        "findings": [_finding(wish, column, label) for column, label in wish.findings],
    }
    if wish.novelty is not None:
        document["novelty"] = {"statistics": "novelty.npz", "percentile_99": wish.novelty_99}
    return document


def _finding(wish: Wish, column: int, label: str) -> Json:
    codes = [vars(code) for code in wish.codes.get(label, ())] or [private_code(wish.name, label)]
    finding: Json = {
        "label": label,
        "codes": codes,
        "column": column,
        "threshold": wish.thresholds.get(label, DEFAULT_THRESHOLD),
        "temperature": 1.0,
    }
    if wish.tensors.activation:
        finding["heatmap_scale"] = wish.heatmap_scale
    return finding


def private_code(pipeline: str, label: str) -> Json:
    """Give a code of the pipeline's own for a label without one; PS3.16, 8: private schemes begin with 99."""
    plain = re.sub(r"[^A-Z0-9]", "", pipeline.upper())
    value = re.sub(r"[^A-Z0-9]+", "_", label.upper()).strip("_")
    return {"scheme": f"99{plain}"[:_SHORT], "value": value[:_SHORT] or "FINDING", "meaning": label}


def card(wish: Wish, image: Image, values: Values, scores: Scores) -> str:
    """Give CARD.md, with what the maker has still to write."""
    rows = "\n".join(
        f"| {label} | {', '.join(f'{code.scheme} {code.value}' for code in wish.codes.get(label, ())) or 'private'} "
        f"| {wish.thresholds.get(label, DEFAULT_THRESHOLD):g} |"
        for _, label in wish.findings
    )
    size = wish.size or (image.rows, image.columns)
    background = f"Scores that are no finding: {', '.join(wish.background)}.\n" if wish.background else ""
    return f"""# {wish.name.replace("_", " ").capitalize()}

FILL IN: what it finds, on whose films, and that it is not a medical device.

| | |
|---|---|
| reads | {", ".join(wish.modalities)}, {wish.body_part}, {", ".join(wish.views) or "any view"}, {size[0]} x {size[1]} |
| values | {values}, {image.channels} channel(s), {image.layout} |
| scores | {scores} |

| finding | codes | threshold |
|---|---|---|
{rows}

{background}
## Data

FILL IN: source, licence, number of films and patients, how training, calibration and test were kept apart by patient.

## Results on held-out patients

FILL IN: AUC with its interval, sensitivity and specificity at the thresholds above. `wetread release gate` measures
them on a folder of your films and writes report.html beside this card.

## Limits

FILL IN: who was not among the patients, what it does not know, how it fails.
"""
