"""The cubic B-spline of a bias field: from a few samples of it to every voxel, one axis at a time."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
_ORDER = 3


def basis(count: int, spans: int) -> Matrix:
    """Give float64 [count, spans + 3]: the cubic B-splines of `spans` even pieces at `count` even places, both ends
    included."""
    at = np.linspace(0.0, spans, count) if count > 1 else np.zeros(1)
    piece = np.minimum(at.astype(np.int64), spans - 1)
    part = at - piece
    weights = np.stack(
        [
            (1 - part) ** 3,
            3 * part**3 - 6 * part**2 + 4,
            -3 * part**3 + 3 * part**2 + 3 * part + 1,
            part**3,
        ],
        axis=1,
    )
    matrix = np.zeros((count, spans + _ORDER))
    for place in range(_ORDER + 1):
        matrix[np.arange(count), piece + place] = weights[:, place] / 6.0
    return matrix


def samples_for(spans: int) -> int:
    """How many even samples of a spline of `spans` pieces give all of it back with room to spare."""
    return 2 * (spans + _ORDER) + 1


def from_samples(count: int, spans: int) -> Matrix:
    """Give float64 [count, samples]: even samples of such a spline -> its values at `count` even places."""
    return np.asarray(basis(count, spans) @ np.linalg.pinv(basis(samples_for(spans), spans)))


def divide_by_field(
    values: npt.NDArray[np.float32], samples: npt.NDArray[np.float32], spans: Sequence[int], threads: int
) -> None:
    """Divide `values` float32 [a, b, c] in place by exp of the spline of which `samples` float32 [m, n, o] are even
    samples; a plane at a time, the same numbers whatever the number of threads."""
    first, second, third = (
        from_samples(side, pieces).astype(np.float32) for side, pieces in zip(values.shape, spans, strict=True)
    )
    # Across: the two axes within a plane on the few sampled planes, so that a plane costs one product of small depth.
    along = np.einsum("mno,co->mnc", samples, third)

    def run(planes: range) -> None:
        field = np.empty(values.shape[1:], np.float32)
        for plane in planes:
            lines = np.tensordot(first[plane], along, axes=1)
            np.matmul(second, lines, out=field)
            np.negative(field, out=field)
            np.exp(field, out=field)
            np.multiply(values[plane], field, out=values[plane])

    if threads == 1:
        run(range(values.shape[0]))
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, (range(start, values.shape[0], threads) for start in range(threads))))
