"""What a server has to say of a film or a series: warnings, what it left out, where the pixels lie."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from wetread_client.errors import ServerError, Status

if TYPE_CHECKING:
    from numpy.typing import NDArray

Point = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Geometry:
    """The source film: `rows` x `columns` pixels, spacing between rows and between columns in mm where known."""

    rows: int
    columns: int
    pixel_spacing_mm: tuple[float, float] | None
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class SeriesGeometry:
    """The source series, as it was acquired; lengths in mm, places in the patient's LPS frame (PS3.3 C.7.6.2.1.1).

    `positions_mm`: each slice's first pixel, in slice order, as are `sop_instance_uids` and `frames` (from 0, of an
    enhanced multi-frame image, else 0). `pixel_spacing_mm`: between rows, between columns. `row_direction`: where the
    column index grows; `column_direction`: where the row index grows. `affine`: [4, 4] by rows, index (slice, row,
    column, 1) -> mm; of an even stack without tilt it says all, of any other the positions count.
    """

    modality: str
    series_instance_uid: str
    slices: int
    rows: int
    columns: int
    pixel_spacing_mm: tuple[float, float]
    row_direction: Point
    column_direction: Point
    positions_mm: tuple[Point, ...]
    sop_instance_uids: tuple[str, ...]
    frames: tuple[int, ...]
    affine: tuple[tuple[float, float, float, float], ...]
    tilt_degrees: float = 0.0

    @property
    def distances_mm(self) -> NDArray[np.float64]:
        """[slices], increasing: of each slice along the normal, from the first one."""
        positions = np.array(self.positions_mm, np.float64)
        return np.asarray((positions - positions[0]) @ np.cross(self.row_direction, self.column_direction))

    @property
    def voxel_ml(self) -> NDArray[np.float64]:
        """[slices]: what one pixel of each slice stands for, halfway to its neighbours by their true distances.

        Of a single slice 0: nothing says how thick it is.
        """
        if self.slices < 2:
            return np.zeros(self.slices)
        gaps = np.abs(np.diff(self.distances_mm))
        thickness_mm = (np.concatenate([gaps[:1], gaps]) + np.concatenate([gaps, gaps[-1:]])) / 2
        return np.asarray(thickness_mm * self.pixel_spacing_mm[0] * self.pixel_spacing_mm[1] / 1000)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that is no part of what was read; `file` is its place in the request, from 1."""

    file: int
    sop_instance_uid: str
    why: str


@dataclass(frozen=True, slots=True)
class Notes:
    """What the server has to say of this reading.

    `warnings` are for a human. `geometry`: of a film, where it is known. `left_out` and `series`: of a series.
    """

    warnings: tuple[str, ...] = ()
    geometry: Geometry | None = None
    left_out: tuple[LeftOut, ...] = ()
    series: SeriesGeometry | None = None

    @classmethod
    def parse(cls, document: bytes) -> Notes:
        """Read NOTES' bytes; ServerError when they are not notes."""
        try:
            content = json.loads(document)
            geometry = content.get("geometry") or {}
            return cls(
                tuple(str(warning) for warning in content.get("warnings", ())),
                _film(geometry) if "sop_instance_uid" in geometry else None,
                tuple(_left_out(one) for one in content.get("left_out", ())),
                _series(geometry) if "slices" in geometry else None,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ServerError(Status.INTERNAL.value, f"the answer's NOTES cannot be read: {error!r}") from error


def _film(content: dict[str, Any]) -> Geometry:
    spacing = content.get("pixel_spacing_mm")
    return Geometry(
        rows=int(content["rows"]),
        columns=int(content["columns"]),
        pixel_spacing_mm=None if spacing is None else (float(spacing[0]), float(spacing[1])),
        sop_instance_uid=str(content["sop_instance_uid"]),
    )


def _series(content: dict[str, Any]) -> SeriesGeometry:
    between_rows, between_columns = content["pixel_spacing_mm"]
    series = SeriesGeometry(
        modality=str(content["modality"]),
        series_instance_uid=str(content["series_instance_uid"]),
        slices=int(content["slices"]),
        rows=int(content["rows"]),
        columns=int(content["columns"]),
        pixel_spacing_mm=(float(between_rows), float(between_columns)),
        row_direction=_point(content["row_direction"]),
        column_direction=_point(content["column_direction"]),
        positions_mm=tuple(_point(position) for position in content["positions_mm"]),
        sop_instance_uids=tuple(str(uid) for uid in content["sop_instance_uids"]),
        frames=tuple(int(frame) for frame in content["frames"]),
        affine=tuple(_row(row) for row in content["affine"]),
        tilt_degrees=float(content.get("tilt_degrees", 0.0)),
    )
    named = (len(series.positions_mm), len(series.sop_instance_uids), len(series.frames))
    if set(named) != {series.slices}:
        raise ValueError(f"{series.slices} slices, of which {named} have a place, an image and a frame")
    return series


def _left_out(content: dict[str, Any]) -> LeftOut:
    return LeftOut(int(content["file"]), str(content["sop_instance_uid"]), str(content["why"]))


def _point(values: list[float]) -> Point:
    x, y, z = values
    return float(x), float(y), float(z)


def _row(values: list[float]) -> tuple[float, float, float, float]:
    first, second, third, fourth = values
    return float(first), float(second), float(third), float(fourth)
