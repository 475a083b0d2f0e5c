"""What this intake tells the others of itself, so that no series is judged without what lies unsorted here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wetread_gateway.state.homes import leave, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from wetread_gateway.context import Context

SAY_S = 0.5
"""Seconds between two words of an intake: how much longer a series waits that others might have more of."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment, and who had an association open in it."""

    at: float
    callers: tuple[str, ...]


class Presence:
    """Speaks for one intake; for the thread of its triage. An intake without a name is the only one and says nothing.

    What it says is true of one moment: who had an association open in it, and that all that had come by then is
    sorted. An association that opened later is no more known to a gateway that judges alone.
    """

    def __init__(self, context: Context, clock: Callable[[], float]) -> None:
        self._context = context
        self._clock = clock
        self._said_at = 0.0

    def moment(self) -> Moment | None:
        """Look who calls, before looking at what has come; None when nothing need be said yet."""
        now = self._clock()
        if not self._context.home or 0 <= now - self._said_at < SAY_S:
            return None
        return Moment(now, self._context.spool.callers())

    def say(self, moment: Moment | None, unsorted: int, *, all_sorted: bool) -> None:
        """Tell the others; `all_sorted`: of what had come by the moment."""
        if moment is None:
            return
        values: dict[str, object] = {"seen_at": moment.at, "unsorted": unsorted}
        if all_sorted:
            values |= {"sorted_at": moment.at, "callers": list(moment.callers)}
        with self._context.store.write() as connection:
            say(connection, self._context.home, values)
        self._said_at = moment.at

    def leave(self) -> None:
        """Tell the others at the end that nothing unsorted is left here, where that is so."""
        spool = self._context.spool
        if self._context.home and not spool.callers() and not spool.arrivals(1):
            with self._context.store.write() as connection:
                leave(connection, self._context.home)
