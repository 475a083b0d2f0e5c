"""Gauges of what lies in the store and the spool, looked up when Prometheus asks.

A scrape stays cheap however many rows there are: what waits is found by indices, and a look that must go through
finished rows is made again only after a hundred times as long as it took.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from wetread_gateway.drift.gauges import drift_gauges
from wetread_gateway.pressure import oldest_stat_s, oldest_waiting_s
from wetread_gateway.state.tables import (
    DELIVERIES,
    INSTANCES,
    WORKS,
    DeliveryState,
    InstanceState,
    WorkState,
)
from wetread_gateway.web.machine_gauges import Certificates, machine_gauges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import Connection

    from wetread_gateway.context import Context

# The stage that a work's state waits for.
_STAGES = {
    WorkState.WAITING: "read",
    WorkState.LEASED: "reading",
    WorkState.READ: "report",
    WorkState.REPORTED: "deliver",
}
_SHARE = 100  # a costly look takes one hundredth of the time at most


class Costly:
    """Families that take long to look up, remembered in proportion to what they cost."""

    def __init__(self, look: Callable[[Connection], Iterator[GaugeMetricFamily]]) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._known: list[GaugeMetricFamily] = []
        self._again_at = 0.0

    def families(self, connection: Connection) -> list[GaugeMetricFamily]:
        """Give them, at most a hundred times as old as it takes to look."""
        with self._lock:
            started = time.monotonic()
            if started >= self._again_at:
                self._known = list(self._look(connection))
                self._again_at = started + _SHARE * (time.monotonic() - started)
            return self._known


class Gauges(Collector):
    """Collects the gateway's gauges. Of a store that several intakes share, each tells of its own works alone."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._certificates = Certificates()
        self._costly = [Costly(self._deliveries), Costly(self._aside), Costly(drift_gauges)]

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Name nothing beforehand: registering must not ask the store."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Look everything up, in one moment of the store but for what is remembered."""
        context = self._context
        received = sum(1 for path in context.spool.received.iterdir() if path.suffix == ".dcm")
        first = context.spool.arrivals(1)
        with context.store.read() as connection:
            yield from self._queue(connection, received, _since(first[0].name) if first else None)
            yield from self._dead(connection)
            for costly in self._costly:
                yield from costly.families(connection)
        yield GaugeMetricFamily(
            "wetread_gateway_oldest_waiting_seconds",
            "Age of the oldest work, STAT aside, that waits to be sorted or read: what the doors judge by.",
            value=oldest_waiting_s(context),
        )
        yield GaugeMetricFamily(
            "wetread_gateway_oldest_stat_seconds",
            "Age of the oldest STAT image that waits to be sorted, or STAT work that is not read yet.",
            value=oldest_stat_s(context),
        )
        yield from machine_gauges(context)
        yield from self._certificates.gauges(context.settings)

    def _queue(self, connection: Connection, received: int, since: float | None) -> Iterator[GaugeMetricFamily]:
        depth = GaugeMetricFamily("wetread_gateway_queue_depth", "Instances or works in a state.", labels=["state"])
        age = GaugeMetricFamily(
            "wetread_gateway_queue_age_seconds", "Age of the oldest item that waits for a stage.", labels=["stage"]
        )
        now = time.time()
        depth.add_metric(["received"], received)
        age.add_metric(["triage"], 0.0 if since is None else max(0.0, now - since))
        rows = connection.execute(
            select(WORKS.c.state, func.count(), func.min(WORKS.c.created_at))
            .where(
                WORKS.c.state.in_(_STAGES), WORKS.c.home == self._context.home
            )  # by the index: finished works are many
            .group_by(WORKS.c.state)
        ).all()
        found = {state: (count, oldest) for state, count, oldest in rows}
        for state, stage in _STAGES.items():
            count, oldest = found.get(state, (0, now))
            depth.add_metric([state], count)
            age.add_metric([stage], max(0.0, now - oldest))
        yield depth
        yield age

    def _deliveries(self, connection: Connection) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "wetread_gateway_deliveries", "Deliveries, by destination and state.", labels=["destination", "state"]
        )
        columns = (DELIVERIES.c.destination, DELIVERIES.c.state)
        query = select(*columns, func.count())
        if self._context.home:
            query = query.join(WORKS, WORKS.c.id == DELIVERIES.c.work_id).where(WORKS.c.home == self._context.home)
        for destination, state, count in connection.execute(query.group_by(*columns)):
            family.add_metric([destination, state], count)
        yield family

    def _dead(self, connection: Connection) -> Iterator[GaugeMetricFamily]:
        mine = WORKS.c.home == self._context.home
        works = select(func.count()).where(WORKS.c.state == WorkState.DEAD, mine)
        deliveries = select(func.count()).select_from(DELIVERIES).join(WORKS, WORKS.c.id == DELIVERIES.c.work_id)
        letters = GaugeMetricFamily("wetread_gateway_dead_letters", "Works and deliveries given up.", labels=["kind"])
        letters.add_metric(["work"], connection.execute(works).scalar_one())
        deliveries = deliveries.where(DELIVERIES.c.state == DeliveryState.DEAD, mine)
        letters.add_metric(["delivery"], connection.execute(deliveries).scalar_one())
        yield letters

    def _aside(self, connection: Connection) -> Iterator[GaugeMetricFamily]:
        aside = (InstanceState.QUARANTINED, InstanceState.UNMATCHED)
        query = select(INSTANCES.c.state, func.count()).where(
            INSTANCES.c.state.in_(aside), INSTANCES.c.home == self._context.home
        )
        rows = connection.execute(query.group_by(INSTANCES.c.state)).all()
        instances = {state: count for state, count in rows}  # noqa: C416 -- dict() does not take rows for pairs
        for state in aside:
            yield GaugeMetricFamily(
                f"wetread_gateway_{state}", f"Instances that are {state}.", value=instances.get(state, 0)
            )


def _since(name: str) -> float:
    """Read an arrival's time from its file's name."""
    try:
        return int(name.split("-", 2)[1]) / 1e9
    except (IndexError, ValueError):
        return time.time()
