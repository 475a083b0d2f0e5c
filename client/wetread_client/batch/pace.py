"""When the next film may be sent: within the window, below the rate, and while nobody else waits."""

from __future__ import annotations

import datetime as dt
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from wetread_client.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

_WINDOW = re.compile(r"(\d\d?):(\d\d)-(\d\d?):(\d\d)")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
LOOK_S = 2.0
"""How old a look at the gateway's queue may be."""


@dataclass(frozen=True, slots=True)
class Window:
    """Hours of the day, in this machine's time; over midnight where it ends before it begins."""

    start: dt.time
    end: dt.time

    @classmethod
    def parse(cls, text: str) -> Window:
        """Read `20:00-06:00`; ValueError when it is none."""
        if not (found := _WINDOW.fullmatch(text.strip())):
            raise ValueError(f"{text!r} is no window such as 20:00-06:00")
        hours = [int(word) for word in found.groups()]
        start, end = dt.time(hours[0], hours[1]), dt.time(hours[2], hours[3])
        if start == end:
            raise ValueError(f"the window {text!r} is empty")
        return cls(start, end)

    def wait_s(self, now: dt.datetime) -> float:
        """Give the seconds until it opens, 0 within it."""
        clock = now.time()
        is_open = self.start <= clock < self.end if self.start < self.end else not self.end <= clock < self.start
        if is_open:
            return 0.0
        opens = dt.datetime.combine(now.date(), self.start, now.tzinfo)
        if opens <= now:
            opens += dt.timedelta(days=1)
        return (opens - now).total_seconds()


def parse_duration(text: str) -> float:
    """Read `90`, `45m`, `8h` or `2d` as seconds; ValueError when it is none."""
    if not (found := _DURATION.fullmatch(text.strip().lower())) or not float(found[1]):
        raise ValueError(f"{text!r} is no time such as 45m or 8h")
    return float(found[1]) * _UNITS_S[found[2]]


class Queue(Protocol):
    """Where work of more haste waits."""

    def waiting(self) -> int:
        """Give how much is there to be read; Unavailable when that cannot be told."""
        ...


def _local_now() -> dt.datetime:
    return dt.datetime.now().astimezone()


class Stop(Exception):
    """No further film may be sent in this run; the message says why."""


class Pace:
    """Lets films through one by one; safe to use from many threads.

    `queue`: while more than `yield_above` waits there, or nobody can tell, nothing is let through. `deadline_s`,
    `limit`: of this run.
    """

    def __init__(
        self,
        *,
        window: Window | None = None,
        max_rate: float | None = None,
        queue: Queue | None = None,
        yield_above: int = 0,
        deadline_s: float | None = None,
        limit: int | None = None,
        now: Callable[[], dt.datetime] = _local_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._window, self._queue, self._yield_above = window, queue, yield_above
        self._gap_s = 1 / max_rate if max_rate else 0.0
        self._now, self._monotonic = now, monotonic
        self._deadline = None if deadline_s is None else monotonic() + deadline_s
        self._left = limit
        self._next = monotonic()
        self._looked: tuple[float, str] | None = None
        self._lock, self._looking = threading.Lock(), threading.Lock()
        self._stopped = threading.Event()
        self.why = ""
        """Why the run ends before its end, "" while it does not."""
        self.waits_for = ""
        """What is waited for now, "" while films are let through."""

    def stop(self, why: str) -> None:
        """Let nothing more through; what is under way is read to its end."""
        self.why = self.why or why
        self._stopped.set()

    def sleep(self, seconds: float, why: str) -> None:
        """Wait, for a reason that progress shows; Stop when the run ends meanwhile."""
        self.waits_for = why
        if self._deadline is not None:
            seconds = min(seconds, max(0.0, self._deadline - self._monotonic()))
        self._stopped.wait(seconds)
        self.check()

    def check(self) -> None:
        """Stop where the run ends."""
        if self._deadline is not None and self._monotonic() >= self._deadline:
            self.stop("the deadline")
        if self._stopped.is_set():
            raise Stop(self.why)

    def await_leave(self, *, again: bool = False) -> None:
        """Wait until a film may be sent; Stop when none may be any more. `again`: one that has had its turn."""
        while True:
            self.check()
            if self._window is not None and (wait_s := self._window.wait_s(self._now())) > 0:
                self.sleep(min(wait_s, 60.0), f"the window opens at {self._window.start:%H:%M}")
            elif why := self._others():
                self.sleep(LOOK_S, why)
            elif not again and (wait_s := self._turn()) > 0:
                self._stopped.wait(wait_s)
            else:
                self.waits_for = ""
                return

    def _others(self) -> str:
        """Say what waits elsewhere, "" where nothing does; asked at most every LOOK_S, by one thread for all."""
        if self._queue is None:
            return ""
        with self._looking:
            if self._looked is None or self._monotonic() - self._looked[0] >= LOOK_S:
                self._looked = self._monotonic(), self._look(self._queue)
            return self._looked[1]

    def _look(self, queue: Queue) -> str:
        try:
            waiting = queue.waiting()
        except Unavailable as error:
            return f"the gateway does not tell its queue: {error.message}"
        return f"{waiting} wait at the gateway" if waiting > self._yield_above else ""

    def _turn(self) -> float:
        """Take a turn and give 0, or give the seconds until the next one."""
        with self._lock:
            now = self._monotonic()
            if now < self._next:
                return self._next - now
            if self._left is not None:
                if self._left == 0:
                    self.stop("the limit")
                    raise Stop(self.why)
                self._left -= 1
            self._next = max(self._next, now - self._gap_s) + self._gap_s
            return 0.0
