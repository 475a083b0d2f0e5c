"""The reader: leases works, reads some at once and one more for STAT, keeps its leases, gives back what failed."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from wetread_client import WetreadError

from wetread_gateway import metrics
from wetread_gateway.errors import LeaseLost, WorklistAway
from wetread_gateway.instance import study_key
from wetread_gateway.priority import Priority
from wetread_gateway.reading.arrival import abandoned
from wetread_gateway.reading.failures import EXPECTED, cause_of, failure_of
from wetread_gateway.reading.pauses import Pauses
from wetread_gateway.reading.read import read
from wetread_gateway.reading.shadows import Shadows
from wetread_gateway.reading.worklist import Failure, FailureKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from wetread_gateway.config.settings import Triton
    from wetread_gateway.reading.pipeline import Pipelines
    from wetread_gateway.reading.worklist import Lease, Served, Worklist
    from wetread_gateway.right_of_way import RightOfWay

LOG = logging.getLogger(__name__)
_MOST_SLOTS = 64  # threads; they are made as they are needed
_LOOK_S = 0.25
_SOON_S = 0.02
_KEEP_S = 1.0
_STOPPED = Failure(FailureKind.LATER, "STOPPED", "its reader was told to stop")


class Reader:
    """Reads what `worklist` has, under the name `owner`.

    `settings`: asked anew for each work. `wake`: set by whoever knows that there is work.
    """

    def __init__(
        self,
        worklist: Worklist,
        pipelines: Pipelines,
        owner: str,
        settings: Callable[[], Triton],
        wake: threading.Event | None = None,
        pauses: Pauses | None = None,
        way: RightOfWay | None = None,
    ) -> None:
        self.owner = owner
        self._worklist = worklist
        self._pipelines = pipelines
        self._settings = settings
        self._wake = wake or threading.Event()
        self.pauses = pauses or Pauses()
        self._way = way
        self._shadows = Shadows(worklist, pipelines, settings, self._is_idle)
        self._ahead: deque[Lease] = deque()  # leased, not begun: a lease costs less when several are taken at once
        self._under_way: dict[tuple[int, int], Lease] = {}  # by work and token
        self._lock = threading.Lock()
        self._crash: BaseException | None = None
        self.turned_at = time.monotonic()  # when its loop last turned
        self.lost = 0  # leases that went to another

    @property
    def under_way(self) -> int:
        """How many works are being read."""
        return len(self._under_way)

    def run(self, stop: threading.Event, drain_s: float = threading.TIMEOUT_MAX) -> bool:
        """Read until `stop` is set, then end what was begun, within `drain_s`, and give back the rest.

        False when it did not end in that time: a thread still waits then. Raises what no work explains.
        """
        ended = threading.Event()
        keeper = threading.Thread(target=self._keep, args=(ended,), name="keep-leases", daemon=True)
        keeper.start()
        self._shadows.start()
        try:
            slots = ThreadPoolExecutor(_MOST_SLOTS, "read")
            try:
                while not stop.is_set() and not abandoned(self._worklist, self.owner):
                    self.turned_at = time.monotonic()
                    stop.wait(_KEEP_S)
                while not stop.is_set() and self._crash is None:
                    self.turned_at = time.monotonic()
                    self._wake.clear()
                    self._probe_what_is_due(slots)
                    if not self._fetch() + self._begin(slots, stop):
                        self._wake.wait(_SOON_S if self._yields() else _LOOK_S)
                self._give_back_ahead()
            finally:
                drained = self._drained(drain_s)
                slots.shutdown(wait=drained)
        finally:
            ended.set()
            self._shadows.end()
            keeper.join()
        if self._crash is not None:
            raise self._crash
        return drained

    def _drained(self, drain_s: float) -> bool:
        """Wait until nothing is under way; what still is after `drain_s` is given back."""
        deadline = time.monotonic() + drain_s
        while self._under_way and (left := deadline - time.monotonic()) > 0:
            self.turned_at = time.monotonic()
            self._wake.clear()
            self._wake.wait(min(_LOOK_S, left))
        with self._lock:
            held = list(self._under_way.values())
        for lease in held:
            LOG.warning("a work is given back unread", extra={"work": lease.work})
            self._fail(lease, _STOPPED)
        return not held

    def _fetch(self) -> int:
        """Lease what there is room for: slots that are free and as much again, so that none waits for a commit."""
        concurrency = self._settings().concurrency
        with self._lock:
            ahead = len(self._ahead)
            routine, stat = self._busy()
            stat_ahead = any(lease.priority is Priority.STAT for lease in self._ahead)
        paused = self.pauses.paused()
        try:
            if ahead <= concurrency // 2:
                leases = self._worklist.lease(2 * concurrency - routine - ahead, self.owner, without=paused)
            elif not stat and not stat_ahead:
                leases = self._worklist.lease(1, self.owner, stat_only=True, without=paused)
            else:
                return 0
        except WorklistAway as error:
            LOG.warning("the worklist cannot be asked", extra={"reason": str(error)})
            return 0
        with self._lock:
            self._ahead = deque(sorted([*self._ahead, *leases], key=lambda lease: (lease.priority, lease.work)))
        return len(leases)

    def _busy(self) -> tuple[int, int]:
        """Count the works under way in the common slots, and in the one kept for STAT."""
        concurrency = self._settings().concurrency
        extra = max(0, len(self._under_way) - concurrency)
        return len(self._under_way) - extra, extra

    def _begin(self, slots: ThreadPoolExecutor, stop: threading.Event) -> int:
        """Begin what is ahead while slots are free; what waits for a pipeline that is paused goes back."""
        begun = 0
        paused = self.pauses.paused()
        while True:
            with self._lock:
                lease = next((one for one in self._ahead if one.served in paused or self._may_begin(one)), None)
                if lease is None or stop.is_set():
                    return begun
                self._ahead.remove(lease)
                if lease.served not in paused:
                    self._under_way[lease.work, lease.token] = lease
            if lease.served in paused:
                self._fail(lease, Failure(FailureKind.LATER, "PAUSED", "its pipeline is not read with at present"))
                continue
            slots.submit(self._guarded, partial(self._read, lease), lease)
            begun += 1

    def _may_begin(self, lease: Lease) -> bool:
        """Whether there is room for a work now; called under the lock."""
        concurrency = self._settings().concurrency
        if lease.priority is Priority.STAT:
            return len(self._under_way) < concurrency + 1
        # While a STAT film is read no other is begun: the server is its alone.
        if any(one.priority is Priority.STAT for one in self._under_way.values()) or self._yields():
            return False
        # A series takes seconds where a film takes a tenth: films pass those that wait.
        series = sum(len(one.sources) > 1 for one in self._under_way.values()) if len(lease.sources) > 1 else 0
        return len(self._under_way) < concurrency and series < max(1, concurrency // 2)

    def _is_idle(self) -> bool:
        """Whether nothing waits here or is under way, and nothing STAT anywhere."""
        with self._lock:
            is_busy = bool(self._ahead or self._under_way)
        return not is_busy and not self._yields()

    def _yields(self) -> bool:
        return self._way is not None and self._way.must_yield()

    def _guarded(self, act: Callable[[], None], lease: Lease | None = None) -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 -- kept for `run`, which raises it in the reader's own thread
            self._crash = error
        finally:
            with self._lock:
                if lease is not None:
                    del self._under_way[lease.work, lease.token]
            self._wake.set()

    def _read(self, lease: Lease) -> None:
        settings = self._settings()
        try:
            with metrics.timed("read"):
                pipeline = self._pipelines[lease.served.model]
                reading = read(
                    lease,
                    partial(self._worklist.film, lease),
                    pipeline,
                    settings.deadline_s,
                    settings.series_deadline_s,
                )
            self.pauses.worked(lease.served)
            self._worklist.complete(lease, reading)
            if lease.has_shadow:
                self._shadows.offer(lease)
        except EXPECTED as error:
            self._failed(lease, error)
        except LeaseLost:
            self._lost(lease)
        except WorklistAway as error:  # its lease will expire
            LOG.warning("a work is left to expire", extra={"work": lease.work, "reason": str(error)})

    def _failed(self, lease: Lease, error: Exception) -> None:
        cause = cause_of(error)
        wait_s, begins = 0.0, True
        if isinstance(error, WetreadError):
            wait_s, begins = self.pauses.failed(lease.served, mends=cause.mends)
        else:
            wait_s = _KEEP_S
        failure = failure_of(error, wait_s)
        if begins:
            LOG.warning(
                "a work was not read",
                extra={"study": study_key(lease.study_uid), "work": lease.work, "reason": str(failure.code)},
            )
            if cause.alert:
                metrics.ALERTS.labels(cause.alert).inc()
        self._fail(lease, failure)

    def _fail(self, lease: Lease, failure: Failure) -> None:
        try:
            self._worklist.fail(lease, failure)
        except LeaseLost:
            self._lost(lease)
        except WorklistAway as error:
            LOG.warning("a work is left to expire", extra={"work": lease.work, "reason": str(error)})

    def _lost(self, lease: Lease) -> None:
        self.lost += 1
        LOG.warning("a lease was lost", extra={"study": study_key(lease.study_uid), "work": lease.work})

    def _probe_what_is_due(self, slots: ThreadPoolExecutor) -> None:
        for served in self.pauses.to_probe():
            slots.submit(self._guarded, partial(self._probe, served))

    def _probe(self, served: Served) -> None:
        try:
            self._pipelines[served.model].probe()
        except WetreadError as error:
            self.pauses.still_broken(served)
            metrics.ALERTS.labels("pipeline_broken").inc()
            LOG.error("a pipeline does not read what it must: %s", served.model, extra={"reason": error.code})
        else:
            self.pauses.mended(served)
            LOG.info("a pipeline reads again: %s", served.model)

    def _give_back_ahead(self) -> None:
        with self._lock:
            ahead, self._ahead = self._ahead, deque()
        for lease in ahead:
            self._fail(lease, _STOPPED)

    def _keep(self, ended: threading.Event) -> None:
        """Extend the leases that are held, before a third of their time has passed."""
        lease_s = self._settings().lease_s
        while not ended.wait(min(_KEEP_S, lease_s / 6)):
            lease_s = self._settings().lease_s
            with self._lock:
                held = [*self._ahead, *self._under_way.values()]
            for lease in held:
                if lease.until - time.time() < lease_s * 2 / 3:
                    self._extend(lease)

    def _extend(self, lease: Lease) -> None:
        try:
            kept = self._worklist.extend(lease)
        except LeaseLost:
            kept = None
        except WorklistAway:
            return
        with self._lock:
            if (lease.work, lease.token) in self._under_way:
                self._under_way[lease.work, lease.token] = kept or lease  # what was lost is found out when it completes
            else:
                others = [kept if other.work == lease.work and kept else other for other in self._ahead]
                self._ahead = deque(other for other in others if kept or other.work != lease.work)
