"""GEOMETRY of a volume: what it takes to bring a mask back to the source's own pixels, as JSON."""

import json
from typing import Any

import numpy as np

from wetread_preprocess.volumes.grid import Affine, Grid, Triple
from wetread_preprocess.volumes.stack import Series


def describe(
    series: Series, grid: Grid, padded: Triple, warnings: tuple[str, ...], timings_ms: dict[str, float]
) -> bytes:
    """Give GEOMETRY, UTF-8 JSON; lengths in mm, places in DICOM's patient frame (LPS).

    `grid`: of the finished volume without its padding. `padded`: the shape of VOLUME.

    The keys: `frame` (LPS), `rows`, `columns`, `slices`, `pixel_spacing_mm` (between rows, between columns),
    `row_direction`, `column_direction`, `positions_mm` (each slice's first pixel, in slice order), `sop_instance_uids`
    and `frames` (in slice order), `series_instance_uid`, `modality`, `affine` (source index slice, row, column ->
    mm; of an even stack without tilt it says all, else the positions count), `tilt_degrees`, `volume` (`shape`,
    `padded`, `affine`: array index -> mm, `orientation`), `left_out`, `warnings`, `timings_ms`.
    """
    stack = series.stack
    slices, rows, columns = stack.shape
    document: dict[str, Any] = {
        "frame": "LPS",
        "modality": series.modality,
        "series_instance_uid": series.series_instance_uid,
        "slices": slices,
        "rows": rows,
        "columns": columns,
        "pixel_spacing_mm": list(stack.pixel_spacing_mm),
        "row_direction": list(stack.row_direction),
        "column_direction": list(stack.column_direction),
        "positions_mm": stack.positions_mm.tolist(),
        "sop_instance_uids": [one.sop_instance_uid for one in stack.slices],
        "frames": [one.frame for one in stack.slices],
        "affine": source_affine(series).tolist(),
        "tilt_degrees": series.tilt_degrees,
        "volume": {
            "shape": list(grid.shape),
            "padded": list(padded),
            "affine": grid.affine.tolist(),
            "orientation": grid.orientation,
        },
        "left_out": [
            {"file": one.source, "sop_instance_uid": one.sop_instance_uid, "why": one.why} for one in series.left_out
        ],
        "warnings": list(warnings),
        "timings_ms": timings_ms,
    }
    return json.dumps(document).encode()


def source_affine(series: Series) -> Affine:
    """Give float64 [4, 4], source index (slice, row, column, 1) -> LPS mm, by the first and the last slice."""
    stack = series.stack
    positions = stack.positions_mm
    affine = np.eye(4)
    if len(positions) > 1:
        affine[:3, 0] = (positions[-1] - positions[0]) / (len(positions) - 1)
    else:
        affine[:3, 0] = stack.normal
    affine[:3, 1] = np.array(stack.column_direction) * stack.pixel_spacing_mm[0]
    affine[:3, 2] = np.array(stack.row_direction) * stack.pixel_spacing_mm[1]
    affine[:3, 3] = positions[0]
    return affine
