"""When a work's images came: what its latencies are counted from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from wetread_gateway.state.tables import INSTANCES, WORKS

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


def last_received(connection: Connection, work: int) -> float | None:
    """Give when the last source of a work came, seconds since 1970; None where no row tells."""
    sources = connection.execute(select(WORKS.c.sources).where(WORKS.c.id == work)).scalar() or []
    came_at: float | None = connection.execute(
        select(func.max(INSTANCES.c.received_at)).where(INSTANCES.c.id.in_(sources))
    ).scalar()
    return came_at
