"""Non-local means: each voxel becomes the mean of those in a window whose surroundings look like its own."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from wetread_preprocess.volumes.non_local_means_kernels import denoise_slab
from wetread_preprocess.volumes.stack import FloatPlane
from wetread_preprocess.volumes.steps import Denoise

_SLAB = 8
"""Planes that are done at once in 3D: whatever the number of threads, so that the answer is the same."""
_TILE_3D = (32, 256)
_TILE_2D = (64, 256)
"""Rows and columns at most: with its margins and two sums of its size a tile stays in a core's own cache."""


def non_local_means(planes: Sequence[FloatPlane], step: Denoise, sigma: float, threads: int) -> list[FloatPlane]:
    """Give new planes, float32 [rows, columns] each, without noise of deviation `sigma`.

    A. Buades, B. Coll, J.-M. Morel, A non-local algorithm for image denoising (CVPR 2005), with patches that weigh
    evenly: the weight of a voxel in the search window is exp(-max(d - 2 sigma^2, 0) / h^2), d the mean squared
    difference of the two patches and h = strength * sigma; below exp(-5) it is 0. Borders are mirrored. Sums of a
    pair's patches are made once for both of its ends (J. Darbon et al., ISBI 2008). scikit-image's `fast_mode` means
    the same and compares patches one voxel shorter along each axis, of which it still takes the longer one's mean; of
    blurred edges and noise this one leaves less. The same numbers come out whatever
    the number of threads. 3D where the step says so and there is more than one plane.
    """
    deep = step.planes == 3 and len(planes) > 1
    search = np.array([step.search // 2] * 3) * [deep, 1, 1]
    patch = np.array([step.patch // 2] * 3) * [deep, 1, 1]
    count = len(planes)
    around = np.pad(np.arange(count), int(search[0] + patch[0]), mode="reflect")
    slab = _SLAB if deep else 1
    h = step.strength * sigma
    voxels = float(np.prod(2 * patch + 1))

    def run(first: int) -> npt.NDArray[np.float32]:
        last = min(first + slab, count)
        chosen = around[first : last + 2 * int(search[0] + patch[0])]
        sides = [(int(margin), int(margin)) for margin in (search + patch)[1:]]
        padded = np.stack([np.pad(planes[int(n)], sides, mode="reflect") for n in chosen])
        out = np.empty((last - first, *planes[0].shape), np.float32)
        tile = np.array(_TILE_3D if deep else _TILE_2D)
        denoise_slab(padded, out, tile, search, patch, 1.0 / (voxels * h * h), 2.0 * sigma * sigma / (h * h))
        return out

    starts = range(0, count, slab)
    if threads == 1:
        return [plane for first in starts for plane in run(first)]
    with ThreadPoolExecutor(threads) as pool:
        return [plane for out in pool.map(run, starts) for plane in out]
