"""A release's card: which findings a pipeline gives, their codes and thresholds, and what it is meant for."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass
from typing import Any

SCHEMA = 1


class CardError(ValueError):
    """The bytes are no card that this version of the client can read."""


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept: coding scheme designator, code value, code meaning (DICOM PS3.3, 8.1)."""

    scheme: str
    value: str
    meaning: str


@dataclass(frozen=True, slots=True)
class FindingCard:
    """One finding; `threshold` is on the calibrated probability, `heatmap_scale` the logit share shown as 255.

    `heatmap_scale`: None where the release makes no heatmaps.
    """

    label: str
    codes: tuple[Code, ...]
    threshold: float
    temperature: float
    heatmap_scale: float | None


@dataclass(frozen=True, slots=True)
class SegmentCard:
    """One segment of a segmentation; `value` stands for it in SEGMENTATION, 0 for none.

    `codes`: the first is its type; `category`: of that type (DICOM PS3.3, C.8.20.2). `colour`: red, green, blue, 0-255.
    """

    value: int
    label: str
    codes: tuple[Code, ...]
    category: Code
    colour: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Algorithm:
    """Name and maker of the algorithm; its version is the release of each answer."""

    name: str
    manufacturer: str


@dataclass(frozen=True, slots=True)
class IntendedUse:
    """The films or series that a pipeline is meant for; `age_years` is the first and the last year."""

    statement: str
    modalities: tuple[str, ...]
    body_part: str
    views: tuple[str, ...]
    age_years: tuple[float, float]
    limits: str


@dataclass(frozen=True, slots=True)
class Distribution:
    """How often a score lies where: `fractions` of the readings, one more than there are `edges`.

    A value on an edge belongs to the bin above it.
    """

    edges: tuple[float, ...]
    fractions: tuple[float, ...]

    @classmethod
    def parse(cls, content: dict[str, Any]) -> Distribution:
        """Read one; ValueError when its numbers are none of a distribution."""
        edges = tuple(float(edge) for edge in content["edges"])
        fractions = tuple(float(fraction) for fraction in content["fractions"])
        if len(fractions) != len(edges) + 1 or not edges:
            raise ValueError(f"{len(edges)} edges part {len(fractions)} fractions; there is one fraction more")
        if any(low >= high for low, high in itertools.pairwise(edges)) or not all(map(math.isfinite, edges)):
            raise ValueError("the edges of a reference do not grow")
        if min(fractions) < 0 or not math.isclose(sum(fractions), 1.0, abs_tol=1e-3):
            raise ValueError(f"the fractions of a reference sum to {sum(fractions)}, not to 1")
        return cls(edges, fractions)


@dataclass(frozen=True, slots=True)
class Reference:
    """What the release said of the films it was judged by: drift is the distance from it.

    `readings`: how many there were; `source`: where they are from. `findings`: of the probabilities, by label.
    """

    readings: int
    source: str
    findings: dict[str, Distribution]
    novelty: Distribution | None = None

    @classmethod
    def parse(cls, content: dict[str, Any]) -> Reference:
        """Read one; KeyError, TypeError, ValueError when it is not whole."""
        novelty = content.get("novelty")
        return cls(
            readings=int(content["readings"]),
            source=str(content["source"]),
            findings={str(label): Distribution.parse(one) for label, one in content["findings"].items()},
            novelty=None if novelty is None else Distribution.parse(novelty),
        )


@dataclass(frozen=True, slots=True)
class PipelineCard:
    """The tensor CARD: `pipeline.json` of the release that answered."""

    pipeline: str
    task: str
    algorithm: Algorithm
    intended_use: IntendedUse
    findings: tuple[FindingCard, ...]
    novelty_percentile_99: float | None
    """Distance in feature space; None where the release does not tell novelty."""
    segments: tuple[SegmentCard, ...] = ()
    """Of the task segmentation."""
    reference: Reference | None = None
    """None where the release does not tell what its readings are to be compared with."""

    @classmethod
    def parse(cls, document: bytes) -> PipelineCard:
        """Read CARD's bytes; CardError when they are no card or of a schema unknown here."""
        try:
            content = json.loads(document)
            schema = content["schema"]
        except (ValueError, KeyError, TypeError) as error:
            raise CardError(f"not a pipeline card: {error!r}") from error
        if schema != SCHEMA:
            raise CardError(f"the card has schema {schema!r}, this client reads {SCHEMA}: update wetread")
        try:
            return cls(
                pipeline=str(content["pipeline"]),
                task=str(content["task"]),
                algorithm=Algorithm(str(content["algorithm"]["name"]), str(content["algorithm"]["manufacturer"])),
                intended_use=_intended_use(content["intended_use"]),
                findings=tuple(_finding(finding) for finding in content["findings"]),
                novelty_percentile_99=_percentile_99(content.get("novelty")),
                segments=tuple(_segment(segment) for segment in content.get("segments", ())),
                reference=_reference(content.get("reference")),
            )
        except (AttributeError, ValueError, KeyError, TypeError) as error:
            raise CardError(f"the card of schema {SCHEMA} is not whole: {error!r}") from error


def _intended_use(content: dict[str, Any]) -> IntendedUse:
    youngest, oldest = content["age_years"]
    return IntendedUse(
        statement=str(content["statement"]),
        modalities=tuple(str(modality) for modality in content["modalities"]),
        body_part=str(content["body_part"]),
        views=tuple(str(view) for view in content["views"]),
        age_years=(float(youngest), float(oldest)),
        limits=str(content["limits"]),
    )


def _percentile_99(novelty: dict[str, Any] | None) -> float | None:
    return None if novelty is None else float(novelty["percentile_99"])


def _reference(content: dict[str, Any] | None) -> Reference | None:
    return None if content is None else Reference.parse(content)


def _finding(content: dict[str, Any]) -> FindingCard:
    scale = content.get("heatmap_scale")
    return FindingCard(
        label=str(content["label"]),
        codes=tuple(_code(code) for code in content["codes"]),
        threshold=float(content["threshold"]),
        temperature=float(content["temperature"]),
        heatmap_scale=None if scale is None else float(scale),
    )


def _segment(content: dict[str, Any]) -> SegmentCard:
    red, green, blue = content["colour"]
    return SegmentCard(
        value=int(content["value"]),
        label=str(content["label"]),
        codes=tuple(_code(code) for code in content["codes"]),
        category=_code(content["category"]),
        colour=(int(red), int(green), int(blue)),
    )


def _code(content: dict[str, Any]) -> Code:
    return Code(str(content["scheme"]), str(content["value"]), str(content["meaning"]))
