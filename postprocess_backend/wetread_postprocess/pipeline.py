"""`pipeline.json`: the one owner of a pipeline's labels, codes, thresholds and calibration."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

SCHEMA = 1

Scores = Literal["logits", "class_logits", "probabilities"]
"""What the classifier's LOGITS hold: an independent logit each, logits of classes that exclude each other (a softmax
is still to come), or probabilities (a sigmoid or softmax is inside the model)."""


@dataclass(frozen=True)
class FindingRule:
    """How one score becomes a finding."""

    label: str
    threshold: float
    """On the calibrated probability; at or above it the finding is present."""
    temperature: float
    """Divides the logit before the sigmoid; of a probability, its log odds."""
    heatmap_scale: float | None
    """The contribution to the logit that HEATMAP shows as 255; None: there is no heatmap of it."""
    column: int
    """Of the finding in LOGITS and ACTIVATION; the file leaves it out where the finding's own place is meant."""


@dataclass(frozen=True)
class NoveltyRule:
    """How far from known films a film may be."""

    statistics: Path
    percentile_99: float
    """The distance that 99 % of known films do not reach; shown as 1."""


@dataclass(frozen=True)
class Pipeline:
    """What postprocessing needs of `pipeline.json`; the rest of the file travels to clients as it is."""

    findings: tuple[FindingRule, ...]
    novelty: NoveltyRule | None
    """None: the pipeline has no NOVELTY."""
    scores: Scores = "logits"

    @property
    def has_heatmap(self) -> bool:
        """Whether every finding has a heatmap."""
        return all(finding.heatmap_scale is not None for finding in self.findings)

    @property
    def columns(self) -> int:
        """The fewest columns that LOGITS must have."""
        return 1 + max(finding.column for finding in self.findings)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read and check `pipeline.json` in `folder`.

        Raises:
            ValueError: no JSON, an unknown schema, a missing or malformed value, a temperature or scale that is not
                positive, a threshold that is no probability, a column named twice.
        """
        path, document = folder / "pipeline.json", read_pipeline_document(folder)
        try:
            findings = tuple(_finding(each, place) for place, each in enumerate(document["findings"]))
            pipeline = cls(findings, read_novelty(document, folder), document.get("scores", "logits"))
        except KeyError as error:
            raise ValueError(f"{path}: {error} is missing") from error
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error
        if fault := next(_faults(pipeline), ""):
            raise ValueError(f"{path}: {fault}")
        return pipeline


def _finding(content: dict[str, Any], place: int) -> FindingRule:
    scale = content.get("heatmap_scale")
    return FindingRule(
        str(content["label"]),
        float(content["threshold"]),
        float(content["temperature"]),
        None if scale is None else float(scale),
        int(content.get("column", place)),
    )


def read_pipeline_document(folder: Path) -> dict[str, Any]:
    """Read `pipeline.json` in `folder`; ValueError when it is no JSON, or of an unknown schema."""
    path = folder / "pipeline.json"
    try:
        document: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if document.get("schema") != SCHEMA:
        raise ValueError(f"{path}: schema {document.get('schema')} is not known here, this code reads {SCHEMA}")
    return document


def read_novelty(document: dict[str, Any], folder: Path) -> NoveltyRule | None:
    """Give the rule for NOVELTY that a `pipeline.json` states, if any; KeyError or ValueError when it is not whole."""
    content = document.get("novelty")
    return content and NoveltyRule(folder / str(content["statistics"]), float(content["percentile_99"]))


def _faults(pipeline: Pipeline) -> Iterator[str]:
    """Say what contradicts itself."""
    if not pipeline.findings:
        yield "no finding; a pipeline has at least one"
    if pipeline.scores not in get_args(Scores):
        yield f"scores are {pipeline.scores!r}; known are {', '.join(get_args(Scores))}"
    positive = [finding.temperature for finding in pipeline.findings]
    positive += [finding.heatmap_scale for finding in pipeline.findings if finding.heatmap_scale is not None]
    positive += [pipeline.novelty.percentile_99] if pipeline.novelty else []
    for value in positive:
        if not value > 0:
            yield f"temperatures, heatmap scales and percentiles are positive, one is {value}"
    for finding in pipeline.findings:
        if not 0 < finding.threshold < 1:
            yield f"the threshold of {finding.label} is {finding.threshold}, no probability"
        if finding.column < 0:
            yield f"the column of {finding.label} is {finding.column}; the first one is 0"
    columns = [finding.column for finding in pipeline.findings]
    if len(set(columns)) < len(columns):
        yield f"two findings share a column: {columns}"
