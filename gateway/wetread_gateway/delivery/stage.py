"""The delivery process: a lane for each destination, and what concerns them all."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from wetread_gateway.delivery import commitment, finish, queue
from wetread_gateway.delivery.lane import Lane, Plan
from wetread_gateway.metrics import ALERTS
from wetread_gateway.state.tables import COMMITMENTS, DELIVERIES, TRANSACTIONS, DeliveryState

if TYPE_CHECKING:
    from wetread_gateway.context import Context

LOG = logging.getLogger(__name__)

SWEEP_S = 30.0
REMEMBER_S = 7 * 86400.0  # commitment requests that no report came for
ABSENT = "its destination is not in the configuration"


def run(context: Context) -> None:
    """Deliver until told to stop; what is under way then is given `drain_s`."""
    stage = DeliveryStage(context)
    bell = context.bell("deliver")
    try:
        while not context.stop.is_set():
            stage.step()
            bell.wait(0.25)
    finally:
        stage.stop()
        bell.close()


class DeliveryStage:
    """Keeps a lane for each destination of the configuration, and rings where something is due."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lanes: dict[str, Lane] = {}
        self._absent: set[str] = set()
        self._swept_at = -SWEEP_S

    def step(self) -> None:
        """Look once: at the configuration, at what is due, and now and then at what is overdue."""
        self._follow_configuration()
        for name, state in queue.waiting_at(self._context.store, self._context.home):
            if name in self._lanes:
                self._lanes[name].ring(state)
            elif name not in self._absent:
                self._say_absent(name)
        if self._has_reports():
            for lane in self._lanes.values():
                lane.ring(DeliveryState.STORED)
        if time.monotonic() - self._swept_at >= SWEEP_S:
            self._swept_at = time.monotonic()
            self._sweep()

    def stop(self) -> None:
        """Let all lanes end; together they have `drain_s`."""
        for lane in self._lanes.values():
            lane.ask_to_stop()
        until = time.monotonic() + self._context.settings.gateway.drain_s
        for lane in self._lanes.values():
            lane.stop(until)
        self._lanes.clear()

    def _follow_configuration(self) -> None:
        settings = self._context.settings
        plans = {one.name: Plan(one, settings.dicom) for one in settings.destination}
        changed = [name for name, lane in self._lanes.items() if plans.get(name) != lane.plan]
        for name in changed:
            # What it has in hand it finishes beside its successor: the same objects twice do no harm.
            self._lanes.pop(name).ask_to_stop()
        for name, plan in plans.items():
            if name not in self._lanes:
                self._lanes[name] = Lane(self._context, plan)
                self._lanes[name].start()
                self._absent.discard(name)

    def _say_absent(self, name: str) -> None:
        """What was for a destination that is gone waits for its return, and says so."""
        self._absent.add(name)
        ALERTS.labels("destination_absent").inc()
        LOG.error("deliveries wait for a destination that is not in the configuration", extra={"destination": name})
        with self._context.store.write() as connection:
            connection.execute(
                update(DELIVERIES)
                .where(DELIVERIES.c.destination == name, DELIVERIES.c.state == DeliveryState.WAITING)
                .values(reason=ABSENT)
            )

    def _has_reports(self) -> bool:
        both = COMMITMENTS.c.transaction_uid == TRANSACTIONS.c.transaction_uid
        query = select(COMMITMENTS.c.transaction_uid).where(both, TRANSACTIONS.c.home == self._context.home)
        with self._context.store.read() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def _sweep(self) -> None:
        now = time.time()
        for destination in self._context.settings.destination:
            before = now - destination.give_up_after_h * 3600.0
            for parcel in queue.overdue(self._context.store, destination.name, before, self._context.home):
                last = f": {parcel.reason}" if parcel.reason else ""
                finish.dead(self._context, [parcel], f"not done within {destination.give_up_after_h:g} h{last}")
        with self._context.store.write() as connection:
            commitment.forget_before(connection, now - REMEMBER_S)
