"""DIMSE command sets (PS3.7, 6.3.1): Implicit VR Little Endian, group 0000."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wetread_gateway.dimse.status import CommandField, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

NO_DATASET = 0x0101  # PS3.7, E.1: Command Data Set Type
_UID = re.compile(r"[0-9.]{1,64}")

# PS3.7, table E.1-1: element of group 0000.
_AFFECTED_CLASS, _REQUESTED_CLASS = 0x0002, 0x0003
_FIELD, _MESSAGE_ID, _RESPONDED_TO, _DATASET_TYPE, _STATUS = 0x0100, 0x0110, 0x0120, 0x0800, 0x0900
_AFFECTED_INSTANCE, _REQUESTED_INSTANCE, _EVENT_TYPE = 0x1000, 0x1001, 0x1002


class BadCommand(ValueError):
    """Bytes that are no command set."""


@dataclass(frozen=True, slots=True)
class Command:
    """What the door reads of a command set. UIDs without their padding, otherwise as they came."""

    field: int
    message_id: int
    has_dataset: bool
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    event_type: int = 0

    @classmethod
    def decode(cls, data: bytes | bytearray) -> Command:
        """Read a command set; BadCommand when it is none."""
        values = dict(_elements(data))
        try:
            return cls(
                field=_short(values[_FIELD]),
                message_id=_short(values.get(_MESSAGE_ID, values.get(_RESPONDED_TO, b"\0\0"))),
                has_dataset=_short(values[_DATASET_TYPE]) != NO_DATASET,
                sop_class_uid=_uid(values.get(_AFFECTED_CLASS) or values.get(_REQUESTED_CLASS) or b""),
                sop_instance_uid=_uid(values.get(_AFFECTED_INSTANCE) or values.get(_REQUESTED_INSTANCE) or b""),
                event_type=_short(values.get(_EVENT_TYPE, b"\0\0")),
            )
        except KeyError as error:
            raise BadCommand("a command set without its field or its data set type") from error
        except struct.error as error:
            raise BadCommand("a number of the wrong length") from error

    def response(self, status: Status) -> bytes:
        """Encode the answer to this request."""
        values = {
            _FIELD: struct.pack("<H", self.field | CommandField.RESPONSE),
            _RESPONDED_TO: struct.pack("<H", self.message_id),
            _DATASET_TYPE: struct.pack("<H", NO_DATASET),
            _STATUS: struct.pack("<H", status),
        }
        # A UID that is none is not sent back: the peer might choke on its own words.
        if is_uid(self.sop_class_uid):
            values[_AFFECTED_CLASS] = _padded(self.sop_class_uid)
        if is_uid(self.sop_instance_uid):
            values[_AFFECTED_INSTANCE] = _padded(self.sop_instance_uid)
        if self.event_type:
            values[_EVENT_TYPE] = struct.pack("<H", self.event_type)
        return encode(values)


def is_uid(text: str) -> bool:
    """Whether `text` can name something: digits and dots, 64 at most. Leading zeros, against PS3.5, do occur."""
    return _UID.fullmatch(text) is not None


def encode(values: dict[int, bytes]) -> bytes:
    """Encode elements of group 0000, with the group's length in front."""
    group = b"".join(struct.pack("<HHI", 0, tag, len(values[tag])) + values[tag] for tag in sorted(values))
    return struct.pack("<HHII", 0, 0, 4, len(group)) + group


def _elements(data: bytes | bytearray) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        if at + 8 > len(data):
            raise BadCommand("a command set that ends inside an element")
        group, element, length = struct.unpack_from("<HHI", data, at)
        at += 8
        if group != 0 or length > len(data) - at:
            raise BadCommand("an element that no command set can have")
        yield element, bytes(data[at : at + length])
        at += length


def _short(value: bytes) -> int:
    return int(struct.unpack("<H", value)[0])


def _uid(value: bytes) -> str:
    return value.decode("latin-1").strip("\0 ")


def _padded(uid: str) -> bytes:
    value = uid.encode("ascii")
    return value + b"\0" if len(value) % 2 else value
