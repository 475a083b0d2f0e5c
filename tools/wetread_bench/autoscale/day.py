"""A day of a hospital group: works a minute, from a seeded table, and the moments at which they come."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from wetread_bench.autoscale.curve import Floats

MINUTES = 24 * 60
PEAK_PODS = 9.5
"""The peak hour's mean over what one pod reads: ten pods are the fewest that can."""
# Transactions an hour, from midnight; 225 in the peak hour is a published figure, the other hours are an assumption.
HOURS = (22, 17, 14, 13, 15, 24, 52, 110, 178, 215, 225, 210, 165, 172, 205, 198, 160, 120, 92, 74, 60, 48, 36, 28)
_NOISE_SD, _NOISE_KEEPS = 0.06, 0.7
_BURSTS = 10
_BURST_MINUTES, _BURST_FACTOR = (3, 12), (1.2, 1.6)


@dataclass(frozen=True)
class Day:
    """Works expected in each minute."""

    works: tuple[float, ...]

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read a table with the columns `minute` and `works`; ValueError: it is none."""
        with file.open(newline="") as lines:
            rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
        if not rows or [int(row["minute"]) for row in rows] != list(range(len(rows))):
            raise ValueError(f"{file} is no table of minutes")
        return cls(tuple(float(row["works"]) for row in rows))

    @classmethod
    def make(cls, capacity: float, seed: int, pods: float = PEAK_PODS) -> Self:
        """Make a day whose peak hour keeps `pods` pods of `capacity` works a second busy."""
        rng = np.random.default_rng(seed)
        middles = np.arange(-0.5, 25.0) * 60
        hourly = np.array([HOURS[-1], *HOURS, HOURS[0]], float)
        shape = np.interp(np.arange(MINUTES) + 0.5, middles, hourly)
        noise = np.zeros(MINUTES)
        for minute in range(1, MINUTES):
            noise[minute] = _NOISE_KEEPS * noise[minute - 1] + rng.normal(0, _NOISE_SD)
        shape *= np.exp(noise)
        for _ in range(_BURSTS):  # a van of films that comes home, a PACS that catches up
            begin = int(rng.integers(6 * 60, 22 * 60))
            shape[begin : begin + int(rng.integers(*_BURST_MINUTES))] *= rng.uniform(*_BURST_FACTOR)
        return cls(tuple(shape)).scaled_to(pods * capacity)

    def scaled_to(self, works_per_s: float) -> Self:
        """Give the same day with this mean in its peak hour, in whole works a minute."""
        factor = works_per_s / self.peak_hour_per_s
        return type(self)(tuple(round(works * factor) for works in self.works))

    @property
    def peak_hour_per_s(self) -> float:
        """Works a second in the busiest sixty minutes."""
        hour = min(60, len(self.works))
        return float(np.convolve(self.works, np.ones(hour) / hour, "valid").max()) / 60

    @property
    def total(self) -> float:
        """Works of the day."""
        return sum(self.works)

    def write(self, file: Path, comment: str) -> None:
        """Write the table."""
        lines = [f"# {comment}", "minute,works", *(f"{at},{works:.0f}" for at, works in enumerate(self.works))]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines) + "\n")

    def arrivals(self, seed: int, stat_share: float) -> Iterator[tuple[Floats, npt.NDArray[np.int8]]]:
        """Give, minute by minute, the moments of a Poisson process and each work's priority (1: STAT)."""
        rng = np.random.default_rng(seed)
        for minute, works in enumerate(self.works):
            count = int(rng.poisson(works))
            moments = np.sort(rng.random(count)) * 60.0 + 60.0 * minute
            yield moments, (rng.random(count) < stat_share).astype(np.int8)


def step(quiet_per_s: float, factor: float, minutes: int = 90, at_minute: int = 30) -> Day:
    """Give a load that jumps to `factor` times as much and stays there."""
    quiet = quiet_per_s * 60
    return Day(tuple(quiet * (factor if minute >= at_minute else 1.0) for minute in range(minutes)))
