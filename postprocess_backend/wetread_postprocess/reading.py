"""Model outputs to a reading, by the rules of one version's `pipeline.json`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from wetread_postprocess.heatmap import Activation, heatmap, heatmap_size
from wetread_postprocess.notes import InvalidGeometry, notes, parse_geometry
from wetread_postprocess.novelty import FeatureStatistics, Vector
from wetread_postprocess.pipeline import NoveltyRule, Pipeline

_LEAST = np.float32(1e-26)
"""Added to a probability before its log odds are taken: e^-60, the end of the logits' range."""


class InvalidScores(ArithmeticError):
    """The classifier answered something that is no number; never to be taken for a negative."""


@dataclass(frozen=True)
class Reading:
    """The answer to one film; C is the number of findings."""

    probability: Vector
    """float32 [C], calibrated."""
    positive: npt.NDArray[np.bool_]
    """[C]"""
    heatmap: npt.NDArray[np.uint8]
    """[C, h, w] at the film's aspect, longest side 224; empty [C, 0, 0] when it was not wanted, or the pipeline has
    none."""
    novelty: Vector
    """float32 [1]; above 1 the film is unlike 99 % of the films the model was calibrated on. Empty [0] when the
    pipeline has none."""
    notes: bytes
    """UTF-8 JSON: warnings, and the source's geometry; of a series also what was left out, and how long it took."""


class Postprocessor:
    """Turns scores, activations and features into readings."""

    def __init__(self, pipeline: Pipeline, statistics: FeatureStatistics | None, card: bytes) -> None:
        self._pipeline = pipeline
        self._statistics = statistics
        self._columns = [finding.column for finding in pipeline.findings]
        self._temperature = np.array([finding.temperature for finding in pipeline.findings], np.float32)
        self._threshold = np.array([finding.threshold for finding in pipeline.findings], np.float32)
        self.card = card
        """The bytes of `pipeline.json`, as CARD sends them."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """A postprocessor for the version folder that holds `pipeline.json` and the novelty statistics it names.

        Raises:
            ValueError: a file that contradicts itself, by name.
            OSError: a file that is missing.
        """
        pipeline = Pipeline.load(folder)
        statistics = FeatureStatistics.load(pipeline.novelty.statistics) if pipeline.novelty else None
        return cls(pipeline, statistics, (folder / "pipeline.json").read_bytes())

    def fits(self, columns: int, *, heatmap: bool, novelty: bool) -> None:
        """Check that the rules serve what a configuration promises.

        Args:
            columns: K of LOGITS; -1 where the configuration leaves it open.
            heatmap: it has HEATMAP.
            novelty: it has NOVELTY.

        Raises:
            ValueError: pipeline.json has no rule for an output, or names a column that is not there.
        """
        if 0 <= columns < self._pipeline.columns:
            last = self._pipeline.columns - 1
            raise ValueError(f"pipeline.json names column {last} of LOGITS, which has {columns}, counted from 0")
        if heatmap and not self._pipeline.has_heatmap:
            raise ValueError("HEATMAP is configured, and a finding of pipeline.json has no heatmap_scale")
        if novelty and self._statistics is None:
            raise ValueError("NOVELTY is configured, and pipeline.json has no novelty")

    def read(
        self,
        logits: Vector,
        activation: Activation | None,
        features: Vector | None,
        geometry: bytes,
        *,
        with_heatmap: bool = True,
    ) -> Reading:
        """Read one film.

        Args:
            logits: float32 [K], scores of the kind that pipeline.json names.
            activation: float32 [K, h, w], each cell's contribution to the logit; None: there is no heatmap.
            features: float32 [F]; None: there is no novelty.
            geometry: what preprocessing said of the source, UTF-8 JSON.
            with_heatmap: draw the heatmaps.

        Raises:
            InvalidGeometry: `geometry` is not JSON with rows and columns.
            InvalidScores: a finding's score is NaN.
        """
        probability = self.probability(logits)
        if np.isnan(probability).any():
            raise InvalidScores("the classifier's LOGITS are NaN for this film; the release cannot read it")
        drawn = activation if with_heatmap and self._pipeline.has_heatmap else None
        source = parse_geometry(geometry)
        try:
            size = (0, 0) if drawn is None else heatmap_size(source["rows"], source["columns"])
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidGeometry("GEOMETRY is not what preprocessing writes: JSON with rows and columns") from error
        return Reading(
            probability=probability,
            positive=probability >= self._threshold,
            heatmap=self._heatmaps(drawn, size),
            novelty=self._novelty(features),
            notes=notes(source),
        )

    def probability(self, logits: Vector) -> Vector:
        """Calibrated probabilities [..., C] of `logits` [..., K], scores of the kind that pipeline.json names."""
        scores = self._pipeline.scores
        if scores == "logits":
            return _sigmoid(logits[..., self._columns] / self._temperature)
        if scores == "class_logits":
            weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
            logits = weights / weights.sum(axis=-1, keepdims=True)
        probability = np.asarray(logits[..., self._columns], np.float32)
        odds = (probability + _LEAST) / (np.float32(1.0) - probability + _LEAST)
        calibrated = _sigmoid(np.log(np.maximum(odds, _LEAST)) / self._temperature)
        return np.where(self._temperature == 1.0, np.clip(probability, 0.0, 1.0), calibrated)

    def _heatmaps(self, activation: Activation | None, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
        maps = np.empty((len(self._pipeline.findings), *size), np.uint8)
        if activation is not None:
            for index, finding in enumerate(self._pipeline.findings):
                if finding.heatmap_scale is not None:
                    maps[index] = heatmap(activation[finding.column], finding.heatmap_scale, size)
        return maps

    def _novelty(self, features: Vector | None) -> Vector:
        return novelty(features, self._statistics, self._pipeline.novelty)


def novelty(features: Vector | None, statistics: FeatureStatistics | None, rule: NoveltyRule | None) -> Vector:
    """Give NOVELTY, float32 [1], of `features` [F]; empty [0] where the pipeline has none."""
    if features is None or statistics is None or rule is None:
        return np.empty(0, np.float32)
    return np.array([statistics.distance(features) / rule.percentile_99], np.float32)


def _sigmoid(logits: Vector) -> Vector:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits, -60.0, 60.0))), np.float32)
