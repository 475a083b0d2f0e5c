"""The beginning of a DICOM file, as far as the door must understand it: its meta information and who it is."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from wetread_gateway.errors import BadInstance
from wetread_gateway.triage.header import peek

META_LIMIT = 64 << 10
"""Bytes in which the file meta information must end; real ones have a few hundred."""
HEAD_LIMIT = 128 << 10
"""Bytes of a file in which its UIDs are looked for."""

_PREAMBLE = 132
_LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_UID = re.compile(rb"[0-9A-Za-z.-]{1,64}")  # as generous as triage: what some modalities write is kept as it is
_META_UIDS = {0x0002: "SOP class", 0x0003: "SOP instance", 0x0010: "transfer syntax"}  # PS3.10, table 7.1-1
_SOP_CLASS, _SOP_INSTANCE, _STUDY = 0x00080016, 0x00080018, 0x0020000D


@dataclass(frozen=True, slots=True)
class FileMeta:
    """What the sender's file meta information says; the dataset begins at byte `size`."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    size: int


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a dataset says it is; empty where its first bytes do not tell."""

    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str
    is_conclusive: bool
    """What is empty is missing; otherwise it may follow later."""


def read_meta(head: bytes | bytearray, *, at_end: bool = False) -> FileMeta | None:
    """Read the file meta information (PS3.10, 7.1); None while `head` is too short, BadInstance where it is none.

    Its group length is not trusted: some writers count wrongly.
    """
    if len(head) < _PREAMBLE:
        if at_end:
            raise BadInstance("it is shorter than a DICOM file's preamble")
        return None
    if head[128:_PREAMBLE] != b"DICM":
        raise BadInstance("it is no DICOM file: the prefix DICM is missing")
    uids: dict[int, str] = {}
    at = _PREAMBLE
    while (found := _element(head, at)) is not None:
        group, element, start, end = found
        if group != 2:
            return _meta(uids, at)
        if element in _META_UIDS and end <= len(head):
            uids[element] = _uid(bytes(head[start:end]), _META_UIDS[element])
        at = end
    if at_end or len(head) >= META_LIMIT or at >= META_LIMIT:
        raise BadInstance("its file meta information does not end")
    return None


def _element(head: bytes | bytearray, at: int) -> tuple[int, int, int, int] | None:
    """Give group, element, and where its value begins and ends; None when its head is not there yet."""
    if at + 8 > len(head):
        return None
    group, element, vr, length = struct.unpack_from("<HH2sH", head, at)
    if group != 2 or vr not in _LONG_VRS:  # beyond group 2 nothing is known of how lengths are written
        return group, element, at + 8, at + 8 + length
    if at + 12 > len(head):
        return None
    (length,) = struct.unpack_from("<I", head, at + 8)
    return group, element, at + 12, at + 12 + length


def identify(head: bytes | bytearray, *, is_whole: bool) -> Identity:
    """Read the UIDs of a file's first bytes; `is_whole`: they are all of it. BadInstance where they are no DICOM."""
    header = peek(bytes(head), (_SOP_CLASS, _SOP_INSTANCE, _STUDY))
    values = {
        tag: _uid(element.value, "own") for tag, element in header.elements.items() if element.value.strip(b"\0 ")
    }
    return Identity(
        values.get(_SOP_CLASS, ""),
        values.get(_SOP_INSTANCE, ""),
        values.get(_STUDY, ""),
        is_conclusive=is_whole or header.has_pixels,
    )


def _meta(uids: dict[int, str], size: int) -> FileMeta:
    missing = [name for element, name in _META_UIDS.items() if element not in uids]
    if missing:
        raise BadInstance(f"its file meta information has no {', '.join(missing)} UID")
    return FileMeta(uids[0x0002], uids[0x0003], uids[0x0010], size)


def _uid(value: bytes, name: str) -> str:
    uid = value.rstrip(b"\0 ")
    if not _UID.fullmatch(uid):
        raise BadInstance(f"its {name} UID is none")
    return uid.decode("ascii")
