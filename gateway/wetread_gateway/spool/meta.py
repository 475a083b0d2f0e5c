"""The file meta information of the spool's files (PS3.10, 7.1), with how the instance came in."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, cast

from wetread_gateway.errors import BadInstance
from wetread_gateway.instance import Arrival, Door

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# PS3.7, D.3.3.2: of all that we write and of every association.
IMPLEMENTATION_CLASS_UID = "2.25.256823405374823107953318237434109263745"
IMPLEMENTATION_VERSION_NAME = "WETREAD"
_PREAMBLE = bytes(128) + b"DICM"
_LONGEST = 8192  # of a file meta group of ours: seven UIDs, two AE titles and a little JSON

# PS3.10, table 7.1-1: element of group 0002 -> its VR.
_VRS = {
    0x0001: b"OB",  # File Meta Information Version
    0x0002: b"UI",  # Media Storage SOP Class UID
    0x0003: b"UI",  # Media Storage SOP Instance UID
    0x0010: b"UI",  # Transfer Syntax UID
    0x0012: b"UI",  # Implementation Class UID
    0x0013: b"SH",  # Implementation Version Name
    0x0016: b"AE",  # Source Application Entity Title
    0x0018: b"AE",  # Receiving Application Entity Title
    0x0100: b"UI",  # Private Information Creator UID
    0x0102: b"OB",  # Private Information
}


def encode(arrival: Arrival, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Give preamble, prefix and file meta information: what stands before the dataset."""
    how = {
        "door": arrival.door,
        "address": arrival.address,
        "association": arrival.association,
        "received_at": arrival.received_at,
        "stat": arrival.stat,
    }
    values = {
        0x0001: b"\x00\x01",
        0x0002: _uid(sop_class_uid),
        0x0003: _uid(sop_instance_uid),
        0x0010: _uid(transfer_syntax_uid),
        0x0012: _uid(IMPLEMENTATION_CLASS_UID),
        0x0013: _text(IMPLEMENTATION_VERSION_NAME),
        0x0016: _text(arrival.calling_ae),
        0x0018: _text(arrival.called_ae),
        0x0100: _uid(IMPLEMENTATION_CLASS_UID),
        0x0102: _even(json.dumps(how, separators=(",", ":")).encode(), b" "),
    }
    group = b"".join(_element(number, values[number]) for number in sorted(values))
    return _PREAMBLE + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(group)) + group


def decode(path: Path) -> Arrival:
    """Read how the instance in `path` came in; BadInstance when the file was not written by the spool."""
    with path.open("rb") as file:
        head = file.read(_LONGEST)
    try:
        values = dict(_elements(head))
        how = json.loads(values[0x0102])
        return Arrival(
            door=cast("Door", how["door"]),
            calling_ae=values[0x0016].decode("ascii").strip(),
            called_ae=values[0x0018].decode("ascii").strip(),
            address=how["address"],
            association=how["association"],
            received_at=how["received_at"],
            stat=how["stat"],
        )
    except (KeyError, ValueError, struct.error) as error:
        raise BadInstance(f"{path.name} does not say how it came in") from error


def _elements(head: bytes) -> Iterator[tuple[int, bytes]]:
    if head[128:132] != b"DICM":
        raise ValueError("no prefix")
    at = len(_PREAMBLE)
    end = at + 12 + int(struct.unpack_from("<I", head, at + 8)[0])
    while at < end:
        _, element, vr, length = struct.unpack_from("<HH2sH", head, at)
        at += 8
        if vr == b"OB":
            (length,) = struct.unpack_from("<I", head, at)
            at += 4
        yield element, head[at : at + length]
        at += length


def _element(number: int, value: bytes) -> bytes:
    vr = _VRS[number]
    if vr == b"OB":
        return struct.pack("<HH2sHI", 2, number, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", 2, number, vr, len(value)) + value


def _uid(uid: str) -> bytes:
    return _even(uid.encode("ascii"), b"\0")


def _text(text: str) -> bytes:
    return _even(text.encode("ascii", "replace"), b" ")


def _even(value: bytes, pad: bytes) -> bytes:
    return value + pad if len(value) % 2 else value
