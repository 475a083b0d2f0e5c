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

    A. Buades, B. Coll, J.-M. Morel, A non-local algorithm for image denoising (CVPR 2005): the weight of a voxel in
    the search window is exp(-max(d - 2 sigma^2, 0) / h^2), d the mean squared difference of the two patches and
    h = strength * sigma; below exp(-5) it is 0. In that mean the voxels of a patch weigh by a Gaussian of a quarter of
    its reach on both sides (`gaussian`), which is scikit-image's `fast_mode=False`, or evenly (`even`). Its
    `fast_mode=True` means the latter, and compares patches one voxel shorter along each axis, of which it still takes
    the longer one's mean. Borders are mirrored. Weights multiply over the axes, so that sums over a pair's patches are
    made axis by axis, and once for both of its ends (after J. Darbon et al., ISBI 2008). The same numbers come out
    whatever the number of threads. 3D where the step says so and there is more than one plane.
    """
    deep = step.planes == 3 and len(planes) > 1
    search = np.array([step.search // 2] * 3) * [deep, 1, 1]
    patch = np.array([step.patch // 2] * 3) * [deep, 1, 1]
    shares = np.stack([_shares(int(reach), step) for reach in patch])
    count = len(planes)
    around = np.pad(np.arange(count), int(search[0] + patch[0]), mode="reflect")
    slab = _SLAB if deep else 1
    h = step.strength * sigma

    def run(first: int) -> npt.NDArray[np.float32]:
        last = min(first + slab, count)
        chosen = around[first : last + 2 * int(search[0] + patch[0])]
        sides = [(int(margin), int(margin)) for margin in (search + patch)[1:]]
        padded = np.stack([np.pad(planes[int(n)], sides, mode="reflect") for n in chosen])
        out = np.empty((last - first, *planes[0].shape), np.float32)
        tile = np.array(_TILE_3D if deep else _TILE_2D)
        denoise_slab(padded, out, tile, search, patch, shares, 1.0 / (h * h), 2.0 * sigma * sigma / (h * h))
        return out

    starts = range(0, count, slab)
    if threads == 1:
        return [plane for first in starts for plane in run(first)]
    with ThreadPoolExecutor(threads) as pool:
        return [plane for out in pool.map(run, starts) for plane in out]


def _shares(reach: int, step: Denoise) -> FloatPlane:
    """Give what the layers of a patch count along one axis, the middle's first; `reach` on both sides."""
    away = np.arange(step.patch // 2 + 1)
    width = max((step.patch - 1) / 4, 1e-6)
    shares = np.exp(-(away**2) / (2 * width**2)) if step.weights == "gaussian" else np.ones(len(away))
    shares[reach + 1 :] = 0.0
    return np.asarray(shares / (shares[0] + 2 * shares[1:].sum()), np.float32)
