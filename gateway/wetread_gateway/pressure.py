"""How far behind the gateway is: the age of the oldest routine work, by which the doors tell an overload."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from sqlalchemy import case, func, select

from wetread_gateway.priority import Priority
from wetread_gateway.state.homes import is_away
from wetread_gateway.state.tables import WORKS, WorkKind, WorkState

if TYPE_CHECKING:
    from wetread_gateway.context import Context

_STAT, _ROUTINE = "0-", "1-"  # how the spool's names begin
_NS = 1_000_000_000


def oldest_waiting_s(context: Context) -> float:
    """Give the age of the oldest thing, STAT aside, that waits to be sorted or to be read; 0 when nothing does.

    Work that has been put off (its server is away, its film is suspected) does not count: refusing others would not
    bring it forward. A series may wait longer than a film, and is as much younger here.
    """
    now = time.time()
    intake = context.settings.intake
    grace_s = max(0.0, intake.overload_series_age_s - intake.overload_age_s)
    since_when = WORKS.c.created_at + case((WORKS.c.completeness == "single", 0.0), else_=grace_s)
    query = select(func.min(since_when)).where(
        WORKS.c.state == WorkState.WAITING,
        WORKS.c.kind == WorkKind.READ,
        WORKS.c.priority != Priority.STAT,
        WORKS.c.not_before == 0.0,
    )
    if context.home:  # nor does what waits for an intake that is away
        query = query.where(WORKS.c.home.not_in(is_away(context.home)))
    with context.store.read() as connection:
        waiting = connection.execute(query).scalar()
    with os.scandir(context.spool.received) as entries:
        unsorted = min((entry.name for entry in entries if entry.name.startswith(_ROUTINE)), default=None)
    since = [] if waiting is None else [float(waiting)]
    if unsorted is not None:
        since.append(int(unsorted.split("-")[1]) / _NS)
    return max(0.0, now - min(since, default=now))


def oldest_stat_s(context: Context) -> float:
    """Give the age of the oldest STAT image not sorted yet, or STAT work of this intake not read; 0 without one."""
    now = time.time()
    query = select(func.min(WORKS.c.created_at)).where(
        WORKS.c.state.in_((WorkState.WAITING, WorkState.LEASED)),
        WORKS.c.kind == WorkKind.READ,
        WORKS.c.priority == Priority.STAT,
        WORKS.c.home == context.home,
    )
    with context.store.read() as connection:
        waiting = connection.execute(query).scalar()
    with os.scandir(context.spool.received) as entries:
        unsorted = min((entry.name for entry in entries if entry.name.startswith(_STAT)), default=None)
    since = [] if waiting is None else [float(waiting)]
    if unsorted is not None:
        since.append(int(unsorted.split("-")[1]) / _NS)
    return max(0.0, now - min(since, default=now))
