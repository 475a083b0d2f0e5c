"""The films of a training folder, and a split that keeps every patient on one side."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

IMAGE_SIZE = 224
NORMAL, PNEUMONIA = 0, 1
CLASS_FOLDERS = {"NORMAL": NORMAL, "PNEUMONIA": PNEUMONIA}
PICTURES = {".jpeg", ".jpg", ".png"}

# personN restarts in each of these two, and NORMAL2 continues the numbering of NORMAL.
_PNEUMONIA_PATIENT = re.compile(r"(person\d+)_(bacteria|virus)_")
_NORMAL_PATIENT = re.compile(r"(?:NORMAL2-)?(IM-\d+)")


class DataError(ValueError):
    """A folder or a file is not what training or evaluation expects; the message names it."""


@dataclass(frozen=True)
class FilmFile:
    """One labelled film on disk."""

    path: Path
    label: int
    patient: str
    """Equal for all films of one patient, different between patients of different classes."""


@dataclass(frozen=True)
class Split:
    """Films by purpose; no patient is in two of them."""

    train: tuple[FilmFile, ...]
    calibration: tuple[FilmFile, ...]
    test: tuple[FilmFile, ...]

    @property
    def held_out(self) -> tuple[FilmFile, ...]:
        """Calibration and test together: what the network never saw."""
        return self.calibration + self.test


def data_folder() -> Path:
    """The folder of real images: WETREAD_DATA, or ../shared/data beside the working folder."""
    return Path(os.environ.get("WETREAD_DATA") or "../shared/data")


def patient_of(name: str, label: int) -> str:
    """The patient key in a file's name; raises DataError when the name follows no known pattern."""
    found = (_PNEUMONIA_PATIENT if label == PNEUMONIA else _NORMAL_PATIENT).match(name)
    if found is None:
        raise DataError(
            f"{name}: no patient in this name (expected personN_bacteria_..., personN_virus_... or IM-N-...)"
        )
    return "-".join(reversed(found.groups()))


def list_films(folder: Path, *, known_patients: bool = True) -> list[FilmFile]:
    """All films under folder/NORMAL and folder/PNEUMONIA in a fixed order; DataError where one is missing or empty.

    Without `known_patients`, a film whose name tells no patient counts as a patient of its own: enough to evaluate,
    not to train.
    """
    films = []
    for name, label in CLASS_FOLDERS.items():
        if not (folder / name).is_dir():
            raise DataError(f"{folder / name} is missing: the folder must hold NORMAL and PNEUMONIA")
        paths = sorted(p for p in (folder / name).iterdir() if p.suffix.lower() in PICTURES)
        if not paths:
            raise DataError(f"{folder / name} holds no .jpeg, .jpg or .png film")
        for path in paths:
            try:
                patient = patient_of(path.name, label)
            except DataError:
                if known_patients:
                    raise
                patient = f"{name}/{path.name}"
            films.append(FilmFile(path, label, patient))
    return films


def split_patients(films: Sequence[FilmFile], seed: int, held_out: float = 0.2) -> Split:
    """Hold out a share of each class's patients, and halve those into calibration and test."""
    rng = np.random.default_rng(seed)
    part: dict[str, str] = {}
    for label in (NORMAL, PNEUMONIA):
        patients = rng.permutation(sorted({f.patient for f in films if f.label == label}))
        count = max(2, round(held_out * len(patients)))
        for index, patient in enumerate(patients):
            part[patient] = "train" if index >= count else ("calibration" if index % 2 else "test")
    return Split(*(tuple(f for f in films if part[f.patient] == name) for name in ("train", "calibration", "test")))


def read_picture(path: Path) -> npt.NDArray[np.uint8]:
    """One film, gray and stretched to 224 x 224 (uint8), as serving stretches it."""
    picture = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise DataError(f"{path} is no readable picture")
    if picture.shape != (IMAGE_SIZE, IMAGE_SIZE):
        picture = cv2.resize(picture, (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_AREA)
    return np.asarray(picture, dtype=np.uint8)


def read_pictures(films: Iterable[FilmFile]) -> npt.NDArray[np.uint8]:
    """All films as uint8 [n,224,224]."""
    return np.stack([read_picture(film.path) for film in films])


def as_image(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Pictures uint8 [n,224,224] as IMAGE float32 [n,1,224,224], (v - 127) / 128."""
    return ((pictures.astype(np.float32) - 127.0) / 128.0)[:, None]
