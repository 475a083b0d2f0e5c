"""One destination's threads: senders, one more for STAT, and the confirmer. Destinations share nothing."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from wetread_gateway.delivery.breaker import Breaker
from wetread_gateway.delivery.commitment import record_report
from wetread_gateway.delivery.confirmer import Confirmer
from wetread_gateway.delivery.dicom_out import DicomPeer, address_of
from wetread_gateway.delivery.sender import Claims, Sender
from wetread_gateway.delivery.stow_out import StowPeer
from wetread_gateway.state.tables import DeliveryState

if TYPE_CHECKING:
    from collections.abc import Callable

    from wetread_gateway.config.settings import Destination, Dicom
    from wetread_gateway.context import Context
    from wetread_gateway.delivery.outlet import Inquiry, Outlet

LOG = logging.getLogger(__name__)

REST_S = 1.0  # without a ring
AFTER_ERROR_S = 1.0
# In which order a destination is asked otherwise than by commitment.
_INQUIRIES = {"commitment": ("find", "qido"), "find": ("find", "qido"), "qido": ("qido", "find"), "none": ()}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a lane is made of; another one when the configuration changes."""

    destination: Destination
    dicom: Dicom


class Wake:
    """Wakes the threads that wait; a ring between two looks is not lost."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._rings = 0

    def ring(self) -> None:
        """Wake all."""
        with self._condition:
            self._rings += 1
            self._condition.notify_all()

    def count(self) -> int:
        """Give the number of rings so far: look after that, then `wait`."""
        with self._condition:
            return self._rings

    def wait(self, seen: int, timeout_s: float) -> None:
        """Wait until there have been more rings than `seen`."""
        with self._condition:
            self._condition.wait_for(lambda: self._rings != seen, timeout_s)


class Lane:
    """The threads of one destination, from `start` to `stop`."""

    def __init__(self, context: Context, plan: Plan) -> None:
        self.plan = plan
        self._context = context
        self._stop = threading.Event()
        self._to_send, self._to_confirm = Wake(), Wake()
        claims, breaker = Claims(context, plan.destination.name), Breaker()
        targets: dict[str, Callable[[], None]] = {
            f"send-{number}": partial(self._send, claims, breaker) for number in range(plan.destination.concurrency)
        }
        targets |= {"send-stat": partial(self._send, claims, breaker, stat_only=True), "confirm": self._confirm}
        self._threads = [
            threading.Thread(target=target, name=f"{plan.destination.name}-{name}", daemon=True)
            for name, target in targets.items()
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def ring(self, state: DeliveryState) -> None:
        """Say that deliveries of this state are due, or that a report has come."""
        (self._to_send if state is DeliveryState.WAITING else self._to_confirm).ring()

    def ask_to_stop(self) -> None:
        """Let the threads end when they have done what they have begun."""
        self._stop.set()
        self._to_send.ring()
        self._to_confirm.ring()

    def stop(self, until: float) -> None:
        """Wait for that until `until` (monotonic); what takes longer is left, and taken up after the next start."""
        self.ask_to_stop()
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _send(self, claims: Claims, breaker: Breaker, *, stat_only: bool = False) -> None:
        stored = partial(self.ring, DeliveryState.STORED)
        sender = Sender(self._context, self._outlet(), breaker, claims, stored)

        def rest(seen: int) -> None:
            sender.close_idle()
            self._to_send.wait(seen, REST_S)

        way = self._context.right_of_way()

        def step() -> bool:
            if not stat_only:
                way.give_way(self._context.stop)
            return sender.step(stat_only=stat_only)

        self._loop(step, rest, self._to_send)
        sender.close()

    def _confirm(self) -> None:
        dicom = self._dicom_peer() if self.plan.destination.host else None
        breaker = Breaker()  # its own: a question that fails keeps nothing from being sent
        confirmer = Confirmer(self._context, self.plan.destination, dicom, self._inquiries(dicom), breaker)

        def rest(seen: int) -> None:
            if not confirmer.wait(REST_S / 4):
                self._to_confirm.wait(seen, REST_S)

        self._loop(confirmer.step, rest, self._to_confirm)
        confirmer.close()

    def _loop(self, step: Callable[[], bool], rest: Callable[[int], None], wake: Wake) -> None:
        while not self._is_over():
            seen = wake.count()
            try:
                if not step():
                    rest(seen)
            except Exception:  # the thread's outermost loop: the others go on, and so does this one
                LOG.exception("a step of delivery failed", extra={"destination": self.plan.destination.name})
                self._stop.wait(AFTER_ERROR_S)

    def _is_over(self) -> bool:
        return self._stop.is_set() or self._context.stop.is_set()

    def _dicom_peer(self) -> DicomPeer:
        # A report may come on any association of ours, if the peer so likes.
        on_report = partial(record_report, self._context.store, bells=self._context.bells)
        return DicomPeer(address_of(self.plan.destination, self.plan.dicom), on_report)

    def _outlet(self) -> Outlet:
        destination = self.plan.destination
        return self._dicom_peer() if destination.kind == "dimse" else StowPeer(destination)

    def _inquiries(self, dicom: DicomPeer | None) -> dict[str, Inquiry]:
        destination = self.plan.destination
        offered: dict[str, Inquiry] = {"find": dicom} if dicom else {}
        if destination.url:
            offered["qido"] = StowPeer(destination)
        return {way: offered[way] for way in _INQUIRIES[destination.verify] if way in offered}
