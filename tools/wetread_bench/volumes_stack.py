"""A series of the bench as every way of resampling takes it: our stack, numpy's array, SimpleITK's image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from wetread_preprocess.recipe import DecodeLimits
from wetread_preprocess.sandbox import Sandbox
from wetread_preprocess.volumes.geometry import source_affine
from wetread_preprocess.volumes.grid import Grid
from wetread_preprocess.volumes.recipe import SeriesRules
from wetread_preprocess.volumes.resample import target_grid
from wetread_preprocess.volumes.series import read_series

from wetread_bench.volumes_inputs import series_files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from wetread_preprocess.volumes.stack import Series, Stack

Values = npt.NDArray[np.float32]


def read_files(folder: Path) -> list[npt.NDArray[np.uint8]]:
    """The bytes of a series' files."""
    return [np.fromfile(file, np.uint8) for file in series_files(folder)]


def read_whole(folder: Path, modality: str) -> Series:
    """Read a series as a pipeline does."""
    limits = DecodeLimits()
    with Sandbox(limits) as sandbox:
        return read_series(read_files(folder), SeriesRules(), limits, sandbox, frozenset({modality}))


@dataclass(frozen=True)
class Source:
    """A stack without padding rules, and the grid of about 1 mm on it that all ways share.

    The spacing is the extent over the number of new voxels, so that `scipy.ndimage.zoom` and torch, which know only
    sizes, sample the very same places as SimpleITK, which knows millimetres.
    """

    stack: Stack
    affine: npt.NDArray[np.float64]
    """Of the stack: slice, row, column -> mm."""
    grid: Grid

    @classmethod
    def of(cls, series: Series, spacing_mm: float = 1.0) -> Source:
        """Of a series without tilt and with even distances."""
        stack = replace(series.stack, padding=None, floor=None)
        affine = source_affine(series)
        held = Grid(stack.shape, affine)
        extents = [count * spacing for count, spacing in zip(stack.shape, held.spacing_mm, strict=True)]
        first, second, third = (extent / max(1, round(extent / spacing_mm)) for extent in extents)
        return cls(stack, affine, target_grid(stack, (first, second, third), held.orientation))

    @cached_property
    def values(self) -> npt.NDArray[np.int16]:
        """[slices, rows, columns] as stored, in one piece."""
        return np.ascontiguousarray(np.stack([one.pixels for one in self.stack.slices]))

    @property
    def factors(self) -> Sequence[float]:
        """Old voxels in a new one along each axis."""
        return [n / m for n, m in zip(self.stack.shape, self.grid.shape, strict=True)]

    def real(self, stored: Values) -> Values:
        """Real values of stored ones, which the other ways resample."""
        first = self.stack.slices[0]
        return stored * np.float32(first.slope) + np.float32(first.intercept)

    def image(self) -> Any:
        """SimpleITK's image of the stored values, where they lie in the patient."""
        import SimpleITK as sitk  # noqa: N813, PLC0415  # the name all its users know

        image = sitk.GetImageFromArray(self.values)
        held = Grid(self.stack.shape, self.affine)
        image.SetSpacing(held.spacing_mm[::-1])
        image.SetOrigin(self.affine[:3, 3].tolist())
        image.SetDirection(_directions(held))
        return image

    def like(self, resampler: Any) -> Any:
        """Set a SimpleITK resampler to the shared grid."""
        set_grid(resampler, self.grid)
        return resampler

    def inner(self, margin: int) -> tuple[slice, slice, slice]:
        """The new voxels that lie `margin` old ones or more away from the outermost centres."""
        found = []
        for factor, new, old in zip(self.factors, self.grid.shape, self.stack.shape, strict=True):
            places = (np.arange(new) + 0.5) * factor - 0.5
            within = np.flatnonzero((places >= margin) & (places <= old - 1 - margin))
            found.append(slice(int(within[0]), int(within[-1]) + 1) if within.size else slice(new // 2, new // 2 + 1))
        first, second, third = found
        return first, second, third


def as_values(made: object) -> Values:
    """Give what a way has made as an array that lives by itself; SimpleITK's images are copied, which no clock sees."""
    if isinstance(made, np.ndarray):
        return made
    import SimpleITK as sitk  # noqa: N813, PLC0415

    values: Values = sitk.GetArrayFromImage(made)
    return values


def set_grid(resampler: Any, grid: Grid) -> None:
    """Tell a SimpleITK resampler where to sample."""
    resampler.SetSize([int(side) for side in grid.shape[::-1]])
    resampler.SetOutputSpacing([float(spacing) for spacing in grid.spacing_mm[::-1]])
    resampler.SetOutputOrigin([float(place) for place in grid.affine[:3, 3]])
    resampler.SetOutputDirection(_directions(grid))


def _directions(grid: Grid) -> list[float]:
    """Unit vectors of the array's axes as ITK wants them: last axis first, a column each."""
    columns = grid.affine[:3, :3] / np.array(grid.spacing_mm)
    return [float(value) for value in columns[:, ::-1].ravel()]
