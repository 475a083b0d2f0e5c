"""Find the films that a user names: files, folders, DICOMDIRs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wetread_client.film import is_picture

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class FilmFiles:
    """The files to read, in order and each once; `skipped` counts what folders held besides films."""

    files: tuple[Path, ...]
    skipped: int


def find_films(paths: Iterable[Path]) -> FilmFiles:
    """Expand folders (all below them) and DICOMDIRs (the files they reference); a file named itself is always taken.

    In a folder only DICOM files and pictures count. A DICOMDIR within a folder is passed over: its files lie beside it.
    """
    files: dict[Path, None] = {}
    skipped = 0
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.is_file())
            films = [file for file in inside if file.name != "DICOMDIR" and (is_picture(file) or _is_dicom(file))]
            skipped += len(inside) - len(films)
            files.update(dict.fromkeys(films))
        elif path.name == "DICOMDIR":
            files.update(dict.fromkeys(_referenced(path)))
        else:
            files[path] = None
    return FilmFiles(tuple(files), skipped)


def _is_dicom(path: Path) -> bool:
    """Look for the preamble and prefix of a DICOM file (PS3.10, 7.1)."""
    try:
        with path.open("rb", buffering=0) as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return True  # taken, so that it is named as a file that cannot be read


def _referenced(dicomdir: Path) -> list[Path]:
    """Give the files of a DICOMDIR's image records, those that are not there too (PS3.3, F.3)."""
    import pydicom  # noqa: PLC0415 -- only a DICOMDIR needs it

    records = pydicom.dcmread(dicomdir).get("DirectoryRecordSequence", [])
    files = []
    for record in records:
        parts = record.get("ReferencedFileID")
        if record.get("DirectoryRecordType") == "IMAGE" and parts:
            files.append(dicomdir.parent.joinpath(*([parts] if isinstance(parts, str) else parts)))
    return files
