"""A segmenter's outputs to a segmentation in the source's own geometry, by one version's `pipeline.json`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from wetread_postprocess.back_mapping import Labels, Source, to_source
from wetread_postprocess.notes import InvalidGeometry, notes, parse_geometry
from wetread_postprocess.novelty import FeatureStatistics, Vector
from wetread_postprocess.reading import InvalidScores, novelty
from wetread_postprocess.segments import SegmentRules

Volume = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Segmentation:
    """The answer to one series."""

    labels: Labels
    """uint8 [slices, rows, columns] of the source: each pixel's segment, 0 where it is none."""
    novelty: Vector
    """float32 [1], as a film's; empty [0] when the pipeline has none."""
    notes: bytes
    """UTF-8 JSON: warnings, what was left out, timings, and the source's geometry."""


class Segmenter:
    """Turns LOGITS over a volume into segmentations of the source."""

    def __init__(self, rules: SegmentRules, statistics: FeatureStatistics | None, card: bytes) -> None:
        self._rules = rules
        self._statistics = statistics
        self.card = card
        """The bytes of `pipeline.json`, as CARD sends them."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """A segmenter for the version folder that holds `pipeline.json`; errors as `Postprocessor.load`."""
        rules = SegmentRules.load(folder)
        statistics = FeatureStatistics.load(rules.novelty.statistics) if rules.novelty else None
        return cls(rules, statistics, (folder / "pipeline.json").read_bytes())

    def fits(self, channels: int, *, novelty: bool) -> None:
        """Check that the rules serve what a configuration promises.

        Args:
            channels: S of LOGITS; -1 where the configuration leaves it open.
            novelty: it has NOVELTY.

        Raises:
            ValueError: pipeline.json names a channel that is not there, or has no rule for NOVELTY.
        """
        if 0 <= channels < self._rules.channels:
            last = self._rules.channels - 1
            raise ValueError(f"pipeline.json has a segment {last}; LOGITS has {channels} channels, counted from 0")
        if novelty and self._statistics is None:
            raise ValueError("NOVELTY is configured, and pipeline.json has no novelty")

    def read(self, logits: Volume, mask: Labels | None, features: Vector | None, geometry: bytes) -> Segmentation:
        """Segment one series.

        Args:
            logits: float32 [S, a, b, c] over the padded volume.
            mask: uint8 [a, b, c], 0 where no slice lies; None: the model has had it.
            features: float32 [F]; None: there is no novelty.
            geometry: what preprocessing said of the source, UTF-8 JSON.

        Raises:
            InvalidGeometry: `geometry` is not that of a series whose volume lies in `logits`.
            InvalidScores: LOGITS are NaN inside the volume, or have fewer channels than there are segments.
        """
        document = parse_geometry(geometry)
        source = Source.of(document)
        labels = self._labels(logits, mask, source.volume_shape)
        return Segmentation(
            to_source(labels, source), novelty(features, self._statistics, self._rules.novelty), notes(document)
        )

    def _labels(self, logits: Volume, mask: Labels | None, shape: tuple[int, int, int]) -> Labels:
        """Give labels uint8 [a, b, c] of the volume without its padding."""
        channels = logits.shape[0]
        if channels < self._rules.channels:
            raise InvalidScores(f"LOGITS has {channels} channels for segments up to {self._rules.channels - 1}")
        padded = [there.shape[-3:] for there in (logits, mask) if there is not None]
        if any(had < side for shape_there in padded for had, side in zip(shape_there, shape, strict=True)):
            raise InvalidGeometry(f"GEOMETRY speaks of a volume of {list(shape)}, LOGITS are {list(logits.shape)}")
        first, second, third = shape
        labels = np.empty(shape, np.uint8)
        kept = self._rules.kept(channels)
        for place, layer in enumerate(labels):  # layer by layer: it stays in the cache
            _largest(logits[:, place, :second, :third], layer)
            if kept is not None:
                layer[...] = kept[layer]
        if mask is not None:
            labels *= mask[:first, :second, :third] != 0
        return labels


def _largest(scores: npt.NDArray[np.float32], into: npt.NDArray[np.uint8]) -> None:
    """Write the channel of the largest of `scores` [S, b, c], the first of equals, to `into` [b, c]."""
    best = scores[0].copy()
    into[...] = 0
    for channel in range(1, len(scores)):
        wins = np.greater(scores[channel], best).view(np.uint8)
        np.maximum(into, wins * np.uint8(channel), out=into)  # channels only grow; no branch a voxel
        np.maximum(best, scores[channel], out=best)
    if np.isnan(best.max()):
        raise InvalidScores("the segmenter's LOGITS are NaN for this series; the release cannot read it")
