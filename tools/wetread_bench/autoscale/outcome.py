"""What a simulated day came to."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from wetread_bench.autoscale.worklist import quantile_s

if TYPE_CHECKING:
    from wetread_bench.autoscale.queue import Whole
    from wetread_bench.autoscale.worklist import Worklist

BAR_P99_S, BAR_DIRECTIONS = 2.0, 6
"""What the shipped manifest must keep on the peak day."""
SETTLED_MINUTES = 5


@dataclass(frozen=True)
class Minute:
    """One minute. `p50_s`, `p99_s`: waiting and reading, of the works that ended in it; NaN: none did."""

    arrived: int
    replicas: int
    ready: int
    p50_s: float
    p99_s: float
    held: int


@dataclass(frozen=True)
class Outcome:
    """The numbers of a day. Times are from a work's arrival in the worklist to its reading."""

    works: int
    lost: int
    given_back: int
    p50_s: float
    p99_s: float
    p999_s: float
    stat_p99_s: float
    direction_changes: int
    changes: int
    peak_replicas: int
    pod_hours: float
    worst_minute_p99_s: float
    minutes_over_bar: int
    """In which more than one work of a hundred took over two seconds."""
    minutes: tuple[Minute, ...] = ()
    replicas: tuple[tuple[float, int], ...] = ()
    """Each change of the replicas that are wanted: when, and how many from then on."""

    @classmethod
    def of(
        cls,
        minutes: tuple[Minute, ...],
        replicas: tuple[tuple[float, int], ...],
        histogram: Whole,
        pod_hours: float,
        worklist: Worklist,
    ) -> Self:
        """Sum a day up."""
        p99s = [minute.p99_s for minute in minutes if not math.isnan(minute.p99_s)]
        return cls(
            works=worklist.arrived,
            lost=worklist.lost + worklist.held,
            given_back=worklist.given_back,
            p50_s=_rounded(quantile_s(histogram, 0.5)),
            p99_s=_rounded(quantile_s(histogram, 0.99)),
            p999_s=_rounded(quantile_s(histogram, 0.999)),
            stat_p99_s=_rounded(quantile_s(histogram[1], 0.99)),
            direction_changes=direction_changes([count for _, count in replicas]),
            changes=len(replicas) - 1,
            peak_replicas=max(count for _, count in replicas),
            pod_hours=round(pod_hours, 2),
            worst_minute_p99_s=_rounded(max(p99s, default=math.nan)),
            minutes_over_bar=sum(p99 >= BAR_P99_S for p99 in p99s),
            minutes=minutes,
            replicas=replicas,
        )

    @property
    def holds(self) -> bool:
        """Whether it keeps the bars: p99 under two seconds, at most six changes of direction, nothing lost."""
        return self.p99_s < BAR_P99_S and self.direction_changes <= BAR_DIRECTIONS and self.lost == 0

    def recovered_after_s(self, step_minute: int) -> float:
        """Give the seconds from a step to the first of five minutes with p99 under the bar; infinite: never."""
        good = [not math.isnan(minute.p99_s) and minute.p99_s < BAR_P99_S for minute in self.minutes]
        for at in range(step_minute, len(good) - SETTLED_MINUTES + 1):
            if all(good[at : at + SETTLED_MINUTES]):
                return 60.0 * (at - step_minute)
        return math.inf

    def numbers(self) -> dict[str, float]:
        """Give them without the minutes."""
        names = (
            "works", "lost", "given_back", "p50_s", "p99_s", "p999_s", "stat_p99_s", "direction_changes", "changes",
            "peak_replicas", "pod_hours", "worst_minute_p99_s", "minutes_over_bar",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}


def direction_changes(counts: list[int]) -> int:
    """Count how often a row of numbers turns from rising to falling or back."""
    signs = [after > before for before, after in itertools.pairwise(counts) if after != before]
    return sum(one != other for one, other in itertools.pairwise(signs))


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
