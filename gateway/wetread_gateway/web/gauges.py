"""Gauges of what lies in the store and the spool, looked up when Prometheus asks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from wetread_gateway.state.tables import (
    DELIVERIES,
    INSTANCES,
    WORKS,
    DeliveryState,
    InstanceState,
    WorkState,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

    from wetread_gateway.context import Context

# The stage that a work's state waits for.
_STAGES = {
    WorkState.WAITING: "read",
    WorkState.LEASED: "reading",
    WorkState.READ: "report",
    WorkState.REPORTED: "deliver",
}


class Gauges(Collector):
    """Collects the gateway's gauges."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Name nothing beforehand: registering must not ask the store."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Look everything up, in one moment of the store."""
        received = sum(1 for path in self._context.spool.received.iterdir() if path.suffix == ".dcm")
        first = self._context.spool.arrivals(1)
        with self._context.store.read() as connection:
            yield from self._queue(connection, received, _since(first[0].name) if first else None)
            yield from _deliveries(connection)
            yield from _set_aside(connection)
        yield GaugeMetricFamily(
            "wetread_gateway_spool_bytes_free",
            "Bytes free on the spool's disk.",
            value=self._context.spool.free_bytes(),
        )

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
            .where(WORKS.c.state.in_(_STAGES))  # by the index: finished works are many
            .group_by(WORKS.c.state)
        ).all()
        found = {state: (count, oldest) for state, count, oldest in rows}
        for state, stage in _STAGES.items():
            count, oldest = found.get(state, (0, now))
            depth.add_metric([state], count)
            age.add_metric([stage], max(0.0, now - oldest))
        yield depth
        yield age


def _since(name: str) -> float:
    """Read an arrival's time from its file's name."""
    try:
        return int(name.split("-", 2)[1]) / 1e9
    except (IndexError, ValueError):
        return time.time()


def _deliveries(connection: Connection) -> Iterator[GaugeMetricFamily]:
    family = GaugeMetricFamily(
        "wetread_gateway_deliveries", "Deliveries, by destination and state.", labels=["destination", "state"]
    )
    rows = connection.execute(
        select(DELIVERIES.c.destination, DELIVERIES.c.state, func.count()).group_by(
            DELIVERIES.c.destination, DELIVERIES.c.state
        )
    ).all()
    for destination, state, count in rows:
        family.add_metric([destination, state], count)
    yield family


def _set_aside(connection: Connection) -> Iterator[GaugeMetricFamily]:
    works = connection.execute(select(func.count()).where(WORKS.c.state == WorkState.DEAD)).scalar_one()
    deliveries = connection.execute(select(func.count()).where(DELIVERIES.c.state == DeliveryState.DEAD)).scalar_one()
    aside = (InstanceState.QUARANTINED, InstanceState.UNMATCHED)
    rows = connection.execute(
        select(INSTANCES.c.state, func.count()).where(INSTANCES.c.state.in_(aside)).group_by(INSTANCES.c.state)
    ).all()
    instances = {state: count for state, count in rows}  # noqa: C416 -- dict() does not take rows for pairs
    letters = GaugeMetricFamily("wetread_gateway_dead_letters", "Works and deliveries given up.", labels=["kind"])
    letters.add_metric(["work"], works)
    letters.add_metric(["delivery"], deliveries)
    yield letters
    for state in aside:
        yield GaugeMetricFamily(
            f"wetread_gateway_{state}", f"Instances that are {state}.", value=instances.get(state, 0)
        )
