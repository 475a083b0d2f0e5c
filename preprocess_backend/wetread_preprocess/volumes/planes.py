"""The kernels of resampling: tile by tile, in the plane and along the normal, while all of it is in the cache.

Everything is walked by address (see `memory`). A tile is a range of rows and columns of the new plane; of every slice
that part is made (`in_plane`) into a plane of the scratch, and planes are blended along the normal into the volume.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from wetread_preprocess.volumes.compiled import kernel
from wetread_preprocess.volumes.memory import Sample, read, write

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float32]
Rule: TypeAlias = tuple[float, float, float, float]
"""What real values become: floor, lowest and highest stored padding, real value of padding."""
Box: TypeAlias = tuple[int, int, int, int]
"""First row and the one after the last, first column and the one after the last."""

KINDS = ("int16", "uint16", "uint8", "int8", "float32")
"""Pixel types; a kernel is told the place in this list."""


@kernel()
def real_value(stored: float, slope: float, intercept: float, rule: Rule) -> float:
    """Give a stored value's real one."""
    value = stored * slope + intercept
    value = rule[0] if value < rule[0] else value
    return value if (stored < rule[1]) | (stored > rule[2]) else rule[3]


@kernel()
def blend_rows(
    first: int, second: int, weight: float, span: tuple[int, int], real: tuple[float, float], rule: Rule, line: int,
    like: Sample,
) -> None:  # fmt: skip
    """Write to `line` what lies between two rows, from column span[0] to before span[1]."""
    for column in range(span[0], span[1]):
        one = real_value(np.float32(read(first, column, like)), real[0], real[1], rule)
        other = real_value(np.float32(read(second, column, like)), real[0], real[1], rule)
        write(line, column, one + (other - one) * weight)


@kernel()
def add_row(
    source: int, weight: float, fresh: bool, span: tuple[int, int], real: tuple[float, float], rule: Rule, line: int,
    like: Sample,
) -> None:  # fmt: skip
    """Add a row times `weight` to `line`, or set `line` to it where it is `fresh`."""
    if fresh:
        for column in range(span[0], span[1]):
            write(line, column, weight * real_value(np.float32(read(source, column, like)), real[0], real[1], rule))
    else:
        for column in range(span[0], span[1]):
            value = real_value(np.float32(read(source, column, like)), real[0], real[1], rule)
            write(line, column, read(line, column, np.float32(0)) + weight * value)


@kernel()
def make_line(
    pixels: int, pitch: int, start: int, weights: Floats, span: tuple[int, int], real: tuple[float, float], rule: Rule,
    line: int, like: Sample,
) -> None:  # fmt: skip
    """Write to `line` one new row between the slice's rows; `pitch`: bytes from row to row."""
    first = pixels + start * pitch
    if weights.shape[0] == 2:
        blend_rows(first, first + pitch, weights[1], span, real, rule, line, like)
    else:
        for tap in range(weights.shape[0]):
            add_row(first + tap * pitch, weights[tap], tap == 0, span, real, rule, line, like)


@kernel()
def line_of_kind(
    kind: int, pixels: int, pitch: int, start: int, weights: Floats, span: tuple[int, int], real: tuple[float, float],
    rule: Rule, line: int,
) -> None:  # fmt: skip
    """Do `make_line` for pixels of a type by its place in `KINDS`."""
    if kind == 0:
        make_line(pixels, pitch, start, weights, span, real, rule, line, np.int16(0))
    elif kind == 1:
        make_line(pixels, pitch, start, weights, span, real, rule, line, np.uint16(0))
    elif kind == 2:
        make_line(pixels, pitch, start, weights, span, real, rule, line, np.uint8(0))
    elif kind == 3:
        make_line(pixels, pitch, start, weights, span, real, rule, line, np.int8(0))
    else:
        make_line(pixels, pitch, start, weights, span, real, rule, line, np.float32(0))


@kernel()
def spread_line(line: int, starts: Ints, weights: Floats, columns: tuple[int, int], plane: int, step: int) -> None:
    """Write new columns from those of `line` to `plane`, `step` numbers apart."""
    if weights.shape[1] == 2:
        for column in range(columns[0], columns[1]):
            one = read(line, starts[column], np.float32(0))
            other = read(line, starts[column] + 1, np.float32(0))
            write(plane, (column - columns[0]) * step, one + (other - one) * weights[column, 1])
    else:
        for column in range(columns[0], columns[1]):
            value = np.float32(0)
            for tap in range(weights.shape[1]):
                value += weights[column, tap] * read(line, starts[column] + tap, np.float32(0))
            write(plane, (column - columns[0]) * step, value)


@kernel()
def in_plane(
    kind: int, pixels: int, pitch: int, real: tuple[float, float], rule: Rule, row_starts: Ints, row_weights: Floats,
    column_starts: Ints, column_weights: Floats, box: Box, line: int, plane: int, steps: tuple[int, int],
) -> None:  # fmt: skip
    """Make the part `box` of a slice's new plane; `steps`: from row to row and from column to column of `plane`."""
    taps = column_weights.shape[1]
    low = column_starts[box[2]]
    high = low
    for column in range(box[2], box[3]):
        low = min(low, column_starts[column])
        high = max(high, column_starts[column])
    for row in range(box[0], box[1]):
        line_of_kind(kind, pixels, pitch, row_starts[row], row_weights[row], (low, high + taps), real, rule, line)
        spread_line(
            line, column_starts, column_weights, (box[2], box[3]), plane + 4 * (row - box[0]) * steps[0], steps[1]
        )


@kernel()
def finished(value: float, finish: Rule) -> float:
    """Clip to finish[0]..finish[1], times finish[2], plus finish[3]."""
    value = finish[0] if value < finish[0] else value
    value = finish[1] if value > finish[1] else value
    return value * finish[2] + finish[3]


@kernel()
def blend_planes(
    planes: int, size: int, ring: int, start: int, weights: Floats, place: int, length: int, line: int
) -> None:
    """Write to `line` `length` numbers from `place` on, blended from planes start, start + 1, ... of a ring of `ring`."""
    taps = weights.shape[0]
    if taps == 2:
        first = planes + 4 * ((start % ring) * size + place)
        second = planes + 4 * (((start + 1) % ring) * size + place)
        for n in range(length):
            one = read(first, n, np.float32(0))
            write(line, n, one + (read(second, n, np.float32(0)) - one) * weights[1])
    else:
        for tap in range(taps):
            source = planes + 4 * (((start + tap) % ring) * size + place)
            if tap == 0:
                for n in range(length):
                    write(line, n, read(source, n, np.float32(0)) * weights[tap])
            else:
                for n in range(length):
                    write(line, n, read(line, n, np.float32(0)) + read(source, n, np.float32(0)) * weights[tap])


_SIGNATURE = (
    "void(int64, int64[::1], int64, float32[:, ::1], UniTuple(float32, 4), int64[:, ::1], float32[:, :, ::1], int64[:, ::1],"
    "float32[:, :, ::1], int64[::1], float32[:, ::1], UniTuple(int64, 4), boolean, UniTuple(float32, 4), int64,"
    "int64, int64, UniTuple(int64, 2))"
)


@kernel(_SIGNATURE)
def tile_of_planes(
    kind: int, slices: Ints, pitch: int, real: Floats, rule: Rule, row_starts: Ints, row_weights: Floats,
    column_starts: Ints, column_weights: Floats, starts: Ints, weights: Floats, box: Box, swapped: bool, finish: Rule,
    line: int, planes: int, out: int, steps: tuple[int, int],
) -> None:  # fmt: skip
    """Fill a tile of a volume whose last axis lies in the plane: along the columns' or, `swapped`, the rows' index.

    `starts` do not fall. `planes`: as many as there are taps. `steps`: of `out`, in numbers, from plane to plane and
    along the axis that is not the last.
    """
    height, width = box[1] - box[0], box[3] - box[2]
    across, along = (width, height) if swapped else (height, width)
    size = height * width
    ring = weights.shape[1]
    ready = 0
    for new in range(starts.shape[0]):
        ready = max(ready, starts[new])
        while ready < starts[new] + ring:
            rows, columns = min(ready, row_starts.shape[0] - 1), min(ready, column_starts.shape[0] - 1)
            in_plane(
                kind, slices[ready], pitch, (real[ready, 0], real[ready, 1]), rule, row_starts[rows], row_weights[rows],
                column_starts[columns], column_weights[columns], box, line, planes + 4 * (ready % ring) * size,
                (1, along) if swapped else (along, 1),
            )  # fmt: skip
            ready += 1
        for outer in range(across):
            blend_planes(planes, size, ring, starts[new], weights[new], outer * along, along, line)
            target = out + 4 * (new * steps[0] + outer * steps[1])
            for n in range(along):
                write(target, n, finished(read(line, n, np.float32(0)), finish))


@kernel(_SIGNATURE)
def tile_of_columns(
    kind: int, slices: Ints, pitch: int, real: Floats, rule: Rule, row_starts: Ints, row_weights: Floats,
    column_starts: Ints, column_weights: Floats, starts: Ints, weights: Floats, box: Box, swapped: bool, finish: Rule,
    line: int, planes: int, out: int, steps: tuple[int, int],
) -> None:  # fmt: skip
    """Fill a tile of a volume whose last axis is the normal.

    `planes`: as many as there are slices. `line`: room for eight numbers a new plane, too. `steps`: of `out`, in
    numbers, along the rows' and the columns' index.
    """
    height, width = box[1] - box[0], box[3] - box[2]
    size = height * width
    for each in range(slices.shape[0]):
        rows, columns = min(each, row_starts.shape[0] - 1), min(each, column_starts.shape[0] - 1)
        in_plane(
            kind, slices[each], pitch, (real[each, 0], real[each, 1]), rule, row_starts[rows], row_weights[rows],
            column_starts[columns], column_weights[columns], box, line, planes + 4 * each * size, (width, 1),
        )  # fmt: skip
    for row in range(height):
        for left in range(0, width, 8):
            block = min(8, width - left)
            for new in range(starts.shape[0]):
                blend_planes(
                    planes, size, slices.shape[0], starts[new], weights[new], row * width + left, block,
                    line + 4 * 8 * new,
                )  # fmt: skip
            for n in range(block):
                target = out + 4 * (row * steps[0] + (left + n) * steps[1])
                for new in range(starts.shape[0]):
                    write(target, new, finished(read(line, new * 8 + n, np.float32(0)), finish))
