"""Sends what is due to one destination: a few threads, each with a connection of its own."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from errno import ENOENT
from typing import TYPE_CHECKING

from wetread_gateway.delivery import finish, queue
from wetread_gateway.delivery.breaker import Backoff
from wetread_gateway.delivery.outgoing import read_outgoing
from wetread_gateway.errors import Refused, TryAgain, Unreachable
from wetread_gateway.instance import study_key
from wetread_gateway.metrics import ALERTS, timed
from wetread_gateway.state.tables import DeliveryState

if TYPE_CHECKING:
    from collections.abc import Callable

    from wetread_gateway.context import Context
    from wetread_gateway.delivery.breaker import Breaker
    from wetread_gateway.delivery.outgoing import Outgoing
    from wetread_gateway.delivery.outlet import Outlet
    from wetread_gateway.delivery.queue import Parcel

LOG = logging.getLogger(__name__)

IDLE_S = 2.0  # an association without work is closed after so long: a PACS has only so many
BENCH_S = 30.0  # a delivery at which the gateway itself fails lets the others pass
OBJECT_BACKOFF = Backoff(1.0, 300.0)  # of one delivery that fails while others do not


class Claims:
    """Which deliveries the threads of a destination have in hand. After a crash nobody has: they are taken anew."""

    def __init__(self, context: Context, destination: str) -> None:
        self._context, self._destination = context, destination
        self._lock = threading.Lock()
        self._kept_until: dict[int, float] = {}

    def take(self, *, stat_only: bool) -> Parcel | None:
        """Take the most urgent delivery that is due and that nobody has."""
        with self._lock:
            found = queue.due(
                self._context.store,
                self._destination,
                DeliveryState.WAITING,
                1,
                home=self._context.home,
                without=self._kept(),
                stat_only=stat_only,
            )
            if not found:
                return None
            self._kept_until[found[0].id] = math.inf
            return found[0]

    def give_back(self, parcel: Parcel, after_s: float = 0.0) -> None:
        """Nobody has it any more; it can be taken again in `after_s`."""
        with self._lock:
            self._kept_until[parcel.id] = time.monotonic() + after_s

    def _kept(self) -> list[int]:
        now = time.monotonic()
        self._kept_until = {number: until for number, until in self._kept_until.items() if until > now}
        return list(self._kept_until)


class Sender:
    """Sends deliveries one by one; for one thread. `stored`: called after each success."""

    def __init__(
        self, context: Context, outlet: Outlet, breaker: Breaker, claims: Claims, stored: Callable[[], None]
    ) -> None:
        self._context, self._outlet = context, outlet
        self._breaker, self._claims, self._stored = breaker, claims, stored
        self._chance = random.Random()  # noqa: S311 -- spreads attempts, hides nothing
        self._used_at = 0.0

    def step(self, *, stat_only: bool) -> bool:
        """Send one delivery; False when nothing is due, or the destination is left alone for a while."""
        if not self._breaker.allows():
            return False
        is_settled = False
        try:
            parcel = self._claims.take(stat_only=stat_only)
            if parcel is None:
                return False
            bench_s = BENCH_S
            try:
                is_settled = self._send(parcel)
                bench_s = 0.0
            finally:
                self._claims.give_back(parcel, bench_s)
        finally:
            if not is_settled:
                self._breaker.not_tried()
        return True

    def close_idle(self) -> None:
        """Close the connection when it has not been used for a while."""
        if self._used_at and time.monotonic() - self._used_at >= IDLE_S:
            self.close()

    def close(self) -> None:
        """Close the connection."""
        self._used_at = 0.0
        self._outlet.close()

    def _send(self, parcel: Parcel) -> bool:
        """Send it and write down what came of it; True when the breaker has been told how it went."""
        store = self._context.store
        try:
            outgoing = self._load(parcel)
        except OSError as error:  # a disk that is away for now
            ALERTS.labels("result_missing").inc()
            reason = f"an object cannot be read from the spool ({error.strerror or 'it is missing'})"
            queue.postponed(store, parcel, DeliveryState.WAITING, reason, self._backoff(parcel))
            return False
        self._used_at = time.monotonic()
        try:
            with timed("deliver"):
                warnings = self._outlet.store(outgoing)
        except Unreachable as error:
            self._trouble(parcel, error, unreachable=True)
            queue.postponed(store, parcel, DeliveryState.WAITING, str(error), 0.0, counts=False)
        except TryAgain as error:
            self._trouble(parcel, error, unreachable=False)
            wait_s = max(error.after_s, self._backoff(parcel))
            queue.postponed(store, parcel, DeliveryState.WAITING, str(error), wait_s)
        except Refused as error:
            self._works(parcel)  # it answers: it is this object that it does not want
            finish.dead(self._context, [parcel], str(error))
        else:
            self._works(parcel)
            queue.stored(store, parcel, warnings)
            self._stored()
        return True

    def _load(self, parcel: Parcel) -> list[Outgoing]:
        found = queue.objects_of(self._context.store, [parcel])
        outgoing = []
        for uid in parcel.objects:
            if uid not in found:
                raise FileNotFoundError(ENOENT, "the state store does not know it")
            reference = found[uid].reference
            path = self._context.spool.locate(found[uid].path, reference.study_uid)
            outgoing.append(read_outgoing(path, uid, reference.sop_class_uid, reference.study_uid))
        return outgoing

    def _backoff(self, parcel: Parcel) -> float:
        return OBJECT_BACKOFF.after(parcel.attempts + 1, self._chance)

    def _trouble(self, parcel: Parcel, error: TryAgain, *, unreachable: bool) -> None:
        about = {"destination": parcel.destination, "study": study_key(parcel.study_uid), "reason": str(error)[:200]}
        if self._breaker.failed(unreachable=unreachable, after_s=error.after_s):
            ALERTS.labels("destination_down").inc()
            LOG.error("a destination fails and is left alone for a while", extra=about)
        else:
            LOG.warning("a delivery failed and is tried again", extra=about)

    def _works(self, parcel: Parcel) -> None:
        if self._breaker.succeeded():
            LOG.warning("a destination works again", extra={"destination": parcel.destination})
