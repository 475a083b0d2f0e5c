"""The files that `wetread preprocess` writes: whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy.typing as npt

from wetread_preprocess.volumes.grid import Affine
from wetread_preprocess.volumes.nifti import ENDINGS, is_nifti_name, write_nifti


@dataclass(frozen=True)
class Outputs:
    """Where they go."""

    volume: Path
    document: Path
    mask: Path | None = None

    @classmethod
    def at(cls, volume: Path, mask: Path | None = None, *, overwrite: bool = False) -> Self:
        """The JSON lies beside the volume: NAME.json for NAME.nii.gz.

        Raises:
            ValueError: a name that is no NIfTI file's, a folder that is not there, or a file that is.
        """
        for path in (volume, mask):
            if path is not None and not is_nifti_name(path):
                raise ValueError(f"{path} ends in neither {' nor '.join(ENDINGS)}, the formats that are written")
        ending = next(ending for ending in ENDINGS if volume.name.lower().endswith(ending))
        made = cls(volume, volume.with_name(volume.name[: -len(ending)] + ".json"), mask)
        for path in filter(None, (made.volume, made.document, made.mask)):
            if not path.parent.is_dir():
                raise ValueError(f"there is no folder {path.parent} to write to")
            if path.exists() and not (overwrite and path.is_file()):
                raise ValueError(f"{path} is there already; --force overwrites files")
        if mask == volume:
            raise ValueError("the volume and its mask are two files")
        return made


def write_volume(
    path: Path, values: npt.NDArray[Any], ras_affine: Affine, *, threads: int = 1, placed: bool = True
) -> None:
    """Write a NIfTI-1 file, compressed when its name says so; see `write_nifti`."""
    with _replacing(path) as file:
        write_nifti(
            file,
            values,
            ras_affine,
            compress=path.name.lower().endswith(".gz"),
            threads=threads,
            placed=placed,
            description="wetread preprocess; not for clinical use",
        )


def write_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8."""
    with _replacing(path) as file:
        file.write(text.encode())


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write to that takes its name once it is whole and on the disk."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
