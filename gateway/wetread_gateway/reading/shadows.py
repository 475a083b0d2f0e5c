"""Asks the candidate what the stable release has been asked, when there is nothing else to do."""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from wetread_client import WetreadError

from wetread_gateway.errors import LeaseLost, WorklistAway
from wetread_gateway.metrics import SHADOWS
from wetread_gateway.reading.failures import EXPECTED
from wetread_gateway.reading.pauses import Pauses
from wetread_gateway.reading.read import read
from wetread_gateway.reading.routes import CANDIDATE
from wetread_gateway.reading.worklist import Served

if TYPE_CHECKING:
    from collections.abc import Callable

    from wetread_gateway.config.settings import Triton
    from wetread_gateway.reading.pipeline import Pipelines
    from wetread_gateway.reading.worklist import Lease, Worklist

LOG = logging.getLogger(__name__)
_LOOK_S = 0.02


class Shadows:
    """Works that were read by the stable release and wait for the candidate, on one thread of their own.

    `is_idle`: whether nothing that counts waits or is under way; only then is one begun. What comes when
    `settings().shadows` wait already pushes the oldest out. Nothing here delays or fails a work that counts: a shadow
    that cannot be read is counted and forgotten.
    """

    def __init__(
        self,
        worklist: Worklist,
        pipelines: Pipelines,
        settings: Callable[[], Triton],
        is_idle: Callable[[], bool],
        pauses: Pauses | None = None,
    ) -> None:
        self._worklist = worklist
        self._pipelines = pipelines
        self._settings = settings
        self._is_idle = is_idle
        self._pauses = pauses or Pauses()
        self._waiting: deque[Lease] = deque()
        self._lock = threading.Lock()
        self._came = threading.Event()
        self._ended = threading.Event()

    def offer(self, lease: Lease) -> None:
        """Have the candidate asked about a work that was just completed, some time, perhaps."""
        shadowed = replace(lease, served=Served(lease.served.pipeline, CANDIDATE))
        with self._lock:
            self._waiting.append(shadowed)
            dropped = max(0, len(self._waiting) - self._settings().shadows)
            for _ in range(dropped):
                self._waiting.popleft()
        SHADOWS.labels("dropped").inc(dropped)
        self._came.set()

    def start(self) -> None:
        """Begin; the thread ends with `end`, at the latest with its process."""
        threading.Thread(target=self._run, name="shadows", daemon=True).start()

    def end(self) -> None:
        """Begin no more; what waits is dropped."""
        self._ended.set()
        self._came.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            self._came.wait()
            with self._lock:
                if not self._waiting:
                    self._came.clear()
                    continue
            if not self._is_idle():
                self._ended.wait(_LOOK_S)
                continue
            with self._lock:
                lease = self._waiting.popleft()
            try:
                self._read(lease)
            except Exception:  # this thread's outermost loop: the readings that count go on
                SHADOWS.labels("failed").inc()
                LOG.exception("a shadow reading failed")

    def _read(self, lease: Lease) -> None:
        if lease.served in self._pauses.paused():
            SHADOWS.labels("dropped").inc()
            return
        film = partial(self._worklist.film, lease)
        try:
            pipeline = self._pipelines[lease.served.model]
            settings = self._settings()
            reading = read(lease, film, pipeline, settings.deadline_s, settings.series_deadline_s, heatmap=False)
            self._pauses.worked(lease.served)
            if not self._ended.is_set():
                self._worklist.shadow(lease, reading)
        except EXPECTED as error:
            SHADOWS.labels("failed").inc()
            is_servers = isinstance(error, WetreadError)
            if not is_servers or self._pauses.failed(lease.served, mends=False)[1]:
                LOG.warning("a candidate does not read in shadow", extra={"work": lease.work, "reason": str(error)})
        except (LeaseLost, WorklistAway) as error:
            SHADOWS.labels("failed").inc()
            LOG.warning("a shadow reading was not kept", extra={"work": lease.work, "reason": str(error)})
        else:
            SHADOWS.labels("read").inc()
