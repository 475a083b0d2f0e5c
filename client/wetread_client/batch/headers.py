"""The few attributes of a file's header by which results are found again."""

from __future__ import annotations

import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wetread_client.film import is_picture

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from pydicom.tag import BaseTag

    from wetread_client.batch.archive import Archive

_SOP_UID, _MODALITY, _STUDY_UID, _SERIES_UID = 0x00080018, 0x00080060, 0x0020000D, 0x0020000E
_LAST = _SERIES_UID
_LONGEST = 64  # a UID's letters (PS3.5, 9.1)
# What pydicom raises over files that are broken or none.
_BROKEN = (
    AttributeError, EOFError, KeyError, NotImplementedError, OverflowError, RecursionError, TypeError, ValueError,
    struct.error, zlib.error,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Header:
    """Whose a file is; "" for what it does not say."""

    modality: str = ""
    study_uid: str = ""
    series_uid: str = ""
    sop_uid: str = ""


NO_HEADER = Header()


def look(archive: Archive, address: str) -> Header | None:
    """Read a header of the archive, None of a picture, or of a file that is broken or no DICOM."""
    if is_picture(archive.local_path(address)):
        return None
    try:
        with archive.open(address) as content:
            return _read(content)
    except OSError:
        return None


def may_be_film(file: Path) -> bool:
    """Say whether a file of a folder is one to be read: a picture, or DICOM (PS3.10, 7.1) that is no DICOMDIR."""
    if is_picture(file):
        return True
    try:
        with file.open("rb", buffering=0) as content:
            return content.read(132)[128:] == b"DICM"
    except OSError:
        return True  # taken, so that it is named as one that cannot be read


def look_at(file: Path) -> Header:
    """Read a local file's header; empty where it has none."""
    if is_picture(file):
        return NO_HEADER
    try:
        with file.open("rb") as content:
            return _read(content) or NO_HEADER
    except OSError:
        return NO_HEADER


def _read(content: BinaryIO) -> Header | None:
    from pydicom.errors import InvalidDicomError  # noqa: PLC0415 -- the command's help does without
    from pydicom.filereader import read_partial  # noqa: PLC0415

    def beyond(tag: BaseTag, _vr: str | None, _length: int) -> bool:
        return int(tag) > _LAST

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's, of odd values; a server judges them
            header = read_partial(
                content, beyond, force=True, specific_tags=[_SOP_UID, _MODALITY, _STUDY_UID, _SERIES_UID]
            )
            return Header(
                modality=_text(header.get("Modality")).upper(),
                study_uid=_text(header.get("StudyInstanceUID")),
                series_uid=_text(header.get("SeriesInstanceUID")),
                sop_uid=_text(header.get("SOPInstanceUID")),
            )
    except (InvalidDicomError, *_BROKEN):
        return None


def _text(value: object) -> str:
    """Give a value as it may be written to a line: it may come from a hostile file."""
    return "".join(letter for letter in str(value or "") if letter.isprintable()).strip()[:_LONGEST]
