"""When to send a film again: only where nobody is at fault, ever later, and never past the deadline."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from wetread_client.errors import Status, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Clock(Protocol):
    """The time, and a way to let it pass; seconds."""

    def monotonic(self) -> float:
        """Give the time since some fixed moment."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how late to try again.

    `times`: attempts after the first. `first_wait_s` doubles with each, up to `longest_wait_s`, and is spread by half
    of itself to both sides (`random`) so that many clients do not come back at once. The defaults bridge the few
    seconds that a server takes to heal a dead stub or to start.
    """

    times: int = 3
    first_wait_s: float = 0.5
    longest_wait_s: float = 5.0
    random: Callable[[], float] = field(default=random.random, repr=False)

    def wait_s(self, failures: int) -> float:
        """Give the seconds to wait after so many failures (1, 2, ...)."""
        wait_s = min(self.first_wait_s * 2.0 ** (failures - 1), self.longest_wait_s)
        return wait_s * (0.5 + self.random())

    def call(self, attempt: Callable[[float], T], deadline_s: float, clock: Clock = time) -> T:
        """Return `attempt(remaining seconds)`, again after each Unavailable while tries and time are left."""
        deadline = clock.monotonic() + deadline_s
        failures = 0
        while True:
            remaining_s = deadline - clock.monotonic()
            if remaining_s <= 0:
                raise Unavailable(Status.DEADLINE_EXCEEDED.value, f"no answer within {deadline_s:g} s")
            try:
                return attempt(remaining_s)
            except Unavailable:
                failures += 1
                wait_s = self.wait_s(failures)
                if failures > self.times or clock.monotonic() + wait_s >= deadline:
                    raise
                clock.sleep(wait_s)
