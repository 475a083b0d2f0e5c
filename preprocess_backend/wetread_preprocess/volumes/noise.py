"""How noisy a series is: the standard deviation of white noise, estimated from the slices themselves."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from wetread_preprocess.volumes.foreground import Histogram, otsu
from wetread_preprocess.volumes.stack import FloatPlane

_MOST_SLICES = 16
_MASK_NORM = 6.0
"""Root of the sum of squares of the mask [1 -2 1] x [1 -2 1]: what white noise of deviation 1 becomes."""
_MAD_TO_SIGMA = 1.0 / 0.6744897501960817
_LEAST_VOXELS = 64


def noise_sigma(planes: Sequence[FloatPlane], floor: float | None) -> float:
    """Estimate the standard deviation of the noise in `planes`, float32 [rows, columns] each, in their unit.

    Each 3x3 neighbourhood is taken against the difference of two Laplacians, which no even or evenly sloping tissue
    passes (J. Immerkaer, Fast noise variance estimation, Computer Vision and Image Understanding 1996); the median of
    the magnitudes, over 0.6745, is the deviation (D. L. Donoho, I. M. Johnstone, Ideal spatial adaptation by wavelet
    shrinkage, Biometrika 1994), which edges hardly move. Left out are neighbourhoods with a voxel of `floor` (None: of
    0) or below, which is no measured value, and those darker on average than Otsu's threshold: noise of the magnitude
    of an MR signal is less in air, and a CT clips there. The mean of a neighbourhood and its answer to the mask are
    independent, so the choice does not bias. Taken are up to 16 slices, evenly spread. White noise is assumed: of
    noise that the reconstruction has coloured, only the fine part is seen.

    Gives 0 where nothing is left or there is no noise.
    """
    chosen = [planes[int(n)] for n in np.unique(np.linspace(0, len(planes) - 1, _MOST_SLICES).round())]
    lowest = np.float32(0.0 if floor is None else floor)
    answers, means = [], []
    for plane in chosen:
        answer, mean = _answers(plane, lowest)
        answers.append(answer)
        means.append(mean)
    answer, mean = np.concatenate(answers), np.concatenate(means)
    if answer.size < _LEAST_VOXELS:
        return 0.0
    tissue = answer[mean > _threshold(mean)]
    return float(np.median(tissue if tissue.size >= _LEAST_VOXELS else answer)) * _MAD_TO_SIGMA / _MASK_NORM


def _answers(plane: FloatPlane, lowest: np.float32) -> tuple[FloatPlane, FloatPlane]:
    """Give magnitude of the mask's answer and mean of each 3x3 neighbourhood that is all above `lowest`, as lists."""
    if min(plane.shape) < 3:
        return np.zeros(0, np.float32), np.zeros(0, np.float32)
    twice = plane[:, :-2] - 2 * plane[:, 1:-1] + plane[:, 2:]
    answer = twice[:-2] - 2 * twice[1:-1] + twice[2:]
    sums = plane[:, :-2] + plane[:, 1:-1] + plane[:, 2:]
    mean = (sums[:-2] + sums[1:-1] + sums[2:]) / np.float32(9.0)
    above = plane > lowest
    wide = above[:, :-2] & above[:, 1:-1] & above[:, 2:]
    taken = wide[:-2] & wide[1:-1] & wide[2:]
    return np.abs(answer[taken]), mean[taken]


def _threshold(mean: npt.NDArray[np.float32]) -> float:
    low, high = float(mean.min()), float(np.percentile(mean[:: max(1, mean.size // 100_000)], 99.5))
    if not high > low:
        return low - 1.0
    at = np.clip((mean - np.float32(low)) * np.float32(1024 / (high - low)), 0, 1023).astype(np.int32)
    return otsu(Histogram(np.bincount(at, minlength=1024).astype(np.int64), low, high))
