"""What a version folder's `pipeline.json` answers, findings or segments, behind one entry for the Triton adapter."""

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from wetread_postprocess.pipeline import read_pipeline_document
from wetread_postprocess.reading import Postprocessor
from wetread_postprocess.segmentation import Segmenter

Tensor = npt.NDArray[Any]
_FEEDS = (("ACTIVATION", "HEATMAP"), ("FEATURES", "NOVELTY"))


class Answerer(Protocol):
    """Turns the tensors of one request, without the batch, into its answer's."""

    def fits(self, inputs: Mapping[str, tuple[int, ...]], outputs: Set[str]) -> None:
        """Check the rules against a configuration's inputs, with their dims, and outputs; ValueError where not."""
        ...

    def answer(self, inputs: Mapping[str, Tensor], wanted: Set[str]) -> dict[str, Tensor]:
        """Give the outputs that are wanted; raises InvalidGeometry or InvalidScores."""
        ...


def load_answerer(folder: Path) -> Answerer:
    """Give what answers by the `pipeline.json` in `folder`; its `task` decides. Raises as `Postprocessor.load` does."""
    task = read_pipeline_document(folder).get("task")
    return SegmentationAnswerer(folder) if task == "segmentation" else ReadingAnswerer(folder)


class ReadingAnswerer:
    """LOGITS, and what there is beside them, to PROBABILITY, POSITIVE, HEATMAP, NOVELTY, CARD and NOTES."""

    def __init__(self, folder: Path) -> None:
        self._postprocessor = Postprocessor.load(folder)
        self._card = np.frombuffer(self._postprocessor.card, np.uint8)

    def fits(self, inputs: Mapping[str, tuple[int, ...]], outputs: Set[str]) -> None:
        """Check the rules against a configuration."""
        heatmap, novelty = _fed(inputs, outputs)
        self._postprocessor.fits(inputs["LOGITS"][0], heatmap=heatmap, novelty=novelty)

    def answer(self, inputs: Mapping[str, Tensor], wanted: Set[str]) -> dict[str, Tensor]:
        """Give the reading."""
        reading = self._postprocessor.read(
            inputs["LOGITS"],
            inputs.get("ACTIVATION"),
            inputs.get("FEATURES"),
            inputs["GEOMETRY"].tobytes(),
            with_heatmap="HEATMAP" in wanted,
        )
        tensors: dict[str, Tensor] = {
            "PROBABILITY": reading.probability,
            "POSITIVE": reading.positive,
            "HEATMAP": reading.heatmap,
            "NOVELTY": reading.novelty,
            "CARD": self._card,
            "NOTES": np.frombuffer(reading.notes, np.uint8),
        }
        return {name: tensor for name, tensor in tensors.items() if name in wanted}


class SegmentationAnswerer:
    """LOGITS over a volume, and what there is beside them, to SEGMENTATION, NOVELTY, CARD and NOTES."""

    def __init__(self, folder: Path) -> None:
        self._segmenter = Segmenter.load(folder)
        self._card = np.frombuffer(self._segmenter.card, np.uint8)

    def fits(self, inputs: Mapping[str, tuple[int, ...]], outputs: Set[str]) -> None:
        """Check the rules against a configuration."""
        _, novelty = _fed(inputs, outputs)
        self._segmenter.fits(inputs["LOGITS"][0], novelty=novelty)

    def answer(self, inputs: Mapping[str, Tensor], wanted: Set[str]) -> dict[str, Tensor]:
        """Give the segmentation."""
        mask = inputs["MASK"][0] if "MASK" in inputs else None
        answer = self._segmenter.read(inputs["LOGITS"], mask, inputs.get("FEATURES"), inputs["GEOMETRY"].tobytes())
        tensors: dict[str, Tensor] = {
            "SEGMENTATION": answer.labels,
            "NOVELTY": answer.novelty,
            "CARD": self._card,
            "NOTES": np.frombuffer(answer.notes, np.uint8),
        }
        return {name: tensor for name, tensor in tensors.items() if name in wanted}


def _fed(inputs: Mapping[str, tuple[int, ...]], outputs: Set[str]) -> tuple[bool, bool]:
    """Say whether HEATMAP and NOVELTY are there and have what they are made of."""
    heatmap, novelty = (source in inputs and output in outputs for source, output in _FEEDS)
    return heatmap, novelty
