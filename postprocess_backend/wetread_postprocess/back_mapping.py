"""Labels of a volume brought back to the source's own pixels: each takes its nearest voxel.

World = the slice's first pixel + row * spacing * column direction + column * spacing * row direction; voxel = the
inverse of the volume's affine applied to it, rounded. Outside the volume lies label 0.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from wetread_postprocess.notes import InvalidGeometry

Labels = npt.NDArray[np.uint8]
_Index = npt.NDArray[np.intp]
_Points = npt.NDArray[np.float64]

TIE = 1e-6
"""Voxels. A pixel half-way between two voxels takes the higher one, whichever way the last digits fell."""
_STRAIGHT = 1e-9
"""Voxels over the whole extent by which a grid may be askew and still count as parallel: far below TIE."""


@dataclass(frozen=True)
class Source:
    """The series' pixels in the patient, and the volume's voxels."""

    positions_mm: _Points
    """[slices, 3]: centre of each slice's first pixel."""
    step_mm: _Points
    """[2, 3]: from a row to the next, from a column to the next."""
    shape: tuple[int, int]
    """Rows, columns."""
    volume_shape: tuple[int, int, int]
    """Without padding."""
    to_voxels: _Points
    """[4, 4]: mm -> voxel."""

    @classmethod
    def of(cls, geometry: dict[str, Any]) -> Self:
        """Read what preprocessing wrote in GEOMETRY; InvalidGeometry where something is missing or of another form."""
        try:
            positions = np.asarray(geometry["positions_mm"], np.float64).reshape(-1, 3)
            between_rows, between_columns = map(float, geometry["pixel_spacing_mm"])
            down = np.asarray(geometry["column_direction"], np.float64).reshape(3) * between_rows
            along = np.asarray(geometry["row_direction"], np.float64).reshape(3) * between_columns
            first, second, third = map(int, geometry["volume"]["shape"])
            affine = np.asarray(geometry["volume"]["affine"], np.float64).reshape(4, 4)
            to_voxels = np.linalg.inv(affine)
            rows, columns = int(geometry["rows"]), int(geometry["columns"])
        except (KeyError, TypeError, ValueError, np.linalg.LinAlgError) as error:
            raise InvalidGeometry("GEOMETRY is not what preprocessing writes of a series") from error
        return cls(positions, np.stack([down, along]), (rows, columns), (first, second, third), to_voxels)

    @property
    def starts(self) -> _Points:
        """[slices, 3]: where each slice's first pixel lies, in voxels."""
        return np.asarray(self.positions_mm @ self.to_voxels[:3, :3].T + self.to_voxels[:3, 3])

    @property
    def steps(self) -> _Points:
        """[2, 3]: a row's and a column's step, in voxels."""
        return np.asarray(self.step_mm @ self.to_voxels[:3, :3].T)


def to_source(labels: Labels, source: Source) -> Labels:
    """Give labels [slices, rows, columns] of the source's pixels; `labels`: [a, b, c], the volume without padding."""
    axes = _parallel_axes(source)
    return _pixel_by_pixel(labels, source) if axes is None else _axis_by_axis(labels, source, axes)


def _parallel_axes(source: Source) -> tuple[int, int, int] | None:
    """Give the volume's axes along the source's slices, rows and columns; None where they are not parallel."""
    steps = source.steps
    down, along = (int(np.argmax(np.abs(step))) for step in steps)
    if down == along:
        return None
    askew = np.abs(steps)
    askew[0, down] = askew[1, along] = 0.0
    if (askew * np.array([source.shape]).T).max() > _STRAIGHT:
        return None
    return 3 - down - along, down, along


def _axis_by_axis(labels: Labels, source: Source, axes: tuple[int, int, int]) -> Labels:
    """Every slice lies in one layer of voxels, and its rows and columns follow the layer's own."""
    layers = np.ascontiguousarray(labels.transpose(axes))
    across, down, along = axes
    starts, steps = source.starts, source.steps
    layer_of = _nearest(starts[:, across])
    rows = _nearest(starts[:, down, None] + steps[0, down] * np.arange(source.shape[0]))
    columns = _nearest(starts[:, along, None] + steps[1, along] * np.arange(source.shape[1]))
    answer = np.zeros((len(starts), *source.shape), np.uint8)
    index = np.concatenate([layer_of[:, None], rows, columns], axis=1)
    again = np.append(False, (index[1:] == index[:-1]).all(axis=1))  # where slices lie closer than voxels
    for place, layer in enumerate(layer_of):
        if again[place]:
            answer[place] = answer[place - 1]
        elif 0 <= layer < len(layers):
            answer[place] = _plane(layers[layer], rows[place], columns[place])
    return answer


def _plane(layer: Labels, rows: _Index, columns: _Index) -> Labels:
    """Give `layer` at every pair of `rows` and `columns`, 0 beyond it."""
    plane = np.zeros((rows.size, columns.size), np.uint8)
    down, along = (_span(index, size) for index, size in zip((rows, columns), layer.shape, strict=True))
    narrow = layer.take(columns[along], axis=1, mode="clip")  # of the layer's few rows, then whole rows
    plane[down, along] = narrow.take(rows[down], axis=0, mode="clip")
    return plane


def _pixel_by_pixel(labels: Labels, source: Source) -> Labels:
    starts, steps = source.starts, source.steps
    rows, columns = (np.arange(count) for count in source.shape)
    answer = np.zeros((len(starts), *source.shape), np.uint8)
    for start, pixels in zip(starts, answer, strict=True):
        index = [_nearest(start[axis] + steps[0, axis] * rows[:, None] + steps[1, axis] * columns) for axis in range(3)]
        inside = np.logical_and.reduce(
            [(each >= 0) & (each < size) for each, size in zip(index, labels.shape, strict=True)]
        )
        pixels[inside] = labels[tuple(each[inside] for each in index)]
    return answer


def _nearest(voxels: _Points) -> _Index:
    return np.asarray(np.floor(voxels + (0.5 + TIE)), np.intp)


def _span(index: _Index, size: int) -> slice:
    """Give the run of a monotonous `index` that lies in 0..size-1."""
    inside = np.flatnonzero((index >= 0) & (index < size))
    return slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else slice(0, 0)
