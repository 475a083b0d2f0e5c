"""UIDs and times of our objects: derived from what was read, so that an object built again is the same object."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

if TYPE_CHECKING:
    from collections.abc import Iterable

# Ours, drawn once. Everything below is derived from it (PS3.5, B.2: a UUID as an integer under 2.25).
_NAMESPACE = UUID("6f1d6a5e-4a6c-5a0b-9a50-5b1c2f3e7d41")


def uuid_of(*parts: object) -> UUID:
    """Give the UUID that stands for `parts`: the same for the same parts, in any process, at any time."""
    return uuid5(_NAMESPACE, chr(31).join(str(part) for part in parts))


def uid_of(*parts: object) -> str:
    """Give the same as a UID."""
    return f"2.25.{uuid_of(*parts).int}"


def object_uid(sources: Iterable[str], work: str, kind: str, number: int) -> str:
    """Give the SOP Instance UID of one object of one reading; `sources`: SOP Instance UIDs, in any order."""
    return uid_of("object", *sorted(sources), work, kind, number)


def series_uid(sop_instance_uid: str) -> str:
    """Give the series of an object of ours: every object has a series of its own."""
    return uid_of("series", sop_instance_uid)


DEVICE_UID = uid_of("device", "gateway")


def moment(seconds: float, offset: str = "") -> datetime:
    """Give the time of day of `seconds` since 1970, in the zone `offset` (+HHMM), or in this machine's own."""
    when = datetime.fromtimestamp(seconds, UTC)
    if not offset:
        return when.astimezone()
    sign = -1 if offset[0] == "-" else 1
    return when.astimezone(timezone(sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[3:5]))))
