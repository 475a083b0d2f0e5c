"""When things are sent: at random moments at a rate that may follow a day, some of them in bursts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

# Transactions of each hour of a hospital's day, midnight first. The peak hour has 225.
DAY = (12, 10, 8, 8, 10, 18, 45, 110, 180, 225, 220, 205, 150, 170, 195, 180, 140, 95, 70, 55, 42, 30, 22, 16)
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is sent, and when."""

    seconds: float
    """From the first moment to the last."""
    rate: float = 0.0
    """Transactions a second, all the time; 0: by the day."""
    day_factor: float = 1.0
    """How many such hospitals there are."""
    day_s: float = 86400.0
    """Seconds in which the day is played; its rates stay, so that a short day has fewer transactions."""
    burst: int = 1
    """Transactions that leave at once now and then, as of a modality that was offline."""
    burst_share: float = 0.0
    """Share of all transactions that come in such bursts."""

    def rate_at(self, second: float) -> float:
        """Give the transactions a second at a moment of the run."""
        if self.rate:
            return self.rate
        hour = int(second % self.day_s / self.day_s * len(DAY))
        return DAY[hour] * self.day_factor / HOUR_S

    @property
    def highest_rate(self) -> float:
        """Give the rate of the busiest hour."""
        return self.rate or max(DAY) * self.day_factor / HOUR_S


def moments(plan: Plan, share: float, rng: random.Random) -> Iterator[float]:
    """Give the seconds from the start at which one sender sends, which has a `share` of all transactions.

    A Poisson process, thinned where the rate is below its highest (Lewis and Shedler, 1979).
    """
    # Of a moment to be a burst, so that `burst_share` of all transactions come in one.
    chance = plan.burst_share / (plan.burst - plan.burst_share * (plan.burst - 1))
    size = 1 + chance * (plan.burst - 1)
    highest = plan.highest_rate * share / size
    if highest <= 0:
        return
    at = rng.expovariate(highest)
    while at < plan.seconds:
        if rng.random() * plan.highest_rate < plan.rate_at(at):
            yield from [at] * (plan.burst if rng.random() < chance else 1)
        at += rng.expovariate(highest)
