"""Analytic phantoms: bodies known at every point of the patient, sampled where each slice of a scan truly lies."""

from collections.abc import Callable
from dataclasses import dataclass
from math import radians, tan

import numpy as np
import numpy.typing as npt
from series_files import series_files
from wetread_preprocess.volumes import Grid, Slice, Stack

Points = npt.NDArray[np.float64]
Body = Callable[[Points], npt.NDArray[np.float64]]
"""Value at each of [..., 3] points in mm, LPS."""

PEAK = 8000.0
CENTRE_MM = (12.0, -30.0, 55.0)
_SPOTS_MM = np.array([(9.3, -6.1, 4.7), (-8.2, 7.9, -7.6), (7.4, 9.2, -9.1), (-9.7, -8.3, 6.2)])
LANDMARKS_MM = CENTRE_MM + _SPOTS_MM
LANDMARK_SIGMA_MM = 2.6
SEMI_AXES_MM = (19.0, 13.0, 9.0)
EDGE = 0.12
"""Width of the ellipsoid's edge, in shares of its radius."""


@dataclass(frozen=True)
class Scan:
    """A series whose middle lies at `CENTRE_MM`."""

    row_direction: tuple[float, float, float] = (1.0, 0.0, 0.0)
    column_direction: tuple[float, float, float] = (0.0, 1.0, 0.0)
    distances_mm: tuple[float, ...] = tuple(np.arange(28) * 2.3)
    rows: int = 56
    columns: int = 48
    pixel_spacing_mm: tuple[float, float] = (1.1, 1.3)
    tilt_degrees: float = 0.0
    """Of the gantry: how each slice is moved down its columns."""

    @property
    def positions_mm(self) -> Points:
        across, down = np.array(self.row_direction), np.array(self.column_direction)
        normal = np.cross(across, down)
        distances = np.array(self.distances_mm) - np.mean([self.distances_mm[0], self.distances_mm[-1]])
        corner = -down * (self.rows - 1) / 2 * self.pixel_spacing_mm[0]
        corner = corner - across * (self.columns - 1) / 2 * self.pixel_spacing_mm[1]
        slanted = normal + down * tan(radians(self.tilt_degrees))
        return np.asarray(CENTRE_MM + corner + distances[:, None] * slanted)

    @property
    def points_mm(self) -> Points:
        """[slices, rows, columns, 3]: each pixel's centre."""
        down = np.arange(self.rows)[:, None, None] * self.pixel_spacing_mm[0] * np.array(self.column_direction)
        across = np.arange(self.columns)[:, None] * self.pixel_spacing_mm[1] * np.array(self.row_direction)
        return np.asarray(self.positions_mm[:, None, None, :] + down + across)

    def pixels(self, body: Body) -> npt.NDArray[np.int16]:
        return np.round(PEAK * body(self.points_mm)).astype(np.int16)

    def stack(self, body: Body) -> Stack:
        slices = tuple(
            Slice(n + 1, 0, f"1.2.{n}", tuple(position.tolist()), 1.0, 0.0, pixels)
            for n, (position, pixels) in enumerate(zip(self.positions_mm, self.pixels(body), strict=True))
        )
        return Stack(slices, self.row_direction, self.column_direction, self.pixel_spacing_mm)

    def files(self, body: Body, **options: object) -> list[bytes]:
        return series_files(
            self.pixels(body), positions_mm=self.positions_mm, row_direction=self.row_direction,
            column_direction=self.column_direction, pixel_spacing_mm=self.pixel_spacing_mm, **options,
        )  # fmt: skip


def landmarks(points: Points) -> npt.NDArray[np.float64]:
    """Four Gaussian spots off the centre and off every symmetry."""
    away = ((points[..., None, :] - LANDMARKS_MM) ** 2).sum(axis=-1)
    return np.asarray(np.exp(-away / (2 * LANDMARK_SIGMA_MM**2)).sum(axis=-1))


def ellipsoid(points: Points) -> npt.NDArray[np.float64]:
    """A tilted ellipsoid with a smooth edge."""
    radius = np.linalg.norm((points - CENTRE_MM) @ turned((1.0, 2.0, 0.5), 35.0) / SEMI_AXES_MM, axis=-1)
    return np.asarray(1 / (1 + np.exp(4 * (radius - 1) / EDGE)))


def ellipsoid_volume_mm3() -> float:
    """Integral of `ellipsoid`."""
    radius = np.linspace(0, 3, 300_001)
    shell = 4 * np.pi * radius**2 / (1 + np.exp(4 * (radius - 1) / EDGE))
    return float(shell.sum() * radius[1] * np.prod(SEMI_AXES_MM))


def turned(axis: tuple[float, float, float], degrees: float) -> npt.NDArray[np.float64]:
    """The rotation about an axis."""
    x, y, z = np.array(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(radians(degrees)) * cross + (1 - np.cos(radians(degrees))) * cross @ cross)


def centroids_mm(values: npt.NDArray[np.float32], grid: Grid) -> Points:
    """Where each landmark is found: the weighted mean place of what lies around where it should be."""
    to_index = np.linalg.inv(grid.affine)
    found = []
    for landmark in LANDMARKS_MM:
        middle = (to_index @ [*landmark, 1])[:3]
        reach = 3 * LANDMARK_SIGMA_MM / np.array(grid.spacing_mm)
        first = np.maximum(np.ceil(middle - reach), 0).astype(int)
        after = np.minimum(np.floor(middle + reach) + 1, grid.shape).astype(int)
        box = values[tuple(slice(a, b) for a, b in zip(first, after, strict=True))]
        points = (np.stack(np.indices(box.shape), axis=-1) + first) @ grid.affine[:3, :3].T + grid.affine[:3, 3]
        weights = box * (np.linalg.norm(points - landmark, axis=-1) < 3 * LANDMARK_SIGMA_MM).astype(np.float64)
        found.append((points * weights[..., None]).sum(axis=(0, 1, 2)) / weights.sum())
    return np.array(found)
