"""What is asked of an autoscaler: the peak day, a step to ten times the load, cold starts of all lengths."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from wetread_bench.autoscale.day import PEAK_PODS, step
from wetread_bench.autoscale.simulate import Cluster, simulate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wetread_bench.autoscale.curve import ServiceCurve
    from wetread_bench.autoscale.day import Day
    from wetread_bench.autoscale.manifest import Manifest
    from wetread_bench.autoscale.outcome import Outcome

COLD_STARTS_S = (10.0, 30.0, 60.0, 90.0, 120.0, 180.0, 240.0, 300.0)
STEP_MINUTE = 30


@dataclass(frozen=True)
class Sweep:
    """One cold start: the day, and the step."""

    cold_start_s: float
    p99_s: float
    worst_minute_p99_s: float
    minutes_over_bar: int
    direction_changes: int
    pod_hours: float
    lost: int
    holds: bool
    step_recovers_s: float
    """From the step until five minutes in a row keep p99 under the bar; infinite: not within the run."""


def naive(manifest: Manifest) -> Manifest:
    """Give the autoscaler of most examples: CPU alone, and nothing said of behaviour."""
    cpu = tuple(metric for metric in manifest.metrics if metric.name == "cpu")
    return replace(manifest, metrics=cpu, up=None, down=None)


def step_outcome(
    manifest: Manifest, curve: ServiceCurve, cluster: Cluster, factor: float = 10.0, seed: int = 1
) -> Outcome:
    """Run a step: after half an hour the load is `factor` times as much, and needs about ten pods."""
    quiet = PEAK_PODS * curve.peak(cluster.reader.slots) / factor
    return simulate(step(quiet, factor, at_minute=STEP_MINUTE), manifest, curve, cluster, seed)


def sweep(
    day: Day, manifest: Manifest, curve: ServiceCurve, cluster: Cluster, seed: int = 1,
    cold_starts_s: Iterable[float] = COLD_STARTS_S,
) -> Iterator[Sweep]:  # fmt: skip
    """Run the day and the step with each cold start."""
    for cold_start_s in cold_starts_s:
        there = replace(cluster, cold_start_s=cold_start_s)
        seen = simulate(day, manifest, curve, there, seed)
        stepped = step_outcome(manifest, curve, there, seed=seed)
        yield Sweep(
            cold_start_s, seen.p99_s, seen.worst_minute_p99_s, seen.minutes_over_bar, seen.direction_changes,
            seen.pod_hours, seen.lost, seen.holds, stepped.recovered_after_s(STEP_MINUTE),
        )  # fmt: skip


def surroundings(cluster: Cluster) -> dict[str, object]:
    """Give what a result must say of them."""
    told = asdict(cluster)
    return {**told, "without": sorted(cluster.without), "kills": list(cluster.kills)}
