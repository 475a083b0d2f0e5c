"""Shows the intakes that share a store: when each was last heard of, and what waits for it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.table import Table
from sqlalchemy import func, select

from wetread_gateway.state.homes import AWAY_S, homes
from wetread_gateway.state.tables import WORKS, WorkState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from wetread_gateway.state.store import AnyRow

_OPEN = (WorkState.WAITING, WorkState.LEASED, WorkState.READ, WorkState.REPORTED)


def intakes(connection: Connection) -> Table | None:
    """Give a table of them; None where there is only one."""
    found = homes(connection)
    if len(found) < 2:
        return None
    counts = select(WORKS.c.home, func.count()).where(WORKS.c.state.in_(_OPEN)).group_by(WORKS.c.home)
    open_works = {row[0]: row[1] for row in connection.execute(counts)}
    table = Table("intake", "last heard of", "received, not sorted", "works to be done", title="intakes")
    for row in found:
        table.add_row(row.name, last_heard_of(row), str(row.unsorted), str(open_works.get(row.name, 0)))
    return table


def last_heard_of(row: AnyRow) -> str:
    """Say when an intake last spoke, and whether it is away."""
    if not row.seen_at:
        return "stopped in order"
    age_s = max(0.0, time.time() - row.seen_at)
    return f"{age_s:.0f} s ago{', away: its films wait' if age_s > AWAY_S else ''}"


def where(connection: Connection, works: Sequence[AnyRow]) -> str:
    """Say at which intakes a study's works are; nothing where there is only one."""
    if len(homes(connection)) < 2 or not works:
        return ""
    return " at " + ", ".join(sorted({work.home or "(no name)" for work in works}))
