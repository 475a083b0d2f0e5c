"""DIMSE command sets: group 0000, always little endian with implicit value representation (PS3.7 6.3.1)."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Element(IntEnum):
    """Element numbers of group 0000 (PS3.7 table E.1-1)."""

    AFFECTED_SOP_CLASS_UID = 0x0002
    REQUESTED_SOP_CLASS_UID = 0x0003
    COMMAND_FIELD = 0x0100
    MESSAGE_ID = 0x0110
    MESSAGE_ID_BEING_RESPONDED_TO = 0x0120
    PRIORITY = 0x0700
    COMMAND_DATA_SET_TYPE = 0x0800
    STATUS = 0x0900
    AFFECTED_SOP_INSTANCE_UID = 0x1000
    REQUESTED_SOP_INSTANCE_UID = 0x1001
    EVENT_TYPE_ID = 0x1002
    ACTION_TYPE_ID = 0x1008


class CommandField(IntEnum):
    """Kinds of messages (PS3.7 table E.1-1); a response is its request with the highest bit set."""

    C_STORE_RQ = 0x0001
    C_FIND_RQ = 0x0020
    C_ECHO_RQ = 0x0030
    N_EVENT_REPORT_RQ = 0x0100
    N_ACTION_RQ = 0x0130


RESPONSE = 0x8000
NO_DATA_SET = 0x0101
HAS_DATA_SET = 0x0001
MEDIUM = 0x0000
PENDING = frozenset({0xFF00, 0xFF01})

Command = dict[int, int | str]

_UIDS = frozenset(
    {
        Element.AFFECTED_SOP_CLASS_UID,
        Element.REQUESTED_SOP_CLASS_UID,
        Element.AFFECTED_SOP_INSTANCE_UID,
        Element.REQUESTED_SOP_INSTANCE_UID,
    }
)
_NUMBERS = frozenset(Element) - _UIDS
_HEADER = struct.Struct("<HHI")
_US = struct.Struct("<H")


def encode(command: Mapping[int, int | str]) -> bytes:
    """Give the bytes of a command set, its group length first, its elements in ascending order."""
    body = b"".join(_element(number, command[number]) for number in sorted(command))
    return _HEADER.pack(0, 0, 4) + struct.pack("<I", len(body)) + body


def decode(data: bytes) -> Command:
    """Read a command set without the elements that nothing here needs. ValueError when cut or of another group."""
    command: Command = {}
    at = 0
    while at < len(data):
        if at + 8 > len(data):
            raise ValueError("a command set ends within an element")
        group, element, length = _HEADER.unpack_from(data, at)
        at += 8
        value = data[at : at + length]
        if group != 0 or len(value) != length:
            raise ValueError("a command set ends within an element or holds another group")
        at += length
        if element in _UIDS:
            command[element] = value.rstrip(b"\0 ").decode("ascii", "replace")
        elif element in _NUMBERS and length == _US.size:
            command[element] = int(_US.unpack(value)[0])
    return command


def number(command: Mapping[int, int | str], element: Element) -> int:
    """Give a number of a command set; ValueError where it has none."""
    value = command.get(element)
    if not isinstance(value, int):
        raise ValueError(f"a command set without {element.name}")
    return value


def _element(number: int, value: int | str) -> bytes:
    content = _US.pack(value) if isinstance(value, int) else value.encode("ascii")
    content += b"\0" * (len(content) % 2)
    return _HEADER.pack(0, number, len(content)) + content
