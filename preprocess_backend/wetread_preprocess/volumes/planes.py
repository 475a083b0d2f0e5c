"""The kernels of resampling: tile by tile, in the plane and along the normal, while all of it is in the cache.

A tile is a range of rows of the new planes. Of every slice these rows are made (`in_plane`: two rows blended eight
columns at a time, then the new columns picked out of the blended row) and kept in scratch memory, and from there
blended along the normal into the volume; blocks are turned where the volume's last axis is not the columns'.
Slices, tables, scratch and volume are walked by address (see `memory`).
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from wetread_preprocess.volumes.compiled import kernel
from wetread_preprocess.volumes.memory import Sample, add_eight, blend_eight, read, read_whole, turn, write

Four: TypeAlias = tuple[float, float, float, float]
Source: TypeAlias = tuple[int, npt.NDArray[np.int64], int, npt.NDArray[np.float32], Four, int]
"""Place of the pixels' type in `KINDS`, address of each slice, bytes from row to row, [slices, 2] slope and intercept,
the rule of real values (floor, lowest and highest stored padding, real value of padding), and columns."""
Table: TypeAlias = tuple[int, int, int, int, int]
"""Taps: addresses of starts int32 [tables, n] and weights float32 [tables, n, taps]; tables, n, taps. One table for
all slices, or one each."""
Span: TypeAlias = tuple[int, int]
Plane: TypeAlias = tuple[int, int, bool]
"""Address, numbers from row to row, or of a turned plane from column to column, and whether it is that."""
Scratch: TypeAlias = tuple[int, int]
"""Addresses of room for lines, and for planes."""
Target: TypeAlias = tuple[int, int, int, Four]
"""Address of the tile in the volume, numbers from step to step of its two outer axes, and what is done to each value
last: clip to low..high, times scale, plus offset."""

BLOCK = 64
"""Columns that are turned at once."""
LEVELS = 256
"""New planes that are turned at once: as long are the runs that reach the volume."""
KINDS = ("int16", "uint16", "uint8", "int8", "float32")

_SINGLE = np.float32(0)


@kernel()
def real_value(stored: float, slope: float, intercept: float, rule: Four) -> float:
    """Give a stored value's real one."""
    value = stored * slope + intercept
    value = rule[0] if value < rule[0] else value
    return value if (stored < rule[1]) | (stored > rule[2]) else rule[3]


@kernel()
def finished(value: float, finish: Four) -> float:
    """Do what is done last; not a number stays one."""
    value = finish[0] if value < finish[0] else value
    value = finish[1] if value > finish[1] else value
    return value * finish[2] + finish[3]


@kernel()
def start_and_weights(table: Table, each: int, new: int) -> tuple[int, int]:
    """Give where new sample `new` of slice `each` starts, and the address of its weights."""
    starts, weights, tables, count, taps = table
    place = min(each, tables - 1) * count + new
    return read_whole(starts, place), weights + 4 * place * taps


@kernel()
def make_line(
    source: Source, each: int, start: int, weights: tuple[int, int], span: Span, like: Sample, line: int
) -> None:
    """Write to `line` the columns `span` of one new row between rows of slice `each`."""
    _, slices, pitch, real, rule, _ = source
    slope, intercept = real[each, 0], real[each, 1]
    address, taps = weights
    first = slices[each] + start * pitch
    if taps == 2:
        second, weight = first + pitch, read(address, 1, _SINGLE)
        for column in range(span[0], span[1]):
            one = real_value(read(first, column, like), slope, intercept, rule)
            other = real_value(read(second, column, like), slope, intercept, rule)
            write(line, column, one + (other - one) * weight)
        return
    weight = read(address, 0, _SINGLE)
    for column in range(span[0], span[1]):
        write(line, column, weight * real_value(read(first, column, like), slope, intercept, rule))
    for tap in range(1, taps):
        first, weight = first + pitch, read(address, tap, _SINGLE)
        for column in range(span[0], span[1]):
            more = weight * real_value(read(first, column, like), slope, intercept, rule)
            write(line, column, read(line, column, _SINGLE) + more)


@kernel()
def line_of_kind(source: Source, each: int, start: int, weights: tuple[int, int], span: Span, line: int) -> None:
    """Do `make_line` for the slices' type of pixels."""
    if source[0] == 0:
        make_line(source, each, start, weights, span, np.int16(0), line)
    elif source[0] == 1:
        make_line(source, each, start, weights, span, np.uint16(0), line)
    elif source[0] == 2:
        make_line(source, each, start, weights, span, np.uint8(0), line)
    elif source[0] == 3:
        make_line(source, each, start, weights, span, np.int8(0), line)
    else:
        make_line(source, each, start, weights, span, _SINGLE, line)


@kernel()
def pick(line: int, starts: int, weights: int, count: int, taps: int, target: int) -> None:
    """Write `count` new samples out of `line` to `target`."""
    if taps == 2:
        for new in range(count):
            start = read_whole(starts, new)
            one = read(line, start, _SINGLE)
            write(target, new, one + (read(line, start + 1, _SINGLE) - one) * read(weights, 2 * new + 1, _SINGLE))
        return
    for new in range(count):
        start = read_whole(starts, new)
        value = read(weights, new * taps, _SINGLE) * read(line, start, _SINGLE)
        for tap in range(1, taps):
            value += read(weights, new * taps + tap, _SINGLE) * read(line, start + tap, _SINGLE)
        write(target, new, value)


@kernel()
def turn_block(block: int, pitch: int, levels: int, columns: int, target: int, step: int) -> None:
    """Write [levels, columns] of a block of lines of `pitch` as columns, each `step` numbers from the one before."""
    for column in range(0, columns, 8):
        for level in range(0, levels, 8):
            place = target + 4 * (column * step + level)
            if column + 8 <= columns and level + 8 <= levels:
                turn(block + 4 * (level * pitch + column), pitch, place, step)
                continue
            for n in range(min(8, columns - column)):
                for m in range(min(8, levels - level)):
                    write(place, n * step + m, read(block, (level + m) * pitch + column + n, _SINGLE))


@kernel()
def eight_rows(source: Source, each: int, down: Table, across: Table, row: int, line: int, target: Plane) -> None:
    """Make new rows row to row + 7 of slice `each`: turned, so that one tap serves all eight at once.

    `line`: room for 16 rows of a slice and 9 new ones, their lengths rounded up to eight.
    """
    plane, step, turned = target
    count, taps, pitch = across[3], across[4], (source[5] + 7) // 8 * 8
    table = min(each, across[2] - 1)
    starts, weights = across[0] + 4 * table * count, across[1] + 4 * table * count * taps
    first, last = read_whole(starts, 0), read_whole(starts, count - 1)
    span = (min(first, last), max(first, last) + taps)
    for n in range(8):
        start, row_weights = start_and_weights(down, each, row + n)
        line_of_kind(source, each, start, (row_weights, down[4]), span, line + 4 * n * pitch)
    columns = line + 4 * 8 * pitch
    for column in range(span[0] // 8 * 8, span[1], 8):
        turn(line + 4 * column, pitch, columns + 4 * 8 * column, 8)
    nothing = columns + 4 * 8 * pitch
    for n in range(8):
        write(nothing, n, 0.0)
    made, apart = (plane, step) if turned else (nothing + 4 * 8, 8)
    for new in range(count):
        place, result = columns + 4 * 8 * read_whole(starts, new), made + 4 * new * apart
        if taps == 2:
            blend_eight(place, place + 4 * 8, read(weights, 2 * new + 1, _SINGLE), result)
        else:
            add_eight(nothing, place, read(weights, taps * new, _SINGLE), result)
            for tap in range(1, taps):
                add_eight(result, place + 4 * 8 * tap, read(weights, taps * new + tap, _SINGLE), result)
    if not turned:
        turn_block(made, 8, count, 8, plane, step)


@kernel()
def in_plane(
    source: Source, each: int, down: Table, across: Table, rows: Span, scratch: Scratch, target: Plane
) -> None:
    """Make new rows rows[0] to before rows[1] of slice `each`; scratch: a line, and a plane of its own."""
    count, taps = across[3], across[4]
    plane, step, turned = target
    if rows[1] - rows[0] >= 8:
        for top in range(rows[0], rows[1], 8):
            row = min(top, rows[1] - 8)
            place = plane + 4 * (row - rows[0]) * (1 if turned else step)
            eight_rows(source, each, down, across, row, scratch[0], (place, step, turned))
        return
    table = min(each, across[2] - 1)
    starts, weights = across[0] + 4 * table * count, across[1] + 4 * table * count * taps
    first, last = read_whole(starts, 0), read_whole(starts, count - 1)
    span = (min(first, last), max(first, last) + taps)
    made, apart = (scratch[1], count) if turned else (plane, step)
    for row in range(rows[0], rows[1]):
        start, row_weights = start_and_weights(down, each, row)
        line_of_kind(source, each, start, (row_weights, down[4]), span, scratch[0])
        pick(scratch[0], starts, weights, count, taps, made + 4 * (row - rows[0]) * apart)
    if turned:
        turn_block(made, count, rows[1] - rows[0], count, plane, step)


@kernel()
def along_normal(
    planes: tuple[int, int, int], slot: int, weights: tuple[int, int], length: int, finish: Four, target: int
) -> None:
    """Write `length` finished numbers to `target`, blended from those of plane `slot` and the ones after it.

    `planes`: the address of the numbers in the first, how many lie from one plane to the next, how many there are;
    they go round. `weights`: their address and how many.
    """
    address, size, ring = planes
    first = address + 4 * slot * size
    if weights[1] == 2:
        second = address + 4 * (slot + 1 - (ring if slot + 1 >= ring else 0)) * size
        weight = read(weights[0], 1, _SINGLE)
        for n in range(length):
            one = read(first, n, _SINGLE)
            write(target, n, finished(one + (read(second, n, _SINGLE) - one) * weight, finish))
        return
    weight = read(weights[0], 0, _SINGLE)
    for n in range(length):
        write(target, n, weight * read(first, n, _SINGLE))
    for tap in range(1, weights[1]):
        more = address + 4 * (slot + tap - (ring if slot + tap >= ring else 0)) * size
        weight = read(weights[0], tap, _SINGLE)
        for n in range(length):
            write(target, n, read(target, n, _SINGLE) + weight * read(more, n, _SINGLE))
    for n in range(length):
        write(target, n, finished(read(target, n, _SINGLE), finish))


_SIGNATURE = (
    "void(Tuple((int64, int64[::1], int64, float32[:, ::1], UniTuple(float32, 4), int64)), UniTuple(int64, 5), "
    "UniTuple(int64, 5), UniTuple(int64, 5), UniTuple(int64, 2), {}UniTuple(int64, 2), "
    "Tuple((int64, int64, int64, UniTuple(float32, 4))))"
)


@kernel(_SIGNATURE.format("boolean, "))
def tile_of_planes(
    source: Source, down: Table, across: Table, normal: Table, rows: Span, turned: bool, scratch: Scratch,
    target: Target,
) -> None:  # fmt: skip
    """Fill a tile of a volume whose last axis is the columns' index or, `turned`, the rows'.

    The starts of `normal` do not fall. Scratch: one plane more than it has taps. Steps of `target`: from plane to
    plane, and along the axis in the plane that is not the last.
    """
    _, fresh = scratch
    out, plane_step, step, finish = target
    height, width, ring = rows[1] - rows[0], across[3], normal[4]
    size, planes = height * width, fresh + 4 * height * width
    lines, length = (width, height) if turned else (height, width)
    ready = 0
    for new in range(normal[3]):
        start, weights = start_and_weights(normal, 0, new)
        ready = max(ready, start)
        while ready < start + ring:  # each slice once, where one is used at all
            plane = planes + 4 * (ready % ring) * size
            in_plane(source, ready, down, across, rows, scratch, (plane, height if turned else width, turned))
            ready += 1
        slot, place = start % ring, out + 4 * new * plane_step
        for n in range(lines):
            kept = (planes + 4 * n * length, size, ring)
            along_normal(kept, slot, (weights, ring), length, finish, place + 4 * n * step)


@kernel(_SIGNATURE.format(""))
def tile_of_columns(
    source: Source, down: Table, across: Table, normal: Table, rows: Span, scratch: Scratch, target: Target
) -> None:
    """Fill a tile of a volume whose last axis is the normal.

    Scratch: `LEVELS` lines of `BLOCK`; as many planes as there are slices, row by row. Steps of `target`: along the
    rows and along the columns.
    """
    line, planes = scratch
    out, row_step, step, finish = target
    height, width, slices = rows[1] - rows[0], across[3], source[1].shape[0]
    for each in range(slices):
        in_plane(source, each, down, across, rows, scratch, (planes + 4 * each * width, slices * width, False))
    for row in range(height):
        for left in range(0, width, BLOCK):
            columns = min(BLOCK, width - left)
            kept = (planes + 4 * (row * slices * width + left), width, slices)
            for bottom in range(0, normal[3], LEVELS):
                levels = min(LEVELS, normal[3] - bottom)
                for n in range(levels):
                    start, weights = start_and_weights(normal, 0, bottom + n)
                    along_normal(kept, start, (weights, normal[4]), columns, finish, line + 4 * n * BLOCK)
                turn_block(line, BLOCK, levels, columns, out + 4 * (row * row_step + left * step + bottom), step)
