"""Model outputs to a reading, by the rules of one version's `pipeline.json`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from wetread_postprocess.heatmap import Activation, heatmap, heatmap_size
from wetread_postprocess.novelty import FeatureStatistics, Vector
from wetread_postprocess.pipeline import Pipeline


class InvalidGeometry(ValueError):
    """GEOMETRY did not come from preprocessing; a caller of this model alone has made it up."""


@dataclass(frozen=True)
class Reading:
    """The answer to one film; C is the number of findings."""

    probability: Vector
    """float32 [C], calibrated."""
    positive: npt.NDArray[np.bool_]
    """[C]"""
    heatmap: npt.NDArray[np.uint8]
    """[C, h, w] at the film's aspect, longest side 224; empty [C, 0, 0] when it was not wanted."""
    novelty: Vector
    """float32 [1]; above 1 the film is unlike 99 % of the films the model was calibrated on."""
    notes: bytes
    """UTF-8 JSON: warnings, and the source's geometry."""


class Postprocessor:
    """Turns logits, activations and features into readings."""

    def __init__(self, pipeline: Pipeline, statistics: FeatureStatistics, card: bytes) -> None:
        self._pipeline = pipeline
        self._statistics = statistics
        self._temperature = np.array([finding.temperature for finding in pipeline.findings], np.float32)
        self._threshold = np.array([finding.threshold for finding in pipeline.findings], np.float32)
        self.card = card
        """The bytes of `pipeline.json`, as CARD sends them."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """A postprocessor for the version folder that holds `pipeline.json` and `novelty.npz`.

        Raises:
            ValueError: a file that contradicts itself, by name.
            OSError: a file that is missing.
        """
        pipeline = Pipeline.load(folder)
        statistics = FeatureStatistics.load(pipeline.novelty_statistics)
        return cls(pipeline, statistics, (folder / "pipeline.json").read_bytes())

    def read(
        self, logits: Vector, activation: Activation, features: Vector, geometry: bytes, *, with_heatmap: bool = True
    ) -> Reading:
        """Read one film.

        Args:
            logits: float32 [C].
            activation: float32 [C, 7, 7], each cell's contribution to the logit.
            features: float32 [F].
            geometry: what preprocessing said of the source, UTF-8 JSON.
            with_heatmap: draw the heatmaps.

        Raises:
            InvalidGeometry: `geometry` is not JSON with rows and columns.
        """
        probability = self.probability(logits)
        try:
            source = json.loads(geometry)
            size = heatmap_size(source["rows"], source["columns"]) if with_heatmap else (0, 0)
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidGeometry("GEOMETRY is not what preprocessing writes: JSON with rows and columns") from error
        maps = np.empty((len(self._pipeline.findings), *size), np.uint8)
        if with_heatmap:
            for index, finding in enumerate(self._pipeline.findings):
                maps[index] = heatmap(activation[index], finding.heatmap_scale, size)
        novelty = self._statistics.distance(features) / self._pipeline.novelty_percentile_99
        warnings = source.pop("warnings", [])
        return Reading(
            probability=probability,
            positive=probability >= self._threshold,
            heatmap=maps,
            novelty=np.array([novelty], np.float32),
            notes=json.dumps({"warnings": warnings, "geometry": source}).encode(),
        )

    def probability(self, logits: Vector) -> Vector:
        """Calibrated probabilities of `logits` [..., C]."""
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits / self._temperature, -60.0, 60.0))), np.float32)
