"""A real run with arrivals at random, and the same arrivals through the simulated pod."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from wetread_bench.autoscale.queue import BINS
from wetread_bench.autoscale.worklist import ReaderSettings, Worklist, quantile_s
from wetread_bench.load import poisson_moments
from wetread_bench.results import quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wetread_bench.autoscale.curve import ServiceCurve

PASSES = 8
"""The same arrivals with other draws of the works' sizes: the percentile is taken over all."""
_PERCENTS = (10, 25, 50, 75, 90, 95, 99)


@dataclass(frozen=True)
class PoissonRun:
    """What was measured. The arrivals are those of `seed` at `rate` from the start, so they are not written down."""

    load: float
    """Share of the peak throughput."""
    rate: float
    seed: int
    warm_s: float
    seconds: float
    slots: int
    films: int
    films_per_s: float
    p50_ms: float
    p99_ms: float
    percentiles_ms: tuple[float, ...]
    """The 10th, 25th, 50th, 75th, 90th, 95th and 99th."""

    @classmethod
    def of(
        cls,
        load: float,
        rate: float,
        seed: int,
        warm_s: float,
        seconds: float,
        slots: int,
        latencies_ms: Sequence[float],
    ) -> Self:
        """Sum a run up: `latencies_ms` from the intended moment, of the films that ended in the window."""
        percentiles = tuple(round(quantile(latencies_ms, percent / 100), 3) for percent in _PERCENTS)
        count = len(latencies_ms)
        return cls(
            load, rate, seed, warm_s, seconds, slots, count, round(count / seconds, 3),
            percentiles[2], percentiles[-1], percentiles,
        )  # fmt: skip


@dataclass(frozen=True)
class Modelled:
    """What the simulated pod makes of the same arrivals."""

    films_per_s: float
    p50_ms: float
    p99_ms: float


def model_of(run: PoissonRun, curve: ServiceCurve) -> Modelled:
    """Send the run's arrivals through one simulated pod, a queue before `slots` slots."""
    moments = poisson_moments(0.0, run.rate, random.Random(run.seed))  # noqa: S311 -- a timetable, no secret
    end = run.warm_s + run.seconds
    arrivals = []
    while (moment := next(moments)) < end:
        arrivals.append(moment)
    times = np.array(arrivals)
    warm = int(np.searchsorted(times, run.warm_s))
    total = np.zeros((2, BINS), np.int64)
    for seed in range(PASSES):
        settings = ReaderSettings(slots=run.slots, most_ahead=0, look_s=0.0)
        pod = Worklist(curve, 1, settings, seed=seed, longest=len(arrivals) + 1)
        pod.start(0)
        pod.advance(run.warm_s, times[:warm])
        pod.take_histogram()
        pod.advance(end, times[warm:])
        total += pod.take_histogram()
    p50, p99 = (round(quantile_s(total, share) * 1e3, 3) for share in (0.5, 0.99))
    return Modelled(round(int(total.sum()) / PASSES / run.seconds, 3), p50, p99)
