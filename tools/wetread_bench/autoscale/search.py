"""The search for the numbers that ship: the feed-forward target, and window and tolerance to shrink."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from wetread_bench.autoscale.monitoring import WORKS_PER_S
from wetread_bench.autoscale.simulate import Cluster, simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from wetread_bench.autoscale.curve import ServiceCurve
    from wetread_bench.autoscale.day import Day
    from wetread_bench.autoscale.manifest import Manifest
    from wetread_bench.autoscale.outcome import Outcome

SHARES = (0.55, 0.65, 0.75, 0.85)
"""Works a second for each pod, as shares of what one reads."""
WINDOWS_S = (1800, 3600)
TOLERANCES = (0.1, 0.2)
"""To shrink; 0.1 is the controller's own."""
LONG_COLD_START_S = 120.0
"""A candidate must hold with this one too: a new node pulls the image first."""


@dataclass(frozen=True)
class Candidate:
    """One point of the grid: seconds and changes of the worst day that was tried, hours of the first."""

    share: float
    window_s: int
    tolerance: float
    p99_s: float
    worst_minute_p99_s: float
    minutes_over_bar: int
    direction_changes: int
    pod_hours: float
    peak_replicas: int
    long_worst_minute_p99_s: float | None
    """With the long cold start; None: not tried, since the usual one fails."""
    holds: bool
    """All days keep their bars, with no minute over two seconds; the first with the long cold start, too."""


def with_numbers(manifest: Manifest, works_per_s: float, window_s: int, tolerance: float) -> Manifest:
    """Give the manifest with another target, and another window and tolerance to shrink."""
    metrics = tuple(
        replace(metric, target=works_per_s) if metric.name == WORKS_PER_S else metric for metric in manifest.metrics
    )
    assert manifest.down is not None
    return replace(manifest, metrics=metrics, down=replace(manifest.down, window_s=window_s, tolerance=tolerance))


def target_of(share: float, curve: ServiceCurve, slots: int) -> float:
    """Give the target in works a second, a whole number as it stands in the manifest."""
    return float(max(1, round(share * curve.peak(slots))))


def candidates(
    days: Sequence[Day], manifest: Manifest, curve: ServiceCurve, cluster: Cluster, report: Callable[[str], None],
) -> Iterator[Candidate]:  # fmt: skip
    """Run the grid, a later day only where the first holds: one day's numbers alone are too tight for the next."""
    for share, window_s, tolerance in itertools.product(SHARES, WINDOWS_S, TOLERANCES):
        target = target_of(share, curve, cluster.reader.slots)
        tried = with_numbers(manifest, target, window_s, tolerance)
        usual = []
        for day in days:
            usual.append(simulate(day, tried, curve, cluster))
            if not _keeps(usual[-1]):
                break
        late = None
        if _keeps(usual[-1]):
            late = simulate(days[0], tried, curve, replace(cluster, cold_start_s=LONG_COLD_START_S))
        found = Candidate(
            share, window_s, tolerance, max(each.p99_s for each in usual),
            max(each.worst_minute_p99_s for each in usual), sum(each.minutes_over_bar for each in usual),
            max(each.direction_changes for each in usual), usual[0].pod_hours,
            max(each.peak_replicas for each in usual), late.worst_minute_p99_s if late else None,
            late is not None and _keeps(late),
        )  # fmt: skip
        report(f"{share:.0%}, {window_s} s, {tolerance}: {asdict(found)}")
        yield found


def _keeps(outcome: Outcome) -> bool:
    return outcome.holds and not outcome.minutes_over_bar


def chosen(found: Sequence[Candidate]) -> Candidate:
    """Give the cheapest of those that hold; where none does, the one with the fewest bad minutes, then turns."""
    holding = [each for each in found if each.holds]
    if holding:
        return min(holding, key=lambda each: each.pod_hours)
    return min(found, key=lambda each: (each.minutes_over_bar, each.direction_changes, each.pod_hours))


def rows(found: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Give them for a result."""
    return [asdict(each) for each in found]
