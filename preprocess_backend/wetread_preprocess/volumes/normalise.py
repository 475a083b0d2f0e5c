"""MR intensities, which have no unit, to one scale: z-score, white matter at 1, or percentiles to 0..1."""

import numpy as np
import numpy.typing as npt

from wetread_preprocess.errors import UnsupportedImage
from wetread_preprocess.volumes.foreground import Histogram, foreground_threshold, histogram, percentiles, span
from wetread_preprocess.volumes.intensity_kernels import Mask, Values, count_even, moments_above, scale_and_clip
from wetread_preprocess.volumes.steps import Normalise

_PEAK_BINS = 512
_SMOOTH_BINS = 6.0
"""Standard deviation of the Gaussian that the histogram is smoothed with: 1.2 % of the range."""
_LEAST_PEAK = 0.25
"""Of the highest peak; lower ones are fat, vessels and noise."""


def normalise(values: Values, step: Normalise, *, mask: Mask) -> None:
    """Scale `values` float32 [a, b, c] in place, by what lies inside `mask` uint8 [a, b, c].

    `z_score`: mean 0 and standard deviation 1 of the foreground (see `foreground_threshold`). `white_matter_peak`:
    divided by the brightest great peak of the foreground's histogram, for a T1, so that white matter is 1 and 0 stays
    0. `range`: the step's percentiles, of all voxels inside the mask, become 0 and 1 and values beyond are clipped.

    Raises:
        UnsupportedImage: nothing lies inside the mask, or all of it has one value.
    """
    match step.method:
        case "z_score":
            mean, deviation = _foreground_moments(values, mask)
            _scale(values, mean, deviation)
        case "white_matter_peak":
            _scale(values, 0.0, white_matter_peak(values, mask))
        case "range":
            low, high = _range(values, mask, step.percentiles)
            scale_and_clip(values, low, 1.0 / (high - low), 0.0, 1.0)


def white_matter_peak(values: Values, mask: Mask) -> float:
    """Give the intensity of white matter on a T1: the brightest of the foreground histogram's great peaks.

    After R. T. Shinohara et al., Statistical normalization techniques for magnetic resonance imaging (NeuroImage:
    Clinical 2014): the last mode of the smoothed histogram with its bright tail cut off. A voxel counts where it is
    like its neighbours along the last two axes: between tissues, where values are mixed, and in fat they are not.

    Raises:
        UnsupportedImage: as `normalise`; or the peak is not above 0.
    """
    threshold = foreground_threshold(values, mask)
    low, high = span(values, mask)
    inside = histogram(values, mask, low, high)
    cut = inside.percentile(99.8)
    counted = _even_voxels(values, mask, threshold, max(cut, threshold + (high - low) / len(inside.counts)))
    density = _smoothed(counted.counts.astype(np.float64))
    peaks = np.flatnonzero((density[1:-1] >= density[:-2]) & (density[1:-1] > density[2:])) + 1
    great = peaks[density[peaks] >= _LEAST_PEAK * density.max()]
    at = int(great[-1]) if great.size else int(np.argmax(density))
    peak = float(counted.centres[at])
    if peak <= 0:
        raise UnsupportedImage(f"the brightest peak of the histogram lies at {peak:g}: white matter is above 0 on a T1")
    return peak


def _even_voxels(values: Values, mask: Mask, threshold: float, cut: float) -> Histogram:
    """Count the foreground voxels that differ least from their neighbours, up to `cut`."""
    counts = np.zeros(_PEAK_BINS, np.int64)
    count_even(values, mask, threshold, cut, 0.15 * (cut - threshold), counts)
    return Histogram(counts, threshold, cut)


def _smoothed(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    reach = int(4 * _SMOOTH_BINS)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / _SMOOTH_BINS) ** 2)
    return np.convolve(counts, weights / weights.sum(), mode="same")


def _foreground_moments(values: Values, mask: Mask) -> tuple[float, float]:
    """Give mean and standard deviation of the foreground, summed in float64 around the threshold."""
    threshold = foreground_threshold(values, mask)
    count, total, squares = moments_above(values, mask, threshold)
    mean = total / max(count, 1)
    deviation = float(np.sqrt(max(squares / max(count, 1) - mean * mean, 0.0)))
    if deviation <= 1e-6 * (abs(mean) + abs(threshold)):
        raise UnsupportedImage(
            f"all tissue of the volume has the value {mean + threshold:g}: there is nothing to scale by"
        )
    return mean + threshold, deviation


def _range(values: Values, mask: Mask, percents: tuple[float, float]) -> tuple[float, float]:
    low, high = percentiles(values, mask, percents)
    if not high > low:
        raise UnsupportedImage(
            f"percentiles {percents[0]:g} and {percents[1]:g} of the volume are one value: there is nothing to scale by"
        )
    return low, high


def _scale(values: Values, centre: float, unit: float) -> None:
    scale_and_clip(values, centre, 1.0 / unit, -np.inf, np.inf)
