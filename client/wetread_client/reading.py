"""A reading as the client gives it: an answer's tensors under the labels of the release that made them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from wetread_client.errors import ServerError, Status
from wetread_client.notes import Geometry, LeftOut, Notes, SeriesGeometry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wetread_client.card import Code, PipelineCard, SegmentCard
    from wetread_client.transport import InferAnswer


__all__ = ["Finding", "Geometry", "LeftOut", "Notes", "Reading", "SeriesGeometry"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding: its calibrated probability, and whether that reaches the release's threshold."""

    label: str
    probability: float
    positive: bool
    codes: tuple[Code, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """One film's or one series' reading.

    `release`: the release that made it. `findings`: none of a pipeline that only segments. `novelty`: above 1 it is
    unlike those that the model was trained on; None where the release does not tell it. `heatmap`: uint8 [C, h, w] for
    the C findings, on one scale a release; None when it was not asked for or the release makes none.
    `ms`: from the call to the answer, waiting and retries included.
    `segmentation`: uint8 [slices, rows, columns], the series' own slices in the order of `notes.series`, each pixel the
    `value` of one of `segments` or 0; not to be written to. None where the release makes none.
    """

    pipeline: str
    release: int
    findings: tuple[Finding, ...]
    novelty: float | None
    heatmap: NDArray[np.uint8] | None = field(repr=False, compare=False)
    notes: Notes
    ms: float
    segmentation: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)
    segments: tuple[SegmentCard, ...] = ()

    @property
    def is_unlike_training(self) -> bool:
        """Whether the release says that the film is unlike those it was made with."""
        return self.novelty is not None and self.novelty > 1

    @property
    def is_positive(self) -> bool:
        """Whether any finding is positive."""
        return any(finding.positive for finding in self.findings)

    @property
    def segment_ml(self) -> tuple[float, ...]:
        """The volume of each of `segments`, by the slices' true distances; () where there is no segmentation."""
        if self.segmentation is None or self.notes.series is None:
            return ()
        counts = np.stack([np.bincount(labels.ravel(), minlength=256) for labels in self.segmentation])
        volumes = self.notes.series.voxel_ml @ counts
        return tuple(float(volumes[segment.value]) for segment in self.segments)

    @classmethod
    def of_answer(cls, answer: InferAnswer, card: PipelineCard, ms: float) -> Reading:
        """Put an answer under the labels of `card`, its own release's; ServerError when they do not fit together."""
        outputs: Any = answer.outputs
        try:
            novelty = float(outputs["NOVELTY"][0, 0]) if "NOVELTY" in outputs else None
            notes = Notes.parse(outputs["NOTES"].tobytes())
            findings = _findings(outputs, card)
        except (KeyError, IndexError) as error:
            raise ServerError(Status.INTERNAL.value, f"the answer lacks an output: {error!r}") from error
        return cls(
            pipeline=card.pipeline,
            release=answer.model_version,
            findings=findings,
            novelty=novelty,
            heatmap=outputs["HEATMAP"][0] if "HEATMAP" in outputs else None,
            notes=notes,
            ms=ms,
            segmentation=_segmentation(outputs["SEGMENTATION"], notes) if "SEGMENTATION" in outputs else None,
            segments=card.segments,
        )


def _findings(outputs: Any, card: PipelineCard) -> tuple[Finding, ...]:
    """Give the findings under the card's labels; of a segmenter that has none, none."""
    if not card.findings and "PROBABILITY" not in outputs:
        return ()
    probabilities, positives = outputs["PROBABILITY"][0].tolist(), outputs["POSITIVE"][0].tolist()
    if not len(probabilities) == len(positives) == len(card.findings):
        raise ServerError(
            Status.INTERNAL.value, f"{len(probabilities)} probabilities for {len(card.findings)} findings"
        )
    return tuple(
        Finding(of.label, probability, positive, of.codes)
        for of, probability, positive in zip(card.findings, probabilities, positives, strict=True)
    )


def _segmentation(output: NDArray[np.uint8], notes: Notes) -> NDArray[np.uint8]:
    """Give [slices, rows, columns]; ServerError where it is not of the geometry that came with it."""
    series = notes.series
    if series is not None and output.shape[1:] != (series.slices, series.rows, series.columns):
        raise ServerError(
            Status.INTERNAL.value,
            f"a segmentation of shape {output.shape[1:]} for {series.slices} slices of {series.rows}x{series.columns}",
        )
    labels: NDArray[np.uint8] = output[0]
    return labels
