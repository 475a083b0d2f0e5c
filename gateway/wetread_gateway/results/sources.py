"""The source images of a report: the first of many is read in full, of the others what they do not share with it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from wetread_gateway.errors import BadInstance, CannotReport
from wetread_gateway.results import repair
from wetread_gateway.results.content import LONG
from wetread_gateway.results.source import Source
from wetread_gateway.triage.header import Header, read_header

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_SOP_CLASS, _SOP_INSTANCE, _SERIES, _FRAME_OF_REFERENCE = 0x00080016, 0x00080018, 0x0020000E, 0x00200052
# What must be equal, byte for byte, in files whose patient and study are taken for the first one's: Specific Character
# Set, Patient's Name, Patient ID, Issuer of Patient ID, Study Instance UID, Modality.
_SHARED = (0x00080005, 0x00100010, 0x00100020, 0x00100021, 0x0020000D, 0x00080060)
_WANTED = frozenset((*_SHARED, _SOP_CLASS, _SOP_INSTANCE, _SERIES, _FRAME_OF_REFERENCE))


def sources_of(files: Sequence[Path]) -> tuple[Source, ...]:
    """Read the headers of a report's images; CannotReport with the reason when no report can be made of them.

    Of more than a few images all but the first are looked at for their UIDs alone, and have no descriptors of their
    own; one that names another patient, study or modality than the first is read in full.
    """
    if len(files) <= LONG:
        return tuple(map(Source.of_file, files))
    first, header = Source.of_file(files[0]), _header(files[0])
    shared = _values(header, _SHARED)
    return (first, *(_like(first, shared, file) for file in files[1:]))


def _like(first: Source, shared: tuple[bytes, ...], file: Path) -> Source:
    header = _header(file)
    if _values(header, _SHARED) != shared:
        return Source.of_file(file)
    tags = (_SOP_CLASS, _SOP_INSTANCE, _SERIES, _FRAME_OF_REFERENCE)
    sop_class, sop_instance, series, frame = (repair.uid(v.decode("ascii", "replace")) for v in _values(header, tags))
    if not (sop_class and sop_instance and series):
        raise CannotReport("a source has no valid SOPClassUID, SOPInstanceUID or SeriesInstanceUID")
    return replace(
        first,
        sop_class_uid=sop_class,
        sop_instance_uid=sop_instance,
        series_instance_uid=series,
        frame_of_reference_uid=frame,
        instance_number=None,
        descriptors=(),
    )


def _header(file: Path) -> Header:
    try:
        return read_header(file, _WANTED)
    except BadInstance as error:
        raise CannotReport(f"a source cannot be read: {error}") from error


def _values(header: Header, tags: Sequence[int]) -> tuple[bytes, ...]:
    return tuple(header.elements[tag].value if tag in header.elements else b"" for tag in tags)
