"""Which pipelines are not read with at present, since they were down or broke under a film."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wetread_client import Retry

if TYPE_CHECKING:
    from wetread_gateway.reading.worklist import Served

RETRY = Retry(first_wait_s=0.25, longest_wait_s=5.0)


@dataclass(slots=True)
class _Pause:
    until: float  # time.monotonic
    failures: int
    mends: bool
    probing: bool = False


class Pauses:
    """Keeps a server that is down from being asked for each work of a long queue. Safe to use from many threads."""

    def __init__(self, retry: Retry = RETRY) -> None:
        self._retry = retry
        self._pauses: dict[Served, _Pause] = {}
        self._lock = threading.Lock()

    def failed(self, served: Served, *, mends: bool) -> tuple[float, bool]:
        """Pause; give the seconds it lasts at least, and whether it begins now: films under way fail together.

        `mends`: it ends only when a probe has shown that the pipeline works.
        """
        now = time.monotonic()
        with self._lock:
            pause = self._pauses.setdefault(served, _Pause(0.0, 0, mends=False))
            begins = pause.until <= now and not pause.probing and not pause.mends
            pause.mends = pause.mends or mends
            if begins or pause.until <= now:
                pause.failures += 1
                pause.until = now + self._retry.wait_s(pause.failures)
            return max(0.0, pause.until - now), begins

    def worked(self, served: Served) -> None:
        """Note a reading: the pipeline is up. What broke under a film waits for its probe all the same."""
        with self._lock:
            pause = self._pauses.get(served)
            if pause is not None and not pause.mends:
                del self._pauses[served]

    def paused(self) -> frozenset[Served]:
        """Give what is paused now."""
        now = time.monotonic()
        with self._lock:
            return frozenset(s for s, pause in self._pauses.items() if pause.mends or pause.until > now)

    def to_probe(self) -> list[Served]:
        """Give what is due to be probed, once: `mended` or `still_broken` must follow."""
        now = time.monotonic()
        with self._lock:
            due = [s for s, p in self._pauses.items() if p.mends and not p.probing and p.until <= now]
            for served in due:
                self._pauses[served].probing = True
        return due

    def mended(self, served: Served) -> None:
        """End the pause: the probe was read."""
        with self._lock:
            self._pauses.pop(served, None)

    def still_broken(self, served: Served) -> None:
        """Go on pausing, for longer."""
        with self._lock:
            pause = self._pauses[served]
            pause.failures += 1
            pause.probing = False
            pause.until = time.monotonic() + self._retry.wait_s(pause.failures)
