"""A grid of voxels in the patient: shape, and where each index lies. Inside it is DICOM's LPS, millimetres."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

Affine = npt.NDArray[np.float64]
Triple = tuple[int, int, int]

LETTERS = ("LR", "PA", "SI")
"""For each of LPS: the letter of its positive and of its negative direction."""


@dataclass(frozen=True)
class Grid:
    """Voxels on parallel planes at right angles to each other."""

    shape: Triple
    """Of the array, axis 0 first."""
    affine: Affine
    """float64 [4, 4]: array index (axis 0, 1, 2, 1) of a voxel's centre -> x, y, z, 1 in mm, LPS."""

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Between voxels' centres along each array axis."""
        first, second, third = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return first, second, third

    @property
    def orientation(self) -> str:
        """Where each array axis leads, to the nearest patient axis: `SPL` is slices upwards, rows to the back, columns
        to the left."""
        return "".join(
            LETTERS[axis][int(self.affine[axis, column] < 0)] for column, axis in enumerate(axes_of(self.affine))
        )

    @property
    def ras_affine(self) -> Affine:
        """The affine as NIfTI and nibabel state it: +x to the right, +y to the front."""
        return np.diag([-1.0, -1.0, 1.0, 1.0]) @ self.affine

    def cropped(self, start: Triple, shape: Triple) -> Self:
        """The part of it that begins at array index `start`."""
        affine = self.affine.copy()
        affine[:, 3] = self.affine @ np.array([*start, 1.0])
        return type(self)(shape, affine)


def axes_of(affine: Affine) -> Triple:
    """Give the patient axis (0-2: L, P, S) that each array axis is nearest to, each once, the clearest first."""
    left = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    found = [0, 0, 0]
    for _ in range(3):
        axis, column = np.unravel_index(int(np.argmax(left)), left.shape)
        found[int(column)] = int(axis)
        left[axis, :] = left[:, column] = -1.0
    return found[0], found[1], found[2]
