"""Resampling of a stack to a grid along its own axes: linear or B-spline, with or without anti-aliasing."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from wetread_preprocess.volumes.grid import LETTERS, Grid, Triple, axes_of
from wetread_preprocess.volumes.planes import KINDS, Box, Rule, tile_of_columns, tile_of_planes
from wetread_preprocess.volumes.stack import Stack, Vector
from wetread_preprocess.volumes.steps import Resample
from wetread_preprocess.volumes.taps import Taps, linear_taps

Floats = npt.NDArray[np.float32]

_PLANE_BYTES = 64 * 2**10
"""Of a tile's part of one plane: two of them and a row stay in a core's nearest caches."""
_STACK_BYTES = 512 * 2**10
"""Of a tile's part of all slices."""


@dataclass(frozen=True)
class Finish:
    """What is done to each new value last: clipped, then value * scale + offset."""

    low: float = -np.inf
    high: float = np.inf
    scale: float = 1.0
    offset: float = 0.0

    @classmethod
    def of(cls, low: float, high: float) -> Self:
        """Clip to low..high and bring it to 0..1."""
        return cls(low, high, 1 / (high - low), -low / (high - low))

    def apply(self, values: Floats) -> None:
        """Do it in place."""
        np.clip(values, self.low, self.high, out=values)
        np.multiply(values, np.float32(self.scale), out=values)
        np.add(values, np.float32(self.offset), out=values)


def target_grid(stack: Stack, spacing_mm: tuple[float, float, float], orientation: str) -> Grid:
    """Give the grid of `spacing_mm` that covers the stack, centred on it, along the stack's own axes.

    `spacing_mm`: along the axes of `orientation` (`VolumeRecipe.orientation`). An axis gets as many voxels as its
    extent, between the outer edges of the outermost voxels, comes nearest to; a tilted stack's extent is that of all
    its slices.
    """
    directions = _directions(stack)
    frame = np.eye(4)
    frame[:3, :3] = directions
    nearest = axes_of(frame)
    extents = _extents(stack)
    shape, affine = [], np.eye(4)
    affine[:3, 3] = stack.positions_mm[0]
    for axis, (letter, spacing) in enumerate(zip(orientation, spacing_mm, strict=True)):
        patient = next(n for n, pair in enumerate(LETTERS) if letter in pair)
        source = nearest.index(patient)
        low, high = extents[source]
        voxels = max(1, round((high - low) / spacing))
        wanted = 1.0 if LETTERS[patient][0] == letter else -1.0
        towards = wanted if directions[patient, source] >= 0 else -wanted
        shape.append(voxels)
        affine[:3, axis] = directions[:, source] * (towards * spacing)
        affine[:3, 3] += directions[:, source] * ((low + high) / 2 - towards * spacing * (voxels - 1) / 2)
    return Grid((shape[0], shape[1], shape[2]), affine)


def _directions(stack: Stack) -> Vector:
    """Give [3, 3], a column each: the normal, where rows follow each other, where columns do."""
    return np.stack([stack.normal, np.array(stack.column_direction), np.array(stack.row_direction)], axis=1)


def _extents(stack: Stack) -> list[tuple[float, float]]:
    """Give low and high edge along each of `_directions`, in mm from the first slice's first pixel's centre."""
    distances, shifts = stack.distances_mm, stack.shifts_mm
    _, rows, columns = stack.shape
    down, across = stack.pixel_spacing_mm
    before, after = (distances[1] - distances[0], distances[-1] - distances[-2]) if len(distances) > 1 else (1.0, 1.0)
    return [
        (float(distances[0] - before / 2), float(distances[-1] + after / 2)),
        (float(shifts[:, 0].min() - down / 2), float(shifts[:, 0].max() + (rows - 0.5) * down)),
        (float(shifts[:, 1].min() - across / 2), float(shifts[:, 1].max() + (columns - 0.5) * across)),
    ]


@dataclass(frozen=True)
class _Lie:
    """How a grid lies in a stack."""

    axes: Triple
    """The grid's axis along the normal, down the columns, along the rows."""
    places_mm: tuple[Vector, Vector, Vector]
    """Of the voxels along each of these, from the first slice's first pixel's centre."""


def _lie(stack: Stack, grid: Grid) -> _Lie:
    frame = _directions(stack).T
    steps = frame @ grid.affine[:3, :3]
    origin = frame @ (grid.affine[:3, 3] - stack.positions_mm[0])
    axes = tuple(int(n) for n in np.abs(steps).argmax(axis=1))
    along = np.array([steps[n, axis] for n, axis in enumerate(axes)])
    if sorted(axes) != [0, 1, 2] or not np.allclose(np.abs(steps).sum(axis=1), np.abs(along), rtol=1e-4):
        raise ValueError("the grid's axes are not the stack's")
    first, second, third = (origin[n] + along[n] * np.arange(grid.shape[axis]) for n, axis in enumerate(axes))
    return _Lie((axes[0], axes[1], axes[2]), (first, second, third))


def inside(stack: Stack, grid: Grid) -> npt.NDArray[np.uint8] | None:
    """Give uint8 of the grid's shape: 1 where a voxel's centre lies in the stack; None: all do."""
    lie = _lie(stack, grid)
    normal, rows, columns = _within(stack, lie)
    if normal.all() and rows.all() and columns.all():
        return None
    held = normal[:, None, None] & rows[:, :, None] & columns[:, None, :]
    return np.ascontiguousarray(held.transpose(np.argsort(lie.axes)), np.uint8)


def _within(stack: Stack, lie: _Lie) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Say what lies between the outer edges: along the normal [s], down [s, r] and across [s, c] each new plane."""
    normal, down, across = lie.places_mm
    (low, high), _, _ = _extents(stack)
    _, rows, columns = stack.shape
    held = []
    for places, axis, count in ((down, 0, rows), (across, 1, columns)):
        shift = np.interp(normal, stack.distances_mm, stack.shifts_mm[:, axis])
        index = (places[None, :] - shift[:, None]) / stack.pixel_spacing_mm[axis]
        held.append((index >= -0.5 - 1e-6) & (index <= count - 0.5 + 1e-6))
    return (normal >= low - 1e-6) & (normal <= high + 1e-6), held[0], held[1]


def resample(
    stack: Stack, grid: Grid, step: Resample, *, out: Floats, threads: int = 1, finish: Finish | None = None
) -> None:
    """Write the stack's values on `grid` to `out`, float32 of the grid's shape, its last axis without gaps."""
    lie = _lie(stack, grid)
    view = out.transpose(lie.axes)
    places = list(lie.places_mm)
    for axis in range(3):
        if lie.axes[axis] != 2 and len(places[axis]) > 1 and places[axis][1] < places[axis][0]:
            view, places[axis] = np.flip(view, axis), places[axis][::-1]  # planes are met as the slices follow
    slices = [np.ascontiguousarray(one.pixels) for one in stack.slices]
    normal = linear_taps(np.interp(places[0], stack.distances_mm, np.arange(len(slices))), len(slices))
    down, across = (_in_plane_taps(stack, places[1 + axis], axis) for axis in range(2))
    finish = finish or Finish()
    task = _Task(stack, slices, normal, down, across, finish, view, swapped=lie.axes[1] == 2, upright=lie.axes[0] == 2)
    task.run(threads)


def _in_plane_taps(stack: Stack, places_mm: Vector, axis: int) -> Taps:
    shifts = stack.shifts_mm[:, axis]
    shifts = shifts[:1] if np.ptp(shifts) < 1e-6 else shifts
    each = [linear_taps((places_mm - shift) / stack.pixel_spacing_mm[axis], stack.shape[1 + axis]) for shift in shifts]
    return Taps(np.stack([one.start for one in each]), np.stack([one.weights for one in each]))


@dataclass(frozen=True)
class _Task:
    stack: Stack
    slices: list[npt.NDArray[np.generic]]
    normal: Taps
    down: Taps
    across: Taps
    finish: Finish
    view: Floats
    swapped: bool
    upright: bool

    def run(self, threads: int) -> None:
        tiles = self._tiles()
        work = self._work()
        if threads == 1 or len(tiles) == 1:
            for tile in tiles:
                work(tile)
            return
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, tiles))

    def _tiles(self) -> list[Box]:
        _, height, width = self.view.shape
        if self.swapped:
            step = max(1, _PLANE_BYTES // (4 * height))
            return [(0, height, left, min(left + step, width)) for left in range(0, width, step)]
        bytes_a_row = 4 * width * (len(self.slices) if self.upright else 1)
        step = max(1, (_STACK_BYTES if self.upright else _PLANE_BYTES) // bytes_a_row)
        return [(top, min(top + step, height), 0, width) for top in range(0, height, step)]

    def _work(self) -> Callable[[Box], None]:
        addresses = np.array([each.ctypes.data for each in self.slices], np.int64)
        real = np.array([(one.slope, one.intercept) for one in self.stack.slices], np.float32)
        kind = KINDS.index(self.slices[0].dtype.name)
        pitch = self.slices[0].strides[0]
        steps = tuple(step // 4 for step in self.view.strides)
        kept = len(self.slices) if self.upright else self.normal.weights.shape[1]
        longest = max(self.stack.shape[2], *self.view.shape[1:], 8 * self.view.shape[0] if self.upright else 0)
        rule, finish = _rule(self.stack), self.finish

        def work(box: Box) -> None:
            line = np.empty(longest, np.float32)
            planes = np.empty(kept * (box[1] - box[0]) * (box[3] - box[2]), np.float32)
            part = self.view[:, box[0] :, box[2] :]
            over = steps[1:] if self.upright else (steps[0], steps[2] if self.swapped else steps[1])
            (tile_of_columns if self.upright else tile_of_planes)(
                kind, addresses, pitch, real, rule, self.down.start, self.down.weights, self.across.start,
                self.across.weights, self.normal.start, self.normal.weights, box, self.swapped,
                (finish.low, finish.high, finish.scale, finish.offset), line.ctypes.data, planes.ctypes.data,
                part.ctypes.data, over,
            )  # fmt: skip

        return work


def _rule(stack: Stack) -> Rule:
    floor = -np.inf if stack.floor is None else stack.floor
    low, high = stack.padding or (np.inf, -np.inf)
    return floor, low, high, stack.floor or 0.0
