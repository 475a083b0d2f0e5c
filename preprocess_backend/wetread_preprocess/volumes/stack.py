"""A series as it was acquired: slices where they lie in the patient, pixels as they are stored."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Point = tuple[float, float, float]
Vector: TypeAlias = npt.NDArray[np.float64]
Pixels: TypeAlias = (
    npt.NDArray[np.int16]
    | npt.NDArray[np.uint16]
    | npt.NDArray[np.uint8]
    | npt.NDArray[np.int8]
    | npt.NDArray[np.float32]
)
FloatPlane: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Slice:
    """One image of a series."""

    source: int
    """The file that holds it, by its place in the request, from 1."""
    frame: int
    """From 0; of an enhanced multi-frame image, else 0."""
    sop_instance_uid: str
    position_mm: Point
    """Centre of the first pixel, in the patient's LPS frame (PS3.3 C.7.6.2.1.1)."""
    slope: float
    intercept: float
    """Real value = stored value * slope + intercept (PS3.3 C.11.1)."""
    pixels: Pixels
    """[rows, columns], stored values; a view of the file's bytes where they allow it, never to be written to."""


@dataclass(frozen=True)
class LeftOut:
    """A file, or one frame of it, that is no part of what was read."""

    source: int
    sop_instance_uid: str
    why: str


@dataclass(frozen=True)
class Stack:
    """Slices of one orientation, size and pixel type, in order along the normal, no two at one place."""

    slices: tuple[Slice, ...]
    """At increasing distance along `normal`; the distances may differ, and so may the places in the plane (a tilted
    gantry moves each slice along the columns)."""
    row_direction: Point
    """Unit vector, LPS: where the column index grows (first triple of Image Orientation Patient (0020,0037))."""
    column_direction: Point
    """Unit vector, LPS, at a right angle to it: where the row index grows."""
    pixel_spacing_mm: tuple[float, float]
    """Between rows, between columns (Pixel Spacing (0028,0030))."""
    padding: tuple[int, int] | None = None
    """Stored values outside the image, both ends included (PS3.3 C.7.5.1.1.2)."""
    floor: float | None = None
    """The real value of padding, of what lies outside every slice, and of all below it: air in a CT. None: there is
    none, padding is 0."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        rows, columns = self.slices[0].pixels.shape
        return len(self.slices), rows, columns

    @property
    def normal(self) -> Vector:
        """Unit vector along which the slices follow each other: row direction x column direction."""
        return np.cross(self.row_direction, self.column_direction)

    @property
    def positions_mm(self) -> Vector:
        """[slices, 3]: centre of each slice's first pixel, LPS."""
        return np.array([one.position_mm for one in self.slices], np.float64)

    @property
    def distances_mm(self) -> Vector:
        """[slices], increasing: of each slice along the normal, from the first one."""
        return np.asarray((self.positions_mm - self.positions_mm[0]) @ self.normal)

    @property
    def shifts_mm(self) -> Vector:
        """[slices, 2]: how far each slice's first pixel lies down the columns and along the rows from the first's."""
        plane = np.array([self.column_direction, self.row_direction], np.float64)
        return np.asarray((self.positions_mm - self.positions_mm[0]) @ plane.T)


@dataclass(frozen=True)
class Series:
    """What was made of the files of a request."""

    stack: Stack
    modality: str
    body_part: str
    series_instance_uid: str
    tilt_degrees: float = 0.0
    """Between the slices' normal and the line through their first pixels; 0 below 0.1."""
    left_out: tuple[LeftOut, ...] = ()
    warnings: tuple[str, ...] = ()
