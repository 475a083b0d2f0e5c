"""What the other intakes may still have of a series, by their own word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wetread_gateway.state.homes import AWAY_S, homes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Row
    from sqlalchemy.engine import Connection

    from wetread_gateway.state.store import AnyRow

PATIENCE_S = 300.0
"""Seconds that a series without a count waits for an intake that is away; what that one has comes as a reading anew."""


class Others:
    """The intakes beside `own`, at `now`; there are none where `own` is empty."""

    def __init__(self, own: str, now: float) -> None:
        self._own = own
        self._now = now
        self._others: Sequence[AnyRow] = ()

    def look(self, connection: Connection) -> None:
        """Look them up."""
        if self._own:
            self._others = [row for row in homes(connection) if row.name != self._own]

    def leave_to_us(self, series: Row[Any]) -> bool:
        """Whether nobody else judges the series: its last image came here, or where nobody is now."""
        keeper = next((row for row in self._others if row.name == series.home), None)
        return series.home == self._own or keeper is None or self._is_away(keeper)

    def may_have_more(self, series: Row[Any], quiet_s: float) -> bool:
        """Whether one of them may hold images of it that are not sorted, or has its sender on the line."""
        return any(self._may(row, series, quiet_s) for row in self._others)

    def said(self) -> str:
        """Say which of them could not be asked."""
        away = [row.name for row in self._others if self._is_away(row) and row.sorted_at < self._now]
        return f" (away: {', '.join(away)})" if away else ""

    def _may(self, row: AnyRow, series: Row[Any], quiet_s: float) -> bool:
        if row.sorted_at >= series.last_at + quiet_s and series.calling_ae not in row.callers:
            return False
        return bool(self._now - row.seen_at < PATIENCE_S)

    def _is_away(self, row: AnyRow) -> bool:
        return bool(self._now - row.seen_at > AWAY_S)
