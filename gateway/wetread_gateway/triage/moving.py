"""Moves what lies in our spool and was read by a work of another intake to where that work has ended."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from wetread_gateway.state.tables import DELIVERIES, INSTANCES, WORKS, DeliveryState, InstanceState, WorkState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from wetread_gateway.context import Context
    from wetread_gateway.spool.spool import Sorted
    from wetread_gateway.state.store import AnyRow

AT_ONCE = 500
_ENDED = (WorkState.FINISHED, WorkState.DEAD)


def follow(context: Context) -> int:
    """Move our files of works that others have ended, and of series that no rule wants; how many there were."""
    if not context.home:
        return 0
    with context.store.read() as connection:
        moves = [(row, _goal(connection, work)) for row, work in _of_others(connection, context.home)]
        moves += [(row, "unmatched") for row in _unwanted(connection, context.home)]
    if not moves:
        return 0
    with context.store.write() as connection:  # the index first, the file after: `locate` knows both places
        for row, to in moves:
            path = context.spool.path_in(row.arrival, row.study_uid, to)
            connection.execute(update(INSTANCES).where(INSTANCES.c.id == row.id).values(path=path))
    for row, to in moves:
        with suppress(FileNotFoundError):
            context.spool.move(row.arrival, row.study_uid, to)
    return len(moves)


def _of_others(connection: Connection, home: str) -> list[tuple[AnyRow, AnyRow]]:
    """Give our files that are still with those to be read, each with the work of another intake that has ended."""
    waits = (INSTANCES.c.home == home) & INSTANCES.c.path.startswith("studies/")
    ended = (WORKS.c.home != home) & WORKS.c.state.in_(_ENDED)
    studies = select(WORKS.c.study_uid).join(INSTANCES, INSTANCES.c.study_uid == WORKS.c.study_uid)
    found = connection.scalars(studies.where(waits, ended).distinct().limit(AT_ONCE)).all()
    if not found:
        return []
    works = connection.execute(select(WORKS).where(WORKS.c.study_uid.in_(found), ended).order_by(WORKS.c.id)).all()
    by_source = {source: work for work in works for source in work.sources}
    rows = connection.execute(select(INSTANCES).where(INSTANCES.c.study_uid.in_(found), waits)).all()
    return [(row, by_source[row.id]) for row in rows if row.id in by_source]


def _goal(connection: Connection, work: AnyRow) -> Sorted:
    missed = select(DELIVERIES.c.id).where(DELIVERIES.c.work_id == work.id, DELIVERIES.c.state == DeliveryState.DEAD)
    is_dead = work.state == WorkState.DEAD or connection.execute(missed.limit(1)).first() is not None
    return "dead" if is_dead else "done"


def _unwanted(connection: Connection, home: str) -> Sequence[AnyRow]:
    ours = (INSTANCES.c.home == home) & INSTANCES.c.path.startswith("studies/")
    query = select(INSTANCES).where(ours, INSTANCES.c.state == InstanceState.UNMATCHED)
    return connection.execute(query.limit(AT_ONCE)).all()
