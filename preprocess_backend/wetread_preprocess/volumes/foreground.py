"""What of a volume is tissue: histograms, percentiles and Otsu's threshold."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wetread_preprocess.errors import UnsupportedImage
from wetread_preprocess.volumes.intensity_kernels import Mask, Values, count_values, extremes

Counts = npt.NDArray[np.int64]

BINS = 4096
_NARROW = 64
"""Percentiles this few bins apart are looked for once more, in bins of their own size."""


@dataclass(frozen=True)
class Histogram:
    """How many voxels lie in each of equal bins."""

    counts: Counts
    low: float
    high: float

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """[bins]: the middle of each bin."""
        return self.low + (np.arange(len(self.counts)) + 0.5) * (self.high - self.low) / len(self.counts)

    def percentile(self, percent: float) -> float:
        """The value below which `percent` of the voxels lie, between a bin's ends linearly."""
        filled = np.concatenate([[0], np.cumsum(self.counts)]).astype(np.float64)
        edges = np.linspace(self.low, self.high, len(filled))
        rising = np.concatenate([[True], np.diff(filled) > 0])
        rising[:-1] |= rising[1:]  # the lower end of a bin that holds something
        return float(np.interp(percent / 100.0 * filled[-1], filled[rising], edges[rising]))


def span(values: Values, mask: Mask) -> tuple[float, float]:
    """Give the least and the greatest value inside `mask`, both float32 [a, b, c], uint8 [a, b, c].

    Raises:
        UnsupportedImage: nothing lies inside the mask, all values are one, or one is no number.
    """
    low, high = extremes(values, mask)
    if (low, high) == (np.inf, -np.inf):
        raise UnsupportedImage("no voxel of the volume lies inside a slice: there is nothing to take intensities from")
    if not np.isfinite(low) or not np.isfinite(high):
        raise UnsupportedImage("a voxel of the volume is not a finite number")
    if low == high:
        raise UnsupportedImage(f"every voxel of the volume is {low:g}: an empty image has no intensities to scale by")
    return low, high


def histogram(values: Values, mask: Mask, low: float, high: float, bins: int = BINS) -> Histogram:
    """Count the voxels inside `mask` between `low` and `high`; those beyond count in the outermost bins."""
    counts = np.zeros(bins, np.int64)
    count_values(values, mask, low, bins / (high - low), counts)
    return Histogram(counts, low, high)


def percentiles(values: Values, mask: Mask, percents: tuple[float, float]) -> tuple[float, float]:
    """Give two percentiles of the voxels inside `mask`, to 1/64 of their distance or better; raises as `span` does.

    Two that are one value come out as the same number.
    """
    least, most = low, high = span(values, mask)
    for _ in range(3):  # one far voxel spreads the bins: look again where the percentiles lie
        counted = histogram(values, mask, low, high)
        first, last = counted.percentile(percents[0]), counted.percentile(percents[1])
        width = (high - low) / BINS
        if last - first >= _NARROW * width:
            break
        low, high = max(first - width, least), min(last + width, most)
    return (first, last) if last - first > width else (first, first)


def otsu(counted: Histogram) -> float:
    """Give the value that parts two classes best: N. Otsu, A threshold selection method from gray-level histograms
    (IEEE SMC 1979)."""
    counts = counted.counts.astype(np.float64)
    below = np.cumsum(counts)
    total = np.cumsum(counts * counted.centres)
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (total / below - (total[-1] - total) / above) ** 2
    best = np.nan_to_num(between[:-1], nan=-1.0)
    # Between two classes with nothing in between every threshold is as good: take the middle.
    ties = np.flatnonzero(best >= best.max() * (1 - 1e-12))
    edges = np.linspace(counted.low, counted.high, len(counts) + 1)
    return float(edges[1 + (ties[0] + ties[-1]) // 2])


def foreground_threshold(values: Values, mask: Mask) -> float:
    """Give the value above which a voxel inside `mask` is tissue: Otsu's, on values cut at the 99.5th percentile.

    The cut keeps a few bright voxels (vessels, fat beside the coil) from being a class of their own.

    Raises:
        UnsupportedImage: as `span` does.
    """
    low, high = span(values, mask)
    counted = histogram(values, mask, low, high)
    cut = counted.percentile(99.5)
    return otsu(histogram(values, mask, low, max(cut, low + (high - low) / BINS)))
