"""The compiled part of non-local means: one slab of planes, a tile at a time that stays in the processor's cache."""

import numpy as np
import numpy.typing as npt

from wetread_preprocess.volumes.compiled import kernel

Run = npt.NDArray[np.float32]
Block = npt.NDArray[np.float32]


@kernel()
def squared_differences(first: Run, second: Run, out: Run) -> None:
    """Write (first - second)^2, float32 [n] each."""
    for at in range(out.size):
        apart = first[at] - second[at]
        out[at] = apart * apart


@kernel()
def sum_three(first: Run, second: Run, third: Run, out: Run) -> None:
    """Write the sum of three runs, float32 [n] each."""
    for at in range(out.size):
        out[at] = first[at] + second[at] + third[at]


@kernel()
def add_two(first: Run, second: Run, out: Run) -> None:
    """Add two runs to a third, float32 [n] each."""
    for at in range(out.size):
        out[at] += first[at] + second[at]


@kernel()
def weigh(apart: Run, scale: float, free: float, weights: Run) -> None:
    """Write exp(-max(apart * scale - free, 0)), float32 [n]; beyond 5 it is 0, as scikit-image has it.

    The exponential is a polynomial of degree 5 in a quarter of the distance, to the fourth power: within 2e-5 of the
    true one, relatively.
    """
    for at in range(weights.size):
        distance = max(apart[at] * np.float32(scale) - np.float32(free), np.float32(0.0))
        part = min(distance, np.float32(5.0)) * np.float32(0.25)
        root = np.float32(-0.0044540484)
        root = root * part + np.float32(0.0366744)
        root = root * part + np.float32(-0.16352986)
        root = root * part + np.float32(0.49910033)
        root = root * part + np.float32(-0.9999124)
        root = root * part + np.float32(1.0)
        square = root * root
        weights[at] = square * square if distance <= np.float32(5.0) else np.float32(0.0)


@kernel()
def gather(values: Run, weights: Run, sums: Run, totals: Run) -> None:
    """Add weighted values to `sums` and the weights to `totals`, float32 [n] each."""
    for at in range(weights.size):
        sums[at] += weights[at] * values[at]
        totals[at] += weights[at]


@kernel()
def box_along(source: Run, out: Run, start: int, stop: int, step: int, reach: int) -> None:
    """Write to `out` at start..stop the sums of `source` over -reach..reach steps; reach 1 or more."""
    sum_three(
        source[start - step : stop - step], source[start:stop], source[start + step : stop + step], out[start:stop]
    )
    for far in range(2, reach + 1):
        away = far * step
        add_two(source[start - away : stop - away], source[start + away : stop + away], out[start:stop])


@kernel()
def box_across(boxes: Block, out: Run, start: int, stop: int) -> None:
    """Write to `out` at start..stop the sum of all rows of `boxes`, 3 or more."""
    sum_three(boxes[0, start:stop], boxes[1, start:stop], boxes[2, start:stop], out[start:stop])
    for pair in range(3, boxes.shape[0], 2):
        add_two(boxes[pair, start:stop], boxes[pair + 1, start:stop], out[start:stop])


@kernel()
def denoise_tile(
    padded: Block,
    out: Block,
    top: int,
    left: int,
    high: int,
    across: int,
    search: npt.NDArray[np.int64],
    patch: npt.NDArray[np.int64],
    scale: float,
    free: float,
) -> None:
    """Denoise one tile of a slab: every displacement of half the search window, its weights for both ends of it.

    A plane of the tile is one run of memory, margins included, so that each step is a loop over neighbours in memory
    whatever the displacement; what runs over a row's end falls on margins, which nobody reads.
    """
    planes = out.shape[0]
    z_margin, y_margin, x_margin = search[0] + patch[0], search[1] + patch[1], search[2] + patch[2]
    pitch = across + 2 * x_margin
    plane = (high + 2 * y_margin) * pitch
    slack = x_margin + 8
    size = (planes + 2 * z_margin) * plane + 2 * slack
    values, sums, totals = np.zeros(size, np.float32), np.zeros(size, np.float32), np.zeros(size, np.float32)
    for z in range(planes + 2 * z_margin):
        for y in range(high + 2 * y_margin):
            at = slack + z * plane + y * pitch
            values[at : at + pitch] = padded[z, top + y, left : left + pitch]
    apart, along = np.zeros(plane + 2 * slack, np.float32), np.zeros(plane + 2 * slack, np.float32)
    boxes = np.zeros((2 * patch[0] + 1, plane + 2 * slack), np.float32)
    whole, weights = np.zeros(plane + 2 * slack, np.float32), np.zeros(plane + 2 * slack, np.float32)
    for dz in range(search[0] + 1):
        for dy in range(-search[1], search[1] + 1):
            for dx in range(-search[2], search[2] + 1):
                if dz == 0 and (dy < 0 or (dy == 0 and dx <= 0)):
                    continue
                first = (y_margin - max(dy, 0)) * pitch
                last = (y_margin + high + max(-dy, 0)) * pitch
                away = dz * plane + dy * pitch + dx
                for z in range(z_margin - dz - patch[0], z_margin + planes + patch[0]):
                    # This plane's patch sums within the plane, then those across the planes around `middle`.
                    begin, end = first - patch[1] * pitch, last + patch[1] * pitch
                    here = slack + z * plane
                    box = boxes[z % boxes.shape[0]]
                    squared_differences(
                        values[here + begin : here + end],
                        values[here + begin + away : here + end + away],
                        apart[slack + begin : slack + end],
                    )
                    box_along(apart, along, slack + begin, slack + end, 1, patch[2])
                    box_along(along, box, slack + first, slack + last, pitch, patch[1])
                    middle = z - patch[0]
                    if middle < z_margin - dz:
                        continue
                    total = box
                    if patch[0] > 0:
                        box_across(boxes, whole, slack + first, slack + last)
                        total = whole
                    weight = weights[slack + first : slack + last]
                    weigh(total[slack + first : slack + last], scale, free, weight)
                    one, other = slack + middle * plane + first, slack + middle * plane + last
                    gather(values[one + away : other + away], weight, sums[one:other], totals[one:other])
                    gather(
                        values[one:other], weight, sums[one + away : other + away], totals[one + away : other + away]
                    )
    for z in range(planes):
        for y in range(high):
            at = slack + (z + z_margin) * plane + (y + y_margin) * pitch + x_margin
            for x in range(across):
                out[z, top + y, left + x] = (sums[at + x] + values[at + x]) / (totals[at + x] + np.float32(1.0))


@kernel("void(float32[:, :, ::1], float32[:, :, ::1], int64[::1], int64[::1], int64[::1], float64, float64)")
def denoise_slab(
    padded: Block,
    out: Block,
    tile: npt.NDArray[np.int64],
    search: npt.NDArray[np.int64],
    patch: npt.NDArray[np.int64],
    scale: float,
    free: float,
) -> None:
    """Denoise a slab: `out` float32 [planes, rows, columns] from `padded`, larger by search + patch on all sides.

    `tile` int64 [2]: rows and columns at most. `search`, `patch` int64 [3]: how far the windows reach from their
    middle along each axis; of `patch` the last two are 1 or more.
    """
    planes, rows, columns = out.shape
    tall = -(-rows // (-(-rows // tile[0])))
    wide = -(-columns // (-(-columns // tile[1])))
    for top in range(0, rows, tall):
        for left in range(0, columns, wide):
            high, across = min(tall, rows - top), min(wide, columns - left)
            denoise_tile(padded, out, top, left, high, across, search, patch, scale, free)
