"""Sort files into films and series by a quick look at their headers."""

from __future__ import annotations

import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wetread_client.choosing import is_series
from wetread_client.film import is_picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pydicom.tag import BaseTag

_MODALITY, _BODY_PART, _SERIES_UID, _SERIES_NUMBER = 0x00080060, 0x00180015, 0x0020000E, 0x00200011
_LAST = _SERIES_NUMBER  # no header is read beyond it
# PS3.3 C.7.3.1.1.1, those of objects that may lie beside images and are none.
_NO_IMAGES = frozenset({"AU", "DOC", "KO", "PLAN", "PR", "REG", "RTDOSE", "RTPLAN", "RTSTRUCT", "SEG", "SR"})
_LONGEST = 16  # letters of a text, CS in the standard
# What pydicom raises over files that are broken or none.
_BROKEN = (
    AttributeError, EOFError, KeyError, NotImplementedError, OverflowError, RecursionError, TypeError, ValueError,
    struct.error, zlib.error,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Work:
    """What is read at once: a film's one file, or a series' files in the order they were found.

    `modality`, `body_part`: as the file says, "" where it does not; `number`: Series Number (0020,0011).
    """

    files: tuple[Path, ...]
    is_series: bool = False
    modality: str = ""
    body_part: str = ""
    number: int | None = None

    @property
    def folder(self) -> Path:
        """Where the first file lies."""
        return self.files[0].parent


@dataclass(frozen=True, slots=True)
class Sorted:
    """Films and series in the order in which their first files were found; `skipped` counts objects beside images."""

    works: tuple[Work, ...]
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class _Header:
    modality: str
    body_part: str
    series: str
    number: int | None


def as_films(files: Iterable[Path]) -> Sorted:
    """Take each file for a film, unseen."""
    return Sorted(tuple(Work((file,)) for file in files))


def sort(
    files: Iterable[Path],
    *,
    named: frozenset[Path] = frozenset(),
    by_series: Callable[[str], bool] = is_series,
) -> Sorted:
    """Put the files of each series together, by Series Instance UID (0020,000E); films stay single.

    `by_series`: says of a Modality (0008,0060) whether it is read by the series. `named`: files that are read even if
    they hold no image, for the user named them. What cannot be looked into is left for a server to name.
    """
    works: dict[object, list[tuple[Path, _Header]]] = {}
    skipped = 0
    for file in files:
        header = None if is_picture(file) else _look(file)
        if header is None or not header.modality:
            works[file] = [(file, _Header("", "", "", None))]
        elif header.modality in _NO_IMAGES and file not in named:
            skipped += 1
        elif by_series(header.modality):
            works.setdefault((header.series or file.parent, header.modality), []).append((file, header))
        else:
            works[file] = [(file, header)]
    return Sorted(tuple(_work(found, by_series) for found in works.values()), skipped)


def _work(found: list[tuple[Path, _Header]], by_series: Callable[[str], bool]) -> Work:
    first = found[0][1]
    return Work(
        files=tuple(file for file, _ in found),
        is_series=bool(first.modality) and by_series(first.modality),
        modality=first.modality,
        body_part=next((header.body_part for _, header in found if header.body_part), ""),
        number=first.number,
    )


def _look(file: Path) -> _Header | None:
    """Read what is wanted of a DICOM file's header, None of one that is broken, none, or not to be opened."""
    from pydicom.errors import InvalidDicomError  # noqa: PLC0415 -- the command's help does without
    from pydicom.filereader import read_partial  # noqa: PLC0415

    def beyond(tag: BaseTag, _vr: str | None, _length: int) -> bool:
        return int(tag) > _LAST

    try:
        with file.open("rb") as content, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's, of odd values; a server judges them
            header = read_partial(
                content, beyond, force=True, specific_tags=[_MODALITY, _BODY_PART, _SERIES_UID, _SERIES_NUMBER]
            )
            number = header.get("SeriesNumber")
            return _Header(
                modality=_text(header.get("Modality")),
                body_part=_text(header.get("BodyPartExamined")),
                series=str(header.get("SeriesInstanceUID") or ""),
                number=None if number is None else int(number),
            )
    except (OSError, InvalidDicomError, *_BROKEN):
        return None


def _text(value: object) -> str:
    """Give a code string as it is shown: it may come from a hostile file."""
    text = "".join(letter for letter in str(value or "").upper() if letter.isprintable()).strip()
    return text[:_LONGEST]
