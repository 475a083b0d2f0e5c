"""What the autoscaler gets to see: scrapes every 15 s, rates over a window, under the names of the adapter."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wetread_bench.autoscale.replicas import Readings, Sample, Samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from wetread_bench.autoscale.curve import Floats, ServiceCurve

CPU = "cpu"
PENDING, QUEUE_RATIO = "wetread_pending_requests", "wetread_queue_over_compute"
AGE, WAITING, WORKS_PER_S = "wetread_spool_age_seconds", "wetread_works_waiting", "wetread_works_per_second"
NAMES = (CPU, PENDING, QUEUE_RATIO, AGE, WAITING, WORKS_PER_S)


@dataclass(frozen=True)
class Monitoring:
    """How old what is seen may be."""

    scrape_s: float = 15.0
    """Between two scrapes of Prometheus, and two of metrics-server."""
    rate_window_s: float = 60.0
    """Over which the adapter's rules take rates."""
    phase_s: float = 7.0
    """From a sync of the autoscaler to the next scrape."""


@dataclass(frozen=True)
class PodCounters:
    """One pod's counters at a scrape."""

    completed: int
    level_s: Floats
    """Seconds with so many works under way."""


@dataclass(frozen=True)
class Scrape:
    """All that is scraped at a moment. `pods`: those that are ready."""

    at: float
    pods: Mapping[int, PodCounters]
    arrived: int
    held: int
    oldest_waiting_s: float


class Prometheus:
    """Keeps scrapes as long as a rate needs them. `without`: metrics that nobody gives any more, as after a failure."""

    def __init__(self, settings: Monitoring, curve: ServiceCurve, slots: int, without: Iterable[str] = ()) -> None:
        self._settings = settings
        self._curve = curve
        self._peak = curve.peak(slots)
        levels = range(slots + 2)
        self._waiting = np.array([curve.pending_requests(n) for n in levels])
        ratios = np.array([curve.queue_ratio(n) for n in levels])
        self._computing = np.divide(self._waiting, ratios, out=np.zeros(len(ratios)), where=ratios > 0)
        self._without = frozenset(without)
        self._scrapes: deque[Scrape] = deque()

    def scrape(self, seen: Scrape) -> None:
        """Take a scrape."""
        self._scrapes.append(seen)
        while self._scrapes[0].at < seen.at - self._settings.rate_window_s - self._settings.scrape_s:
            self._scrapes.popleft()

    def answer(self, now: float) -> Readings:
        """Answer the autoscaler's questions now, from what has been scraped."""
        pods = {
            CPU: self._cpu(),
            PENDING: self._over_last(self._pending),
            QUEUE_RATIO: self._over_window(now, self._queue_ratio),
        }
        external: dict[str, float] = {}
        if self._scrapes:
            last = self._scrapes[-1]
            external = {AGE: last.oldest_waiting_s, WAITING: float(last.held)}
            window = self._window(now)
            if len(window) > 1:
                external[WORKS_PER_S] = (window[-1].arrived - window[0].arrived) / (window[-1].at - window[0].at)
        return Readings(
            {name: samples for name, samples in pods.items() if name not in self._without},
            {name: value for name, value in external.items() if name not in self._without},
        )

    def _window(self, now: float) -> list[Scrape]:
        return [each for each in self._scrapes if each.at > now - self._settings.rate_window_s]

    def _last_two(self) -> tuple[Scrape, Scrape] | None:
        return (self._scrapes[-2], self._scrapes[-1]) if len(self._scrapes) > 1 else None

    def _cpu(self) -> Samples:
        """Metrics-server's: over the last two of the kubelet's numbers; a film's CPU time is what a full core gives."""
        two = self._last_two()
        if two is None:
            return {}
        before, after = two
        passed = after.at - before.at
        return {
            pod: Sample((counters.completed - before.pods[pod].completed) / passed / self._peak, after.at, passed)
            for pod, counters in after.pods.items()
            if pod in before.pods
        }

    def _pending(self, shares: Floats) -> float:
        return float(shares @ self._waiting)

    def _queue_ratio(self, shares: Floats) -> float:
        """Seconds that requests wait over seconds that they are computed, both in a second: by Little's law."""
        computing = float(shares @ self._computing)
        return float(shares @ self._waiting) / computing if computing else 0.0

    def _over_last(self, value: Callable[[Floats], float]) -> Samples:
        two = self._last_two()
        return {} if two is None else _by_level(*two, value)

    def _over_window(self, now: float, value: Callable[[Floats], float]) -> Samples:
        window = self._window(now)
        found: Samples = {}
        for first in window[:-1]:  # a young pod's rate is over what there is of it
            for pod, sample in _by_level(first, window[-1], value).items():
                found.setdefault(pod, sample)
        return found


def _by_level(before: Scrape, after: Scrape, value: Callable[[Floats], float]) -> Samples:
    """Give a value of the shares of time with so many works under way, by pod."""
    passed = after.at - before.at
    return {
        pod: Sample(value((counters.level_s - before.pods[pod].level_s) / passed), after.at, passed)
        for pod, counters in after.pods.items()
        if pod in before.pods
    }
