"""A circuit breaker: a destination that fails is left alone for a while, longer each time."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Circuit(StrEnum):
    """closed -> open -> half-open -> closed, or open again."""

    CLOSED = "closed"  # all is well
    OPEN = "open"  # nothing is tried
    HALF_OPEN = "half-open"  # one attempt is under way to find out


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after the n-th failure in a row: doubled each time, up to a limit, spread by chance.

    The spread keeps many gateways from coming back to a PACS in one instant.
    """

    first_s: float = 0.5
    longest_s: float = 30.0

    def after(self, failures: int, chance: random.Random) -> float:
        """Give the seconds to wait after that many failures, between half and all of the doubled time."""
        full = min(self.longest_s, self.first_s * 2.0 ** min(max(failures - 1, 0), 32))
        return full * chance.uniform(0.5, 1.0)


class Breaker:
    """One destination's circuit; safe to use from many threads.

    `failures`: how many in a row open it. `clock` and `chance` are given by tests.
    """

    def __init__(
        self,
        backoff: Backoff | None = None,
        failures: int = 5,
        clock: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
    ) -> None:
        self._backoff = backoff or Backoff()
        self._limit, self._clock = failures, clock
        self._chance = chance or random.Random()  # noqa: S311 -- spreads attempts, hides nothing
        self._lock = threading.Lock()
        self._circuit = Circuit.CLOSED
        self._failures = 0  # in a row
        self._openings = 0  # in a row
        self._until = 0.0

    @property
    def circuit(self) -> Circuit:
        """The state now; an open circuit whose time is over stays open until somebody asks `allows`."""
        with self._lock:
            return self._circuit

    def allows(self) -> bool:
        """Ask before an attempt; True binds the caller to report `succeeded`, `failed` or `not_tried`.

        Of an open circuit whose time is over, one caller becomes the probe.
        """
        with self._lock:
            if self._circuit is Circuit.OPEN and self._clock() >= self._until:
                self._circuit = Circuit.HALF_OPEN
                return True
            return self._circuit is Circuit.CLOSED

    def succeeded(self) -> bool:
        """Count an answer of a peer that works; True when that has closed the circuit."""
        with self._lock:
            was, self._circuit = self._circuit, Circuit.CLOSED
            self._failures = self._openings = 0
            return was is not Circuit.CLOSED

    def failed(self, *, unreachable: bool = False, after_s: float = 0.0) -> bool:
        """Count a failure; True when that has opened a closed circuit.

        `unreachable`: any other attempt would fail too, so one is enough. `after_s`: what the peer asked for.
        """
        with self._lock:
            was = self._circuit
            self._failures += 1
            if was is Circuit.OPEN:  # an attempt begun before it opened
                return False
            if was is Circuit.CLOSED and not unreachable and self._failures < self._limit:
                return False
            self._openings += 1
            self._circuit = Circuit.OPEN
            self._until = self._clock() + max(after_s, self._backoff.after(self._openings, self._chance))
            return was is Circuit.CLOSED

    def not_tried(self) -> None:
        """Give back what `allows` gave, when there was nothing to try after all."""
        with self._lock:
            if self._circuit is Circuit.HALF_OPEN:
                self._circuit = Circuit.OPEN

    def wait_s(self) -> float:
        """Give the seconds until an attempt may be allowed."""
        with self._lock:
            return max(0.0, self._until - self._clock()) if self._circuit is Circuit.OPEN else 0.0
