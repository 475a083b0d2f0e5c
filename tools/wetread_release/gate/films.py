"""The films of a gate: a folder of DICOM files or pictures, labelled by class folders or not; else synthetic ones."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wetread_client.film import is_picture, secondary_capture
from wetread_client.film_files import find_films

from wetread_release.errors import Absent, BadDraft
from wetread_release.golden import draw_films

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SYNTHETIC_A_LABEL = 32
_FIRST_SEED = 5000
"""Far from the seeds that training, tests and golden films draw."""


@dataclass(frozen=True)
class GateFilm:
    """One film. `name` is for humans and holds no patient: a picture's path in its folder, a DICOM file's UID."""

    name: str
    path: Path | None
    content: bytes = b""
    """Of a film that lies in no file."""
    group: str = ""
    """The class folder that it lies in, or the label that it was drawn as."""
    patient: str = ""
    """Equal for all films of a patient; empty: not known."""

    def load(self) -> bytes:
        """Give the bytes of a DICOM file; pictures are wrapped. Rejected or OSError when it cannot be."""
        if self.path is None:
            return self.content
        return secondary_capture(self.path) if is_picture(self.path) else self.path.read_bytes()


@dataclass(frozen=True)
class FilmSet:
    """The films of one run, and where they are from."""

    films: tuple[GateFilm, ...]
    where: str
    synthetic: bool = False

    @property
    def patients(self) -> frozenset[str]:
        """Give the known patients, hashed as build.json has them."""
        return frozenset(patient_hash(film.patient) for film in self.films if film.patient)

    def at_most(self, count: int) -> FilmSet:
        """Choose `count` films, the same ones each time, in their order."""
        if count >= len(self.films):
            return self
        chosen = sorted(random.Random(0).sample(range(len(self.films)), count))  # noqa: S311 - no secret
        return replace(self, films=tuple(self.films[index] for index in chosen), where=f"{self.where}, {count} chosen")

    def truth(self, labels: Sequence[str]) -> dict[str, tuple[bool, ...]]:
        """Give for each labelled film, by name, whether each finding of `labels` is there.

        A class folder named as a finding holds that one; every other class folder then holds none. Where no folder is
        named as a finding, nothing is known. Synthetic films are no truth: they were drawn to be read as their label.
        """
        wanted = [_plain(label) for label in labels]
        if self.synthetic or not any(_plain(film.group) in wanted for film in self.films):
            return {}
        return {film.name: tuple(label == _plain(film.group) for label in wanted) for film in self.films if film.group}


def patient_hash(patient: str) -> str:
    """SHA-256 of a patient key: what build.json and gate records hold in its place."""
    return hashlib.sha256(patient.encode()).hexdigest()


def films_in(folder: Path) -> FilmSet:
    """Find all films below a folder; Absent when there are none."""
    if not folder.is_dir():
        raise Absent(f"{folder} is no folder of films")
    films = tuple(_film(folder, path) for path in find_films([folder]).files)
    if not films:
        raise Absent(f"{folder} holds no DICOM file and no picture")
    return FilmSet(_named_once(films), folder.name)


def films_of_test_patients(folder: Path, seed: int) -> FilmSet:
    """Find the films of the patients that a training with this split seed kept for its test.

    Raises:
        BadDraft: the folder is not one of training films.
    """
    from wetread_models.data import DataError, list_films, split_patients  # noqa: PLC0415 - brings OpenCV

    try:
        chosen = split_patients(list_films(folder), seed).test
    except DataError as error:
        raise BadDraft(str(error)) from error
    films = (
        GateFilm(f"{f.path.parent.name}/{f.path.name}", f.path, b"", f.path.parent.name, f.patient) for f in chosen
    )
    return FilmSet(tuple(films), f"{folder.name}, test patients of split {seed}")


def synthetic_films(root: Path, a_label: int = SYNTHETIC_A_LABEL) -> FilmSet:
    """Draw films with the film model of `root`; Absent where there is none."""
    from wetread_models.synthetic import LABELS  # noqa: PLC0415 - brings OpenCV

    seeds = [(str(label), _FIRST_SEED + number) for label in LABELS for number in range(a_label)]
    drawn = draw_films(root, seeds)
    films = (
        GateFilm(f"synthetic {label} {seed}", None, film, label)
        for (label, seed), film in zip(seeds, drawn, strict=True)
    )
    return FilmSet(tuple(films), "synthetic films, of no patient", synthetic=True)


def _plain(label: str) -> str:
    """Bring a label and a folder's name to one spelling."""
    return label.casefold().replace("_", " ").replace("-", " ").strip()


def _film(folder: Path, path: Path) -> GateFilm:
    inside = path.relative_to(folder)
    group = inside.parts[0] if len(inside.parts) > 1 else ""
    if is_picture(path):
        return GateFilm(inside.as_posix(), path, b"", group, _patient_of_name(path.name, group))
    uid, patient = _header(path)
    return GateFilm(
        uid or f"file {hashlib.sha256(inside.as_posix().encode()).hexdigest()[:12]}", path, b"", group, patient
    )


def _patient_of_name(name: str, group: str) -> str:
    from wetread_models.data import CLASS_FOLDERS, DataError, patient_of  # noqa: PLC0415 - brings OpenCV

    try:
        return patient_of(name, CLASS_FOLDERS[group])
    except (DataError, KeyError):
        return ""


def _header(path: Path) -> tuple[str, str]:
    """Read SOP Instance UID and patient (with its issuer) of a DICOM file; empty where it cannot be read."""
    import pydicom  # noqa: PLC0415 - only DICOM files need it
    from pydicom.errors import InvalidDicomError  # noqa: PLC0415

    wanted = ["SOPInstanceUID", "PatientID", "IssuerOfPatientID"]
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(wanted))
    except (InvalidDicomError, OSError, ValueError, KeyError, NotImplementedError):
        return "", ""  # the server will say what is wrong with it
    patient, issuer = str(dataset.get("PatientID", "")), str(dataset.get("IssuerOfPatientID", ""))
    return str(dataset.get("SOPInstanceUID", "")), f"{issuer}/{patient}" if issuer else patient


def _named_once(films: tuple[GateFilm, ...]) -> tuple[GateFilm, ...]:
    """Number films of equal names: the same instance may lie in a folder twice."""
    met: dict[str, int] = {}
    named = []
    for film in films:
        met[film.name] = count = met.get(film.name, 0) + 1
        named.append(film if count == 1 else replace(film, name=f"{film.name} ({count})"))
    return tuple(named)
