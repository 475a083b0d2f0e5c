"""A day of arrivals against an autoscaler: pods come after their cold start, drain when told to, and are counted."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from wetread_bench.autoscale.hpa import Autoscaler
from wetread_bench.autoscale.monitoring import Monitoring, PodCounters, Prometheus, Scrape
from wetread_bench.autoscale.outcome import Minute, Outcome
from wetread_bench.autoscale.replicas import DEFAULTS, Controller, PodStatus
from wetread_bench.autoscale.worklist import ReaderSettings, Worklist, quantile_s

if TYPE_CHECKING:
    from wetread_bench.autoscale.curve import Floats, ServiceCurve
    from wetread_bench.autoscale.day import Day
    from wetread_bench.autoscale.manifest import Manifest

SPARE_PLACES = 12
"""Pods that may drain while as many as the manifest allows serve."""


@dataclass(frozen=True)
class Cluster:
    """What surrounds the autoscaler."""

    cold_start_s: float = 60.0
    """From a pod's creation to its readiness: image, release, Triton, reader."""
    stat_share: float = 0.05
    reader: ReaderSettings = field(default_factory=ReaderSettings)
    monitoring: Monitoring = field(default_factory=Monitoring)
    controller: Controller = DEFAULTS
    kills: tuple[float, ...] = ()
    """Moments at which the oldest serving pod dies; its Deployment makes another."""
    without: frozenset[str] = frozenset()
    """Metrics that have no value."""


@dataclass
class _Pod:
    name: int
    created: float
    place: int = -1
    ready_at: float = math.inf
    going: bool = False


class _Pods:
    """A Deployment's pods: those that are to be, in whatever state."""

    def __init__(self, worklist: Worklist, places: int, cold_start_s: float) -> None:
        self._worklist = worklist
        self._cold_start_s = cold_start_s
        self._free = list(range(places))
        self._names = itertools.count()
        self.all: list[_Pod] = []
        self.pod_s = 0.0

    @property
    def serving(self) -> list[_Pod]:
        """Those that are ready and stay."""
        return [pod for pod in self.all if pod.place >= 0 and not pod.going]

    def scale(self, replicas: int, now: float, *, at_once: bool = False) -> None:
        """Create what lacks; delete what is too many, the youngest first, as a ReplicaSet does."""
        staying = [pod for pod in self.all if not pod.going]
        for _ in range(replicas - len(staying)):
            self.all.append(_Pod(next(self._names), now, ready_at=now + (0.0 if at_once else self._cold_start_s)))
        surplus = max(0, len(staying) - replicas)
        doomed = sorted(staying, key=lambda pod: (pod.place >= 0, -pod.ready_at, -pod.name))[:surplus]
        for pod in doomed:
            pod.going = True
            if pod.place >= 0:
                self._worklist.drain(pod.place)

    def settle(self, now: float) -> None:
        """Let those that are ready begin, and forget those that have ended."""
        for pod in self.all:
            if pod.place < 0 and pod.ready_at <= now and not pod.going:
                pod.place = self._free.pop()
                self._worklist.start(pod.place)
        for pod in [each for each in self.all if each.going]:
            if pod.place < 0 or self._worklist.is_gone(pod.place):
                self._forget(pod)

    def kill_oldest(self) -> None:
        """One dies."""
        if self.serving:
            pod = min(self.serving, key=lambda each: each.ready_at)
            self._worklist.kill(pod.place)
            self._forget(pod)

    def next_ready(self) -> float:
        """Give the moment at which the next one will be ready."""
        return min((pod.ready_at for pod in self.all if pod.place < 0 and not pod.going), default=math.inf)

    def statuses(self) -> list[PodStatus]:
        """As the autoscaler sees them: pending until all init containers, Triton among them, have started."""
        return [
            PodStatus(pod.name, pod.place < 0, pod.place >= 0, pod.created, pod.ready_at, pod.going) for pod in self.all
        ]

    def _forget(self, pod: _Pod) -> None:
        self.all.remove(pod)
        if pod.place >= 0:
            self._free.append(pod.place)


def simulate(
    day: Day,
    manifest: Manifest,
    curve: ServiceCurve,
    cluster: Cluster = Cluster(),
    seed: int = 1,
) -> Outcome:
    """Run a day, which begins with the pods that its first minute needs, ready."""
    return _Run(day, manifest, curve, cluster, seed).run()


class _Run:
    def __init__(self, day: Day, manifest: Manifest, curve: ServiceCurve, cluster: Cluster, seed: int) -> None:
        self._day, self._cluster, self._seed = day, cluster, seed
        places = manifest.max_replicas + SPARE_PLACES
        self._worklist = Worklist(curve, places, cluster.reader, seed)
        self._pods = _Pods(self._worklist, places, cluster.cold_start_s)
        self._scaler = Autoscaler(manifest, cluster.controller)
        self._prometheus = Prometheus(cluster.monitoring, curve, cluster.reader.slots, cluster.without)
        needed = math.ceil(day.works[0] / 60 / curve.peak(cluster.reader.slots))
        self._replicas = min(max(manifest.min_replicas, needed), manifest.max_replicas)
        self._next_sync = cluster.controller.sync_s
        self._next_scrape = cluster.monitoring.phase_s
        self._kills = sorted(cluster.kills)
        self._minutes: list[Minute] = []
        self._changes: list[tuple[float, int]] = [(0.0, self._replicas)]
        self._total = np.zeros_like(self._worklist.state.histogram)

    def run(self) -> Outcome:
        self._pods.scale(self._replicas, 0.0, at_once=True)
        self._pods.settle(0.0)
        for minute, (moments, kinds) in enumerate(self._day.arrivals(self._seed, self._cluster.stat_share)):
            self._until(60.0 * (minute + 1), moments, kinds)
            self._close_minute(len(moments))
        self._let_end()
        return Outcome.of(
            tuple(self._minutes), tuple(self._changes), self._total, self._pods.pod_s / 3600, self._worklist
        )

    def _until(self, end: float, moments: Floats, kinds: np.typing.NDArray[np.int8]) -> None:
        at = 0
        while self._worklist.now < end:
            due = min(end, self._next_sync, self._next_scrape, self._pods.next_ready(), *self._kills[:1])
            upto = at + int(np.searchsorted(moments[at:], due))
            self._pods.pod_s += (due - self._worklist.now) * len(self._pods.all)
            self._worklist.advance(due, moments[at:upto], kinds[at:upto])
            at = upto
            self._happen(due)

    def _happen(self, now: float) -> None:
        while self._kills and self._kills[0] <= now:
            self._kills.pop(0)
            self._pods.kill_oldest()
            self._pods.scale(self._replicas, now)
        self._pods.settle(now)
        if now >= self._next_scrape:
            self._next_scrape += self._cluster.monitoring.scrape_s
            self._scrape(now)
        if now >= self._next_sync:
            self._next_sync += self._cluster.controller.sync_s
            decision = self._scaler.sync(now, self._replicas, self._pods.statuses(), self._prometheus.answer(now))
            if decision.replicas != self._replicas:
                self._replicas = decision.replicas
                self._changes.append((now, self._replicas))
                self._pods.scale(self._replicas, now)
                self._pods.settle(now)

    def _scrape(self, now: float) -> None:
        state, worklist = self._worklist.state, self._worklist
        pods = {
            pod.name: PodCounters(int(state.completed[pod.place]), state.level_s[pod.place].copy())
            for pod in self._pods.serving
        }
        self._prometheus.scrape(Scrape(now, pods, worklist.arrived, worklist.held, worklist.oldest_waiting_s()))

    def _close_minute(self, arrived: int) -> None:
        taken = self._worklist.take_histogram()
        self._total += taken
        self._minutes.append(
            Minute(
                arrived,
                self._replicas,
                len(self._pods.serving),
                quantile_s(taken, 0.5),
                quantile_s(taken, 0.99),
                self._worklist.held,
            )
        )

    def _let_end(self) -> None:
        """Read what is left after the day; its times count, its minutes do not."""
        nothing = np.zeros(0)
        for _ in range(24 * 60):
            if not self._worklist.held:
                break
            now = self._worklist.now
            self._until(now + 60.0, nothing, nothing.astype(np.int8))
        self._total += self._worklist.take_histogram()
