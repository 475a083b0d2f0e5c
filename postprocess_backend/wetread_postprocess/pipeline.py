"""`pipeline.json`: the one owner of a pipeline's labels, codes, thresholds and calibration."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

SCHEMA = 1


@dataclass(frozen=True)
class FindingRule:
    """How one logit becomes a finding."""

    label: str
    threshold: float
    """On the calibrated probability; at or above it the finding is present."""
    temperature: float
    """Divides the logit before the sigmoid."""
    heatmap_scale: float
    """The contribution to the logit that HEATMAP shows as 255."""


@dataclass(frozen=True)
class Pipeline:
    """What postprocessing needs of `pipeline.json`; the rest of the file travels to clients as it is."""

    findings: tuple[FindingRule, ...]
    """In the order of LOGITS."""
    novelty_statistics: Path
    novelty_percentile_99: float

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read and check `pipeline.json` in `folder`.

        Raises:
            ValueError: no JSON, an unknown schema, a missing or malformed value, a temperature or scale that is not
                positive, a threshold that is no probability.
        """
        path = folder / "pipeline.json"
        try:
            document: dict[str, Any] = json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        if document.get("schema") != SCHEMA:
            raise ValueError(f"{path}: schema {document.get('schema')} is not known here, this code reads {SCHEMA}")
        try:
            findings = tuple(
                FindingRule(
                    str(each["label"]),
                    float(each["threshold"]),
                    float(each["temperature"]),
                    float(each["heatmap_scale"]),
                )
                for each in document["findings"]
            )
            novelty = document["novelty"]
            pipeline = cls(findings, folder / str(novelty["statistics"]), float(novelty["percentile_99"]))
        except KeyError as error:
            raise ValueError(f"{path}: {error} is missing") from error
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error
        if not findings:
            raise ValueError(f"{path}: no finding; a pipeline has at least one")
        for value in [
            pipeline.novelty_percentile_99,
            *(f.temperature for f in findings),
            *(f.heatmap_scale for f in findings),
        ]:
            if not value > 0:
                raise ValueError(f"{path}: temperatures, heatmap scales and percentiles are positive, one is {value}")
        for finding in findings:
            if not 0 < finding.threshold < 1:
                raise ValueError(f"{path}: the threshold of {finding.label} is {finding.threshold}, no probability")
        return pipeline
