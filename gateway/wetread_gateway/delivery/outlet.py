"""What the delivery stage asks of a way to a destination, whatever its protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from wetread_gateway.errors import GatewayError
from wetread_gateway.results.uids import series_uid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wetread_gateway.delivery.outgoing import Outgoing


class NotOffered(GatewayError):
    """The destination cannot be asked in this way."""


@dataclass(frozen=True, slots=True)
class Reference:
    """An object of ours, as a destination is asked for it."""

    sop_instance_uid: str
    sop_class_uid: str
    study_uid: str

    @property
    def series_uid(self) -> str:
        """Its series, which follows from its UID."""
        return series_uid(self.sop_instance_uid)


class Outlet(Protocol):
    """A connection to a destination, for one thread; opened when needed."""

    def store(self, objects: Sequence[Outgoing]) -> tuple[str, ...]:
        """Store all; gives the peer's warnings.

        Refused when it refuses one for good (the others have been sent), TryAgain or Unreachable when all are to be
        sent anew: what it has already got does no harm, the UIDs are the same.
        """

    def close(self) -> None:
        """Close the connection; the next call opens another."""


class Inquiry(Protocol):
    """A way to ask a destination what it holds."""

    def named(self, references: Sequence[Reference]) -> frozenset[str]:
        """Give the SOP Instance UIDs, of those asked for, that it names. NotOffered, TryAgain or Unreachable."""

    def close(self) -> None:
        """Close the connection; the next call opens another."""
