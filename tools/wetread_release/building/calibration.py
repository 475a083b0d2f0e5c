"""The films that INT8 is calibrated with: drawn from a folder, read as the pipeline reads them, and written down."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wetread_release.digest import joined_digest
from wetread_release.errors import BadModel
from wetread_release.gate.films import GateFilm, films_in, patient_hash

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

FILMS = 256
LEAST_FILMS = 16


@dataclass(frozen=True)
class CalibrationData:
    """What build.json keeps of the data; no name of a file or a patient."""

    folder: str
    """Its name."""
    films: int
    sha256: str
    """Over the content of the films that were used, in the order of their names."""
    names_sha256: str
    """Over the names of all films in the folder."""
    patients: tuple[str, ...]
    """SHA-256 of each known patient, sorted: the gate must not read films of these."""
    films_without_patient: int
    split_seed: int | None
    """Only the training patients of this split were used; None: all."""
    seed: int
    """Of the draw."""


def read_calibration(
    folder: Path,
    recipe_folder: Path,
    count: int,
    seed: int,
    split_seed: int | None,
    done: Callable[[int, int], None] = lambda _done, _all: None,
) -> tuple[npt.NDArray[np.float32], CalibrationData]:
    """Draw `count` films of a folder of DICOM files or pictures; give IMAGE [n, ...] and what they were.

    Raises:
        Absent: the folder holds no films.
        BadModel: they are too few, or one cannot be read by the pipeline's recipe.
    """
    from wetread_models.data import DataError  # noqa: PLC0415 - brings OpenCV
    from wetread_models.film_images import film_images  # noqa: PLC0415

    there = films_in(folder).films if split_seed is None else _training_films(folder, split_seed)
    if len(there) < LEAST_FILMS:
        raise BadModel(f"{folder} holds {len(there)} films: ranges want {LEAST_FILMS} at least, better {FILMS}")
    drawn = np.sort(np.random.default_rng(seed).permutation(len(there))[:count])
    films = sorted((there[index] for index in drawn.tolist()), key=lambda film: film.name)
    digests: dict[str, str] = {}

    def content(film: GateFilm) -> bytes:
        data = film.load()
        source = film.path.read_bytes() if film.path else data  # a picture is wrapped anew each time
        digests[film.name] = hashlib.sha256(source).hexdigest()
        return data

    try:
        loads = [lambda film=film: content(film) for film in films]
        images = film_images(recipe_folder, loads, lambda read: done(read, len(films)))
    except DataError as error:
        raise BadModel(f"{folder}: {error}") from error
    return images, CalibrationData(
        folder.name,
        len(films),
        joined_digest(digests),
        hashlib.sha256("".join(f"{name}\n" for name in sorted(film.name for film in there)).encode()).hexdigest(),
        tuple(sorted({patient_hash(film.patient) for film in films if film.patient})),
        sum(not film.patient for film in films),
        split_seed,
        seed,
    )


def _training_films(folder: Path, seed: int) -> tuple[GateFilm, ...]:
    from wetread_models.data import DataError, list_films, split_patients  # noqa: PLC0415 - brings OpenCV

    try:
        chosen = split_patients(list_films(folder), seed).train
    except DataError as error:
        raise BadModel(f"--calibration-split: {error}") from error
    return tuple(
        GateFilm(f"{film.path.parent.name}/{film.path.name}", film.path, b"", film.path.parent.name, film.patient)
        for film in chosen
    )
