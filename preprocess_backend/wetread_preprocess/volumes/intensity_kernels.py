"""The compiled part of what is told of intensities: one walk over the voxels inside a mask, nothing copied."""

import numpy as np
import numpy.typing as npt

from wetread_preprocess.volumes.compiled import kernel

Values = npt.NDArray[np.float32]
Mask = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]


@kernel("UniTuple(float64, 2)(float32[:, :, :], uint8[:, :, :])")
def extremes(values: Values, mask: Mask) -> tuple[float, float]:
    """Give the least and the greatest value inside `mask`, both float32 [a, b, c], uint8 [a, b, c].

    Infinity and minus infinity where nothing lies inside; NaN twice where one value is none.
    """
    low, high = np.float32(np.inf), np.float32(-np.inf)
    odd = 0
    for first in range(values.shape[0]):
        for second in range(values.shape[1]):
            for third in range(values.shape[2]):
                if mask[first, second, third] != 0:
                    value = values[first, second, third]
                    odd += value != value  # noqa: PLR0124 -- so is NaN alone
                    low = value if value < low else low
                    high = value if value > high else high
    if odd > 0:
        return np.nan, np.nan
    return float(low), float(high)


@kernel("void(float32[:, :, :], uint8[:, :, :], float32, float32, int64[::1])")
def count_values(values: Values, mask: Mask, low: float, scale: float, counts: Counts) -> None:
    """Add each value inside `mask` to its bin of `counts`: (value - low) * scale, the outermost for what is beyond."""
    last = np.float32(counts.size - 1)
    for first in range(values.shape[0]):
        for second in range(values.shape[1]):
            for third in range(values.shape[2]):
                if mask[first, second, third] != 0:
                    at = (values[first, second, third] - low) * scale
                    counts[int(min(max(at, np.float32(0.0)), last))] += 1


@kernel("UniTuple(float64, 3)(float32[:, :, :], uint8[:, :, :], float64)")
def moments_above(values: Values, mask: Mask, threshold: float) -> tuple[float, float, float]:
    """Give how many values inside `mask` lie above `threshold`, the sum of what they exceed it by, and of its
    squares."""
    count, total, squares = 0.0, 0.0, 0.0
    for first in range(values.shape[0]):
        for second in range(values.shape[1]):
            for third in range(values.shape[2]):
                value = float(values[first, second, third])
                if mask[first, second, third] != 0 and value > threshold:
                    count += 1.0
                    total += value - threshold
                    squares += (value - threshold) * (value - threshold)
    return count, total, squares


@kernel("void(float32[:, :, :], uint8[:, :, :], float32, float32, float32, int64[::1])")
def count_even(values: Values, mask: Mask, threshold: float, cut: float, most: float, counts: Counts) -> None:
    """Add each value inside `mask` between `threshold` and `cut` that differs by less than `most` from its neighbours
    before it on the last two axes to its bin of `counts`, which parts that range."""
    scale = np.float32(counts.size) / (cut - threshold)
    for first in range(values.shape[0]):
        for second in range(1, values.shape[1]):
            for third in range(1, values.shape[2]):
                value = values[first, second, third]
                if mask[first, second, third] == 0 or not threshold < value < cut:
                    continue
                if abs(value - values[first, second - 1, third]) >= most:
                    continue
                if abs(value - values[first, second, third - 1]) < most:
                    counts[min(int((value - threshold) * scale), counts.size - 1)] += 1


@kernel("void(float32[:, :, :], float32, float32, float32, float32)")
def scale_and_clip(values: Values, centre: float, factor: float, low: float, high: float) -> None:
    """Make each value (value - centre) * factor, clipped to low..high, in place."""
    for first in range(values.shape[0]):
        for second in range(values.shape[1]):
            for third in range(values.shape[2]):
                value = (values[first, second, third] - centre) * factor
                value = low if value < low else value
                values[first, second, third] = high if value > high else value
