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
def blend_three(first: Run, second: Run, third: Run, shares: Run, out: Run) -> None:
    """Write second * shares[0] + (first + third) * shares[1], float32 [n] each."""
    middle, side = shares[0], shares[1]
    for at in range(out.size):
        out[at] = second[at] * middle + (first[at] + third[at]) * side


@kernel()
def add_two(first: Run, second: Run, share: float, out: Run) -> None:
    """Add two runs to a third, each times `share`, float32 [n] each."""
    for at in range(out.size):
        out[at] += (first[at] + second[at]) * share


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
def blend_along(source: Run, out: Run, start: int, stop: int, step: int, shares: Run) -> None:
    """Write to `out` at start..stop the sums of `source` over neighbours `step` apart, weighed by `shares`, the
    middle's first, as far as these go."""
    if shares.size == 1:
        out[start:stop] = source[start:stop]
        return
    blend_three(
        source[start - step : stop - step],
        source[start:stop],
        source[start + step : stop + step],
        shares,
        out[start:stop],
    )
    for far in range(2, shares.size):
        away = far * step
        add_two(source[start - away : stop - away], source[start + away : stop + away], shares[far], out[start:stop])


@kernel()
def blend_across(boxes: Block, out: Run, start: int, stop: int, last: int, shares: Run) -> None:
    """Write to `out` at start..stop the sum of all rows of `boxes`, 3 or more, weighed by `shares`.

    The rows go round; `last` is the number of the plane that came last, and the middle is `shares.size` - 1 before it.
    """
    count, middle = boxes.shape[0], last - shares.size + 1
    blend_three(
        boxes[(middle - 1) % count, start:stop],
        boxes[middle % count, start:stop],
        boxes[(middle + 1) % count, start:stop],
        shares,
        out[start:stop],
    )
    for far in range(2, shares.size):
        add_two(
            boxes[(middle - far) % count, start:stop],
            boxes[(middle + far) % count, start:stop],
            shares[far],
            out[start:stop],
        )


@kernel()
def pair_up(
    volume: Run,
    runs: Run,
    layout: tuple[int, int, int],
    middle: tuple[int, int, int, int],
    displacement: tuple[int, int, int],
    patch: npt.NDArray[np.int64],
    shares: Block,
    filtering: tuple[float, float],
) -> None:
    """Weigh every pair of voxels of a tile that lie `displacement` apart, planes, rows, columns, and add each voxel to
    the other's sum.

    `volume` float32 [3, n]: values, sums, totals of weights. `runs` float32 [4 and one a plane of a patch, n]: room for
    a plane each. `layout`: where the first plane begins, length of a row and of a plane. `middle`: first plane and row
    of the tile's own, how many planes and rows it has.
    """
    slack, pitch, plane = layout
    top_plane, top, deep, high = middle
    dz, dy, dx = displacement
    values, sums, totals = volume[0], volume[1], volume[2]
    boxes = runs[4:]
    # Either end of a pair may lie in the tile: its own rows, and as many before or behind as the displacement is long.
    first, last = (top - max(dy, 0)) * pitch, (top + high + max(-dy, 0)) * pitch
    begin, end = slack + first - patch[1] * pitch, slack + last + patch[1] * pitch
    first, last = slack + first, slack + last
    away = dz * plane + dy * pitch + dx
    weight = runs[3, first:last]
    for z in range(top_plane - dz - patch[0], top_plane + deep + patch[0]):
        here, there = z * plane, z * plane + away
        box = boxes[z % boxes.shape[0]]
        squared_differences(values[here + begin : here + end], values[there + begin : there + end], runs[0, begin:end])
        blend_along(runs[0], runs[1], begin, end, 1, shares[2, : patch[2] + 1])
        blend_along(runs[1], box, first, last, pitch, shares[1, : patch[1] + 1])
        if z - patch[0] < top_plane - dz:
            continue  # the first patches are not whole yet
        if patch[0] > 0:
            blend_across(boxes, runs[2], first, last, z, shares[0, : patch[0] + 1])
            box = runs[2]
        weigh(box[first:last], filtering[0], filtering[1], weight)
        here, there = here - patch[0] * plane, there - patch[0] * plane
        gather(
            values[there + first : there + last],
            weight,
            sums[here + first : here + last],
            totals[here + first : here + last],
        )
        gather(
            values[here + first : here + last],
            weight,
            sums[there + first : there + last],
            totals[there + first : there + last],
        )


@kernel()
def denoise_tile(
    padded: Block,
    out: Block,
    place: tuple[int, int, int, int],
    search: npt.NDArray[np.int64],
    patch: npt.NDArray[np.int64],
    shares: Block,
    filtering: tuple[float, float],
) -> None:
    """Denoise one tile of a slab, its first row and column, height and width in `place`: all displacements of half
    the search window.

    A plane of the tile is one run of memory, margins included, so that each step is a loop over neighbours in memory
    whatever the displacement; what runs over a row's end falls on margins, which nobody reads.
    """
    planes = out.shape[0]
    top, left, high, across = place
    margins = search + patch
    pitch = across + 2 * margins[2]
    plane = (high + 2 * margins[1]) * pitch
    slack = margins[2] + 8
    volume = np.zeros((3, (planes + 2 * margins[0]) * plane + 2 * slack), np.float32)
    runs = np.zeros((5 + 2 * patch[0], plane + 2 * slack), np.float32)
    for z in range(planes + 2 * margins[0]):
        for y in range(high + 2 * margins[1]):
            at = slack + z * plane + y * pitch
            volume[0, at : at + pitch] = padded[z, top + y, left : left + pitch]
    layout = (slack, pitch, plane)
    middle = (margins[0], margins[1], planes, high)
    for dz in range(search[0] + 1):
        for dy in range(-search[1] if dz > 0 else 0, search[1] + 1):
            for dx in range(-search[2] if dz > 0 or dy > 0 else 1, search[2] + 1):
                pair_up(volume, runs, layout, middle, (dz, dy, dx), patch, shares, filtering)
    for z in range(planes):
        for y in range(high):
            at = slack + (z + margins[0]) * plane + (y + margins[1]) * pitch + margins[2]
            for x in range(across):
                total = volume[2, at + x] + np.float32(1.0)  # itself
                out[z, top + y, left + x] = (volume[1, at + x] + volume[0, at + x]) / total


@kernel(
    "void(float32[:, :, ::1], float32[:, :, ::1], int64[::1], int64[::1], int64[::1], float32[:, ::1],"
    " float64, float64)"
)
def denoise_slab(
    padded: Block,
    out: Block,
    tile: npt.NDArray[np.int64],
    search: npt.NDArray[np.int64],
    patch: npt.NDArray[np.int64],
    shares: Block,
    scale: float,
    free: float,
) -> None:
    """Denoise a slab: `out` float32 [planes, rows, columns] from `padded`, larger by search + patch on all sides.

    `tile` int64 [2]: rows and columns at most. `search`, `patch` int64 [3]: how far the windows reach from their
    middle along each axis. `shares` float32 [3, n]: of a patch's layers along each axis, the middle's first.
    """
    _, rows, columns = out.shape
    tall = -(-rows // (-(-rows // tile[0])))
    wide = -(-columns // (-(-columns // tile[1])))
    for top in range(0, rows, tall):
        for left in range(0, columns, wide):
            high, across = min(tall, rows - top), min(wide, columns - left)
            denoise_tile(padded, out, (top, left, high, across), search, patch, shares, (scale, free))
