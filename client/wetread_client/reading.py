"""A reading as the client gives it: an answer's tensors under the labels of the release that made them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wetread_client.errors import ServerError, Status

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wetread_client.card import Code, PipelineCard
    from wetread_client.transport import InferAnswer


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding of a film: its calibrated probability, and whether that reaches the release's threshold."""

    label: str
    probability: float
    positive: bool
    codes: tuple[Code, ...] = ()


@dataclass(frozen=True, slots=True)
class Geometry:
    """The source film: `rows` x `columns` pixels, spacing between rows and between columns in mm where known."""

    rows: int
    columns: int
    pixel_spacing_mm: tuple[float, float] | None
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Notes:
    """What the server has to say of this film: `warnings` for a human, the source's geometry where it is known."""

    warnings: tuple[str, ...] = ()
    geometry: Geometry | None = None

    @classmethod
    def parse(cls, document: bytes) -> Notes:
        """Read NOTES' bytes; ServerError when they are not notes."""
        try:
            content = json.loads(document)
            geometry = content.get("geometry")
            warnings = tuple(str(warning) for warning in content.get("warnings", ()))
            return cls(warnings, None if not geometry else _geometry(geometry))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ServerError(Status.INTERNAL.value, f"the answer's NOTES cannot be read: {error!r}") from error


@dataclass(frozen=True, slots=True)
class Reading:
    """One film's reading.

    `release`: the release that made it. `novelty`: above 1 the film is unlike those that the model was trained on;
    None where the release does not tell it. `heatmap`: uint8 [C, h, w] for the C findings, on one scale a release; None
    when it was not asked for or the release makes none.
    `ms`: from the call to the answer, waiting and retries included.
    """

    pipeline: str
    release: int
    findings: tuple[Finding, ...]
    novelty: float | None
    heatmap: NDArray[np.uint8] | None = field(repr=False, compare=False)
    notes: Notes
    ms: float

    @property
    def is_unlike_training(self) -> bool:
        """Whether the release says that the film is unlike those it was made with."""
        return self.novelty is not None and self.novelty > 1

    @property
    def is_positive(self) -> bool:
        """Whether any finding is positive."""
        return any(finding.positive for finding in self.findings)

    @classmethod
    def of_answer(cls, answer: InferAnswer, card: PipelineCard, ms: float) -> Reading:
        """Put an answer under the labels of `card`, its own release's; ServerError when they do not fit together."""
        outputs: Any = answer.outputs
        try:
            probabilities, positives = outputs["PROBABILITY"][0].tolist(), outputs["POSITIVE"][0].tolist()
            novelty = float(outputs["NOVELTY"][0, 0]) if "NOVELTY" in outputs else None
            notes = outputs["NOTES"].tobytes()
        except (KeyError, IndexError) as error:
            raise ServerError(Status.INTERNAL.value, f"the answer lacks an output: {error!r}") from error
        if not len(probabilities) == len(positives) == len(card.findings):
            raise ServerError(
                Status.INTERNAL.value, f"{len(probabilities)} probabilities for {len(card.findings)} findings"
            )
        findings = tuple(
            Finding(of.label, probability, positive, of.codes)
            for of, probability, positive in zip(card.findings, probabilities, positives, strict=True)
        )
        heatmap = outputs["HEATMAP"][0] if "HEATMAP" in outputs else None
        return cls(card.pipeline, answer.model_version, findings, novelty, heatmap, Notes.parse(notes), ms)


def _geometry(content: dict[str, Any]) -> Geometry:
    spacing = content.get("pixel_spacing_mm")
    return Geometry(
        rows=int(content["rows"]),
        columns=int(content["columns"]),
        pixel_spacing_mm=None if spacing is None else (float(spacing[0]), float(spacing[1])),
        sop_instance_uid=str(content["sop_instance_uid"]),
    )
