"""How far behind the gateway is: by the age of the oldest routine work, and by how long what comes now would wait."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import case, func, select

from wetread_gateway.priority import Priority
from wetread_gateway.state.homes import is_away
from wetread_gateway.state.tables import WORKS, WorkKind, WorkState

if TYPE_CHECKING:
    from wetread_gateway.context import Context

_STAT, _ROUTINE = "0-", "1-"  # how the spool's names begin
_NS = 1_000_000_000
_MEMORY_S = 20.0  # over which the rate is taken
_SHORTEST_S, _FEWEST = 1.0, 8  # that make a rate


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits, STAT aside. `oldest_s`: the age of the oldest that is not read, 0 when there is none."""

    oldest_s: float
    films: int
    """Works over one image that wait to be read, or for their report."""
    made: int
    """Grows by one with every work."""


def oldest_waiting_s(context: Context) -> float:
    """Give the age of the oldest thing, STAT aside, that waits to be sorted or to be read; 0 when nothing does."""
    return look(context).oldest_s


def look(context: Context) -> Backlog:
    """Look at what waits to be sorted, to be read or, among the films, to be reported.

    A reading without its report is of no use to a PACS: the queue may stand there as well. Work that has been put off
    (its server is away, its film is suspected) does not count: refusing others would not bring it forward. A series may
    wait longer than a film, and is as much younger here.
    """
    now = time.time()
    intake = context.settings.intake
    grace_s = max(0.0, intake.overload_series_age_s - intake.overload_age_s)
    is_film = WORKS.c.completeness == "single"
    since_when = WORKS.c.created_at + case((is_film, 0.0), else_=grace_s)
    waits = WORKS.c.state == WorkState.WAITING
    query = select(func.min(case((waits, since_when))), func.sum(case((is_film, 1), else_=0))).where(
        WORKS.c.state.in_((WorkState.WAITING, WorkState.READ)),
        WORKS.c.kind == WorkKind.READ,
        WORKS.c.priority != Priority.STAT,
        WORKS.c.not_before == 0.0,
    )
    if context.home:  # nor does what waits for an intake that is away
        query = query.where(WORKS.c.home.not_in(is_away(context.home)))
    with context.store.read() as connection:
        waiting, films = connection.execute(query).one()
        made = connection.execute(select(func.max(WORKS.c.id))).scalar()
    with os.scandir(context.spool.received) as entries:
        unsorted = min((entry.name for entry in entries if entry.name.startswith(_ROUTINE)), default=None)
    since = [] if waiting is None else [float(waiting)]
    if unsorted is not None:
        since.append(int(unsorted.split("-")[1]) / _NS)
    return Backlog(max(0.0, now - min(since, default=now)), int(films or 0), int(made or 0))


class Forecast:
    """How long the report of a film that comes now would take: the films that wait, over those reported a second.

    The age of the oldest tells of an overload only when it has lasted so long, and by then as much again has come.
    """

    def __init__(self) -> None:
        self._films = 0
        self._seen: deque[tuple[float, int]] = deque()  # the time, and what had left the queue by then

    def note(self, now: float, backlog: Backlog) -> None:
        """Take a look at `now` (monotonic) into account. The rate is that of a queue that never ran empty."""
        if not backlog.films:
            self._seen.clear()
            return
        self._seen.append((now, backlog.made - backlog.films))
        while now - self._seen[0][0] > _MEMORY_S:
            self._seen.popleft()
        self._films = backlog.films

    @property
    def wait_s(self) -> float | None:
        """Give the seconds; None while too little is known."""
        if not self._seen:
            return None
        (since, first), (until, last) = self._seen[0], self._seen[-1]
        if until - since < _SHORTEST_S or last - first < _FEWEST:
            return None
        return self._films * (until - since) / (last - first)


class Watch:
    """The doors' view: whether routine work is refused, and when to come again. For one thread at a time."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._forecast = Forecast()
        self.age_s = 0.0

    def look(self) -> None:
        """Look anew."""
        backlog = look(self._context)
        self.age_s = backlog.oldest_s
        self._forecast.note(time.monotonic(), backlog)

    @property
    def overloaded(self) -> bool:
        """Whether routine work has waited too long, or what came now would."""
        limit_s = self._context.settings.intake.overload_age_s
        return self.age_s > limit_s or (self._forecast.wait_s or 0.0) > limit_s

    @property
    def retry_after_s(self) -> int:
        """Give the whole seconds after which it is worth asking again."""
        limit_s = self._context.settings.intake.overload_age_s
        wait_s = self._forecast.wait_s
        return max(1, math.ceil(limit_s if wait_s is None else min(wait_s, limit_s)))


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
