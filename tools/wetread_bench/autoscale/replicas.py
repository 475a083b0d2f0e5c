"""How many replicas one metric asks for: the arithmetic of Kubernetes' replica_calculator.go."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from wetread_bench.autoscale.manifest import Manifest, Metric


class NoMetric(Exception):
    """The metric has no value: the autoscaler counts it as invalid."""


@dataclass(frozen=True)
class Controller:
    """Flags of kube-controller-manager, --horizontal-pod-autoscaler-*, with its own defaults."""

    sync_s: float = 15.0
    tolerance: float = 0.1
    downscale_stabilisation_s: float = 300.0
    """For a manifest that says nothing of its own."""
    cpu_initialisation_s: float = 300.0
    initial_readiness_delay_s: float = 30.0


DEFAULTS = Controller()


@dataclass(frozen=True)
class PodStatus:
    """What the autoscaler sees of a pod. `is_pending`: its phase, which lasts until all init containers have ended."""

    name: int
    is_pending: bool
    is_ready: bool
    started_s: float
    ready_changed_s: float
    """When readiness last changed."""
    is_going: bool = False
    """Deleted or failed."""


@dataclass(frozen=True)
class Sample:
    """One pod's value. `taken_s`, `window_s`: of a resource, when and over how long it was measured."""

    value: float
    taken_s: float = 0.0
    window_s: float = 0.0


Samples = dict[int, Sample]


@dataclass(frozen=True)
class Readings:
    """What the three metrics APIs answer now."""

    pods: Mapping[str, Samples]
    """By metric; a resource's values are shares of the request (1 = all of it)."""
    external: Mapping[str, float]


@dataclass(frozen=True)
class Tolerances:
    """Ratios within [1 - down, 1 + up] ask for no change (`Tolerances.isWithin`)."""

    up: float
    down: float

    @classmethod
    def of(cls, manifest: Manifest, controller: Controller) -> Tolerances:
        """The manifest's own where it says so (`tolerancesForHpa`), else the controller's."""
        up = manifest.up.tolerance if manifest.up else None
        down = manifest.down.tolerance if manifest.down else None
        return cls(controller.tolerance if up is None else up, controller.tolerance if down is None else down)

    def holds(self, ratio: float) -> bool:
        """Whether a ratio asks for no change."""
        return (1.0 - self.down) <= ratio <= (1.0 + self.up)


@dataclass(frozen=True)
class _Groups:
    ready: int
    unready: set[int]
    missing: set[int]
    ignored: set[int]


def proposal(
    metric: Metric, spec_replicas: int, pods: Sequence[PodStatus], readings: Readings, tolerances: Tolerances,
    controller: Controller, now: float,
) -> int:  # fmt: skip
    """Give the replicas that one metric asks for (`computeReplicasForMetric`); NoMetric: it has no value."""
    status_replicas = sum(not pod.is_going for pod in pods)
    if metric.source == "External":
        return _external(metric, spec_replicas, status_replicas, pods, readings, tolerances)
    is_cpu = metric.source in ("Resource", "ContainerResource") and metric.name == "cpu"
    samples = dict(readings.pods.get(metric.name, {}))
    groups = _grouped(pods, samples, controller, now, is_cpu=is_cpu)
    for name in groups.ignored | groups.unready:
        samples.pop(name, None)
    if not samples:
        raise NoMetric(f"{metric.title}: no ready pod has a value")
    if metric.target_kind == "Utilization":
        # GetResourceUtilizationRatio divides whole numbers: percent are cut, not rounded.
        def ratio(values: Sequence[float]) -> float:
            return math.floor(100.0 * sum(values) / len(values) + 1e-9) / metric.target

        for_missing = max(1.0, metric.target / 100.0)
    else:

        def ratio(values: Sequence[float]) -> float:
            return math.floor(1e3 * sum(values) / len(values) + 1e-9) / (1e3 * metric.target)

        for_missing = metric.target
    return _per_pod(spec_replicas, samples, groups, ratio, for_missing, tolerances)


def _external(
    metric: Metric, spec_replicas: int, status_replicas: int, pods: Sequence[PodStatus], readings: Readings,
    tolerances: Tolerances,
) -> int:  # fmt: skip
    """`GetExternalPerPodMetricReplicas` for AverageValue, `GetExternalMetricReplicas` for Value."""
    value = readings.external.get(metric.name)
    if value is None:
        raise NoMetric(f"{metric.title}: no value")
    if metric.target_kind == "AverageValue":
        if status_replicas and tolerances.holds(value / (metric.target * status_replicas)):
            return status_replicas
        return math.ceil(value / metric.target - 1e-9)
    ratio = value / metric.target
    if spec_replicas == 0:
        return math.ceil(ratio - 1e-9)
    if tolerances.holds(ratio):
        return spec_replicas
    ready = sum(pod.is_ready and not pod.is_pending for pod in pods)
    return math.ceil(ratio * ready - 1e-9)


def _grouped(
    pods: Sequence[PodStatus], samples: Samples, controller: Controller, now: float, *, is_cpu: bool
) -> _Groups:
    """`groupPods`: a pending pod is unready, one without a value missing, a young one's CPU is not yet believed."""
    groups = _Groups(0, set(), set(), set())
    ready = 0
    for pod in pods:
        if pod.is_going:
            groups.ignored.add(pod.name)
        elif pod.is_pending:
            groups.unready.add(pod.name)
        elif pod.name not in samples:
            groups.missing.add(pod.name)
        elif is_cpu and _is_unbelieved(pod, samples[pod.name], controller, now):
            groups.unready.add(pod.name)
        else:
            ready += 1
    return _Groups(ready, groups.unready, groups.missing, groups.ignored)


def _is_unbelieved(pod: PodStatus, sample: Sample, controller: Controller, now: float) -> bool:
    if pod.started_s + controller.cpu_initialisation_s > now:
        return not pod.is_ready or sample.taken_s < pod.ready_changed_s + sample.window_s
    return not pod.is_ready and pod.started_s + controller.initial_readiness_delay_s > pod.ready_changed_s


def _per_pod(
    current: int, samples: Samples, groups: _Groups, ratio_of: Callable[[Sequence[float]], float],
    for_missing: float, tolerances: Tolerances,
) -> int:  # fmt: skip
    """`GetResourceReplicas` and `calcPlainMetricReplicas`: unready and missing pods damp, and never turn, a change."""
    values = {name: sample.value for name, sample in samples.items()}
    ratio = ratio_of(list(values.values()))
    counts_unready = bool(groups.unready) and ratio > 1.0
    if not counts_unready and not groups.missing:
        return current if tolerances.holds(ratio) else math.ceil(ratio * groups.ready - 1e-9)
    if ratio < 1.0:
        values |= dict.fromkeys(groups.missing, for_missing)
    elif ratio > 1.0:
        values |= dict.fromkeys(groups.missing, 0.0)
    if counts_unready:
        values |= dict.fromkeys(groups.unready, 0.0)
    again = ratio_of(list(values.values()))
    if tolerances.holds(again) or (ratio < 1.0 < again) or (again < 1.0 < ratio):
        return current
    wanted = math.ceil(again * len(values) - 1e-9)
    if (again < 1.0 and wanted > current) or (again > 1.0 and wanted < current):
        return current
    return wanted
