"""The arithmetic of `wetread bench load`: what a locust run tells, when a rate is held, the search for the highest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

P99_LIMIT = 3.0
"""Times the unloaded p99 that is still called held."""
_LOW, _HIGH = 0.3, 1.4  # of the quick estimate: where the search begins


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of locust at a rate. Latencies are milliseconds from the moment at which each should have been sent."""

    rate: float
    seconds: float
    offered: int
    answered: int
    goodput_per_s: float
    """Answers a second while films were being sent."""
    p50_ms: float
    p99_ms: float
    stat_answered: int
    stat_p50_ms: float
    stat_p99_ms: float
    refused: int
    refused_before_body: int
    stat_refused: int
    failed: int
    lost: int
    unsent: int
    generator_lag_p99_ms: float

    @classmethod
    def of(cls, rate: float, seconds: float, told: Mapping[str, Any]) -> Self:
        """Take it from locust's JSON."""
        routine, stat = (told["lines"][f"all {priority}"] for priority in ("routine", "stat"))
        return cls(
            rate=rate,
            seconds=seconds,
            offered=told["offered"],
            answered=routine["answered"] + stat["answered"],
            goodput_per_s=round((routine["answered_in_window"] + stat["answered_in_window"]) / seconds, 3),
            p50_ms=told["latency"]["p50_ms"],
            p99_ms=told["latency"]["p99_ms"],
            stat_answered=stat["answered"],
            stat_p50_ms=stat["p50_ms"],
            stat_p99_ms=stat["p99_ms"],
            refused=told["refused"],
            refused_before_body=routine["refused_before_body"] + stat["refused_before_body"],
            stat_refused=sum(stat["refused"].values()),
            failed=told["failed"],
            lost=told["lost"],
            unsent=told["generator"]["unsent"],
            generator_lag_p99_ms=told["generator"]["lag_p99_ms"],
        )

    @property
    def is_whole(self) -> bool:
        """Whether everything left, everything was answered or refused, and nothing was lost."""
        return not (self.failed or self.lost or self.unsent) and self.answered + self.refused == self.offered

    def is_held(self, unloaded_p99_ms: float) -> bool:
        """Whether the rate was held: nothing refused, failed or lost, and p99 within its limit."""
        return self.is_whole and self.refused == 0 and self.p99_ms <= P99_LIMIT * unloaded_p99_ms


def search(run: Callable[[float], Trial], unloaded_p99_ms: float, estimate: float, trials: int) -> list[Trial]:
    """Search the highest rate that is held, by bisection, in so many trials; gives all of them in order.

    `estimate`: films a second when several are under way at all times, which random arrivals never reach.
    """
    low, high = _LOW * estimate, _HIGH * estimate
    found = []
    for _ in range(trials):
        rate = round((low + high) / 2, 2)
        found.append(run(rate))
        if found[-1].is_held(unloaded_p99_ms):
            low = rate
        else:
            high = rate
    return found


def capacity(trials: list[Trial], unloaded_p99_ms: float) -> float:
    """Give the highest rate that was held and above which none was; 0 of none."""
    return max((trial.rate for trial in trials if trial.is_held(unloaded_p99_ms)), default=0.0)


def figures(
    capacity_per_s: float, unloaded_p99_ms: float, at_80: Trial, at_300: Trial, trials: list[Trial]
) -> dict[str, float]:
    """Give what a reader judges by."""
    return {
        "capacity_per_s": capacity_per_s,
        "goodput_at_300": _ratio(at_300.goodput_per_s, capacity_per_s),
        "lost": sum(trial.lost for trial in (*trials, at_80, at_300)),
        "p99_over_unloaded_at_80": _ratio(at_80.p99_ms, unloaded_p99_ms),
        "stat_p99_over_unloaded_at_300": _ratio(at_300.stat_p99_ms, unloaded_p99_ms),
    }


def _ratio(above: float, below: float) -> float:
    return round(above / below, 3) if below else 0.0
