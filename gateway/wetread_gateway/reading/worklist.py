"""The worklist as a reader sees it, whether it lies beside it or behind HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Buffer

    from wetread_gateway.priority import Priority
    from wetread_gateway.reading.stored import StoredReading

STABLE = "stable"


@dataclass(frozen=True, slots=True, order=True)
class Served:
    """A pipeline's arm: what Triton serves under one name."""

    pipeline: str
    arm: str

    @property
    def model(self) -> str:
        """The ensemble's name: the stable arm has the pipeline's own."""
        return self.pipeline if self.arm in ("", STABLE) else f"{self.pipeline}_{self.arm}"


@dataclass(frozen=True, slots=True)
class LeasedSource:
    """One image of a work. `hint`: its path in the spool as the index has it; empty for who only has HTTP.

    `home`: the intake whose spool that is.
    """

    sop_uid: str
    hint: str = ""
    home: str = ""


@dataclass(frozen=True, slots=True)
class Lease:
    """A work that its holder may read until `until` (seconds since 1970), and nobody else.

    `token` fences: it grows with every lease of the work, and an older one changes nothing any more.
    `alone`: nothing else of its pipeline may be under way at this reader meanwhile; the worklist sees to it.
    `attempts`: how often it was read alone in vain. `has_shadow`: a candidate shall be asked afterwards.
    """

    work: int
    token: int
    until: float
    owner: str
    study_uid: str
    served: Served
    priority: Priority
    any_body_part: bool
    alone: bool
    attempts: int
    sources: tuple[LeasedSource, ...]
    has_shadow: bool = False


class FailureKind(StrEnum):
    """What becomes of a work that was not read."""

    LATER = "later"  # nobody is at fault: it waits, and this was no attempt
    SUSPECT = "suspect"  # the server failed under it: it is read alone, so many times
    HOPELESS = "hopeless"  # it can never be read: the dead letter


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a work was not read; `reason` is for the operator. `wait_s`: not before that many seconds have passed."""

    kind: FailureKind
    code: str
    reason: str
    wait_s: float = 0.0


class Worklist(Protocol):
    """Works to be read. Safe to use from many threads."""

    def lease(
        self, n: int, owner: str, *, stat_only: bool = False, without: frozenset[Served] = frozenset()
    ) -> list[Lease]:
        """Lease up to `n` works: STAT first, then urgent, then routine, the oldest of each first.

        A work whose lease has expired is leased again. `without`: what cannot be read at present.
        WorklistAway when the worklist cannot be asked.
        """
        ...

    def extend(self, lease: Lease) -> Lease:
        """Keep a work for longer; LeaseLost, WorklistAway."""
        ...

    def complete(self, lease: Lease, reading: StoredReading) -> None:
        """Make the reading durable, once for ever; LeaseLost (then it counts for nothing), WorklistAway."""
        ...

    def shadow(self, lease: Lease, reading: StoredReading) -> None:
        """Keep what a candidate says of a work completed under this lease: compared, never sent; LeaseLost,
        WorklistAway."""
        ...

    def fail(self, lease: Lease, failure: Failure) -> None:
        """Give a work back unread; LeaseLost, WorklistAway."""
        ...

    def abandon(self, owner: str) -> int:
        """Give back whatever `owner` has leased: it died and has come back. The number of works; WorklistAway."""
        ...

    def film(self, lease: Lease, n: int) -> Path | Buffer:
        """Give the n-th source: the file, or the bytes of one, for as long as nobody else leases the work.

        SourceMissing, LeaseLost, WorklistAway.
        """
        ...
