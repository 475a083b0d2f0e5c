"""Where a new grid lies in a stack, along its own axes: each voxel from the first pixel of the first slice."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wetread_preprocess.volumes.grid import LETTERS, Grid, Triple, axes_of
from wetread_preprocess.volumes.stack import Stack, Vector

_SLACK_MM = 1e-6
_Held = npt.NDArray[np.bool_]


def target_grid(stack: Stack, spacing_mm: tuple[float, float, float], orientation: str) -> Grid:
    """Give the grid of `spacing_mm` that covers the stack, centred on it, along the stack's own axes.

    `spacing_mm`: along the axes of `orientation` (`VolumeRecipe.orientation`). An axis gets as many voxels as come
    nearest to its extent, between the outer edges of the outermost voxels; a tilted stack's extent is that of all its
    slices.
    """
    directions = _directions(stack)
    frame = np.eye(4)
    frame[:3, :3] = directions
    nearest = axes_of(frame)
    extents = _extents(stack, spacing_mm)
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


@dataclass(frozen=True)
class Placement:
    """How a grid lies in a stack."""

    axes: Triple
    """The grid's axis along the normal, down the columns, along the rows."""
    places_mm: tuple[Vector, Vector, Vector]
    """Of the voxels along each of these, from the first slice's first pixel's centre."""
    spacing_mm: tuple[float, float, float]
    """Between them; of a single one, too."""
    held: tuple[_Held, _Held, _Held]
    """Which lie between the outer edges of the outermost voxels: [s] of the new planes, [s, r] of their rows, [s, c] of
    their columns; between two slices, of a slice that lies between them."""


def place(stack: Stack, grid: Grid) -> Placement:
    """Find where `grid` lies.

    Raises:
        ValueError: its axes are not the stack's own.
    """
    frame = _directions(stack).T
    steps = frame @ grid.affine[:3, :3]
    origin = frame @ (grid.affine[:3, 3] - stack.positions_mm[0])
    first, second, third = np.abs(steps).argmax(axis=1).tolist()
    along = np.array([steps[n, axis] for n, axis in enumerate((first, second, third))])
    if {first, second, third} != {0, 1, 2} or not np.allclose(np.abs(steps).sum(axis=1), np.abs(along), rtol=1e-4):
        raise ValueError("the grid's axes are not the stack's")
    normal, down, across = (
        origin[n] + along[n] * np.arange(grid.shape[axis]) for n, axis in enumerate((first, second, third))
    )
    (low, high), _, _ = _extents(stack, grid.spacing_mm)
    held = (normal >= low - _SLACK_MM) & (normal <= high + _SLACK_MM)
    rows, columns = (_held(stack, normal, places, axis) for axis, places in enumerate((down, across)))
    spacing = grid.spacing_mm
    between = (spacing[first], spacing[second], spacing[third])
    return Placement((first, second, third), (normal, down, across), between, (held, rows, columns))


def inside(stack: Stack, grid: Grid) -> npt.NDArray[np.uint8] | None:
    """Give uint8 of the grid's shape: 1 where a voxel's centre lies in the stack; None: all do."""
    placement = place(stack, grid)
    normal, rows, columns = placement.held
    if normal.all() and rows.all() and columns.all():
        return None
    held = normal[:, None, None] & rows[:, :, None] & columns[:, None, :]
    return np.ascontiguousarray(held.transpose(np.argsort(placement.axes)), np.uint8)


def _directions(stack: Stack) -> Vector:
    """Give [3, 3], a column each: the normal, where rows follow each other, where columns do."""
    return np.stack([stack.normal, np.array(stack.column_direction), np.array(stack.row_direction)], axis=1)


def _extents(stack: Stack, thickness_mm: tuple[float, float, float]) -> list[tuple[float, float]]:
    """Give low and high edge along each of `_directions`, in mm from the first slice's first pixel's centre.

    `thickness_mm`: of a single slice, the largest of these.
    """
    distances, shifts = stack.distances_mm, stack.shifts_mm
    _, rows, columns = stack.shape
    down, across = stack.pixel_spacing_mm
    gaps = np.diff(distances) if len(distances) > 1 else np.array([max(thickness_mm)])
    return [
        (float(distances[0] - gaps[0] / 2), float(distances[-1] + gaps[-1] / 2)),
        (float(shifts[:, 0].min() - down / 2), float(shifts[:, 0].max() + (rows - 0.5) * down)),
        (float(shifts[:, 1].min() - across / 2), float(shifts[:, 1].max() + (columns - 0.5) * across)),
    ]


def _held(stack: Stack, normal_mm: Vector, places_mm: Vector, axis: int) -> _Held:
    shifts = np.interp(normal_mm, stack.distances_mm, stack.shifts_mm[:, axis])
    spacing, count = stack.pixel_spacing_mm[axis], stack.shape[1 + axis]
    from_edge = places_mm[None, :] - shifts[:, None] + spacing / 2
    return np.asarray((from_edge >= -_SLACK_MM) & (from_edge <= count * spacing + _SLACK_MM))
