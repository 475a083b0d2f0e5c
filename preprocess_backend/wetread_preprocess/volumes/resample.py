"""Resampling of a stack to a grid along its own axes: linear or B-spline, with or without anti-aliasing."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from wetread_preprocess.volumes.grid import Grid
from wetread_preprocess.volumes.placement import Placement, inside, place, target_grid
from wetread_preprocess.volumes.planes import BLOCK, KINDS, LEVELS, Four, tile_of_columns, tile_of_planes
from wetread_preprocess.volumes.stack import Stack, Vector
from wetread_preprocess.volumes.steps import Resample
from wetread_preprocess.volumes.taps import Taps, taps_at

__all__ = ["Finish", "inside", "resample", "target_grid"]

Floats = npt.NDArray[np.float32]
Rows = tuple[int, int]

_PLANE_BYTES = 64 * 2**10
"""Of a tile's part of one plane: two of them and a row stay in a core's nearest caches."""
_TURNED_BYTES = 256 * 2**10
"""The same where the rows' index is the volume's last axis: the runs that reach the volume are as long as a tile."""
_STACK_BYTES = 2 * 2**20
"""Of a tile's part of all slices: with fewer rows at a time, the walk over all files' pages costs more."""
_SAME_MM = 1e-6


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


def resample(
    stack: Stack, grid: Grid, step: Resample, *, out: Floats, threads: int = 1, finish: Finish | None = None
) -> None:
    """Write the stack's values on `grid` to `out`, float32 of the grid's shape, its last axis without gaps.

    Real values, those of padding and below the floor raised to it, are interpolated in each slice where it lies and
    then along the normal. Within the outer half of the outermost voxels their values go on; beyond, the floor stands,
    or 0. `finish` is done last, in the same pass. Not one bit depends on `threads`.

    Raises:
        ValueError: the grid's axes are not the stack's own; `out` does not fit; slices unlike each other, or of a type
            that `Slice` does not name.
    """
    if out.shape != grid.shape or out.strides[-1] != out.itemsize:
        raise ValueError(f"out is {out.shape} in steps of {out.strides} bytes, not {grid.shape} with a dense last axis")
    placement, finish = place(stack, grid), finish or Finish()
    view = out.transpose(placement.axes)
    _fill_from(stack, placement, step, view, finish, threads)
    _fill_outside(placement, view, stack.floor or 0.0, finish)


def _fill_from(stack: Stack, placement: Placement, step: Resample, view: Floats, finish: Finish, threads: int) -> None:
    places = list(placement.places_mm)
    for axis, values in enumerate(places):
        if placement.axes[axis] != 2 and len(values) > 1 and values[1] < values[0]:
            view, places[axis] = np.flip(view, axis), values[::-1]  # new planes follow each other as the slices do
    slices = _pixels(stack)
    normal = taps_at(places[0], stack.distances_mm, placement.spacing_mm[0], step.interpolation, step.anti_alias)
    down, across = (
        _in_plane_taps(stack, places[1 + axis], placement.spacing_mm[1 + axis], axis, step) for axis in range(2)
    )
    work = _Work(stack, slices, normal, down, across, finish, view, placement.axes.index(2))
    ranges = work.ranges()
    if threads == 1 or len(ranges) == 1:
        for rows in ranges:
            work.do(rows)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work.do, ranges))


def _pixels(stack: Stack) -> list[npt.NDArray[np.generic]]:
    """Give each slice's pixels, rows without gaps, in this machine's byte order: the very ones, where they are so."""
    slices = [np.ascontiguousarray(one.pixels, one.pixels.dtype.newbyteorder("=")) for one in stack.slices]
    kinds = {(each.dtype.name, each.shape) for each in slices}
    if len(kinds) > 1 or slices[0].dtype.name not in KINDS:  # they are walked by address
        raise ValueError(f"slices are of {sorted(kinds)}, not all of one size and one of {', '.join(KINDS)}")
    return slices


def _in_plane_taps(stack: Stack, places_mm: Vector, spacing_mm: float, axis: int, step: Resample) -> Taps:
    """Give one table for all slices, or one each where they are shifted against each other."""
    shifts = stack.shifts_mm[:, axis]
    shifts = shifts[:1] if np.ptp(shifts) < _SAME_MM else shifts
    samples = np.arange(stack.shape[1 + axis]) * stack.pixel_spacing_mm[axis]
    tables = [taps_at(places_mm - shift, samples, spacing_mm, step.interpolation, step.anti_alias) for shift in shifts]
    taps = max(each.weights.shape[1] for each in tables)
    tables = [each.widened(taps, len(samples)) for each in tables]
    return Taps(np.stack([each.start for each in tables]), np.stack([each.weights for each in tables]))


def _fill_outside(placement: Placement, view: Floats, value: float, finish: Finish) -> None:
    normal, rows, columns = placement.held
    filled = np.array([value], np.float32)
    finish.apply(filled)
    for new in np.flatnonzero(~(normal & rows.all(axis=1) & columns.all(axis=1))):
        if not normal[new]:
            view[new] = filled[0]
        view[new][~rows[new]] = filled[0]
        view[new][:, ~columns[new]] = filled[0]


@dataclass(frozen=True)
class _Work:
    """What the threads share."""

    stack: Stack
    slices: list[npt.NDArray[np.generic]]
    normal: Taps
    down: Taps
    across: Taps
    finish: Finish
    view: Floats
    """The volume: new planes, rows, columns."""
    last: int
    """Which of them is the last axis of the volume in memory."""

    def ranges(self) -> list[Rows]:
        """Cut the rows into tiles: by the volume alone, so that threads change no bit of it."""
        _, height, width = self.view.shape
        if self.last == 0:
            step = max(1, _STACK_BYTES // (4 * width * len(self.slices)))
        else:
            step = max(1, (_TURNED_BYTES if self.last == 1 else _PLANE_BYTES) // (4 * width))
        return [(top, min(top + step, height)) for top in range(0, height, step)]

    def do(self, rows: Rows) -> None:
        """Fill one tile."""
        addresses = np.array([each.ctypes.data for each in self.slices], np.int64)
        real = np.array([(one.slope, one.intercept) for one in self.stack.slices], np.float32)
        kind, pitch = KINDS.index(self.slices[0].dtype.name), self.slices[0].strides[0]
        source = (kind, addresses, pitch, real, _rule(self.stack), self.stack.shape[2])
        down, across, normal = self.down.table, self.across.table, self.normal.table
        finish = (float(self.finish.low), float(self.finish.high), float(self.finish.scale), float(self.finish.offset))
        steps = [step // 4 for step in self.view.strides]
        kept = len(self.slices) if self.last == 0 else normal[4] + 1
        line = np.empty(max(16 * (self.stack.shape[2] + 8) + 9 * (self.view.shape[2] + 8), BLOCK * LEVELS), np.float32)
        planes = np.empty(kept * (rows[1] - rows[0]) * self.view.shape[2], np.float32)
        scratch = (line.ctypes.data, planes.ctypes.data)
        start = self.view[:, rows[0] :].ctypes.data
        if self.last == 0:
            tile_of_columns(source, down, across, normal, rows, scratch, (start, steps[1], steps[2], finish))
            return
        target = (start, steps[0], steps[2 if self.last == 1 else 1], finish)
        tile_of_planes(source, down, across, normal, rows, self.last == 1, scratch, target)


def _rule(stack: Stack) -> Four:
    """Give the floor, the lowest and highest stored value of padding, and its real value."""
    floor = -np.inf if stack.floor is None else stack.floor
    low, high = stack.padding or (np.inf, -np.inf)
    return float(floor), float(low), float(high), float(stack.floor or 0)
