"""How long to wait before a model that dies again and again is brought back once more."""

from dataclasses import dataclass

AT_ONCE = 3
FIRST_S = 0.5
LONGEST_S = 30.0
QUIET_S = 10.0


@dataclass
class Backoff:
    """One model's waits: none for three deaths, then 0.5 s, doubled up to 30 s; a quiet time forgets all."""

    deaths: int = 0
    last_heal: float = float("-inf")
    """When the last heal ended, in monotonic seconds; its owner sets it."""

    def next_wait_s(self, now: float) -> float:
        """Return the wait that a death at time `now` (monotonic seconds) calls for, and count the death."""
        self.deaths = self.deaths + 1 if now - self.last_heal < QUIET_S else 1
        return 0.0 if self.deaths <= AT_ONCE else min(FIRST_S * 2.0 ** (self.deaths - AT_ONCE - 1), LONGEST_S)
