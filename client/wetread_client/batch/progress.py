"""How far a batch is: a bar on a terminal, else a line every half minute."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable
    from types import TracebackType

LINE_S = 30.0
_LOOK_BACK_S = 600.0
"""The time left is told by the last ten minutes, pauses included."""


class Estimate:
    """How fast entries are done lately, and when the rest will be."""

    def __init__(self, total: int, done: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.total, self.done = total, done
        self._monotonic = monotonic
        self._points: deque[tuple[float, int]] = deque([(monotonic(), done)])

    def note(self, done: int) -> None:
        """Take note of how many are done now."""
        now = self._monotonic()
        self.done = done
        if now - self._points[-1][0] >= 1:
            self._points.append((now, done))
        while len(self._points) > 2 and now - self._points[0][0] > _LOOK_BACK_S:
            self._points.popleft()

    @property
    def rate(self) -> float:
        """Entries a second."""
        since, done = self._points[0]
        passed = self._monotonic() - since
        return (self.done - done) / passed if passed > 0 else 0.0

    def __str__(self) -> str:
        left = self.total - self.done
        if not left:
            return "all done"
        return f"{duration(left / self.rate)} left" if self.rate else "time left not known yet"


class Shown:
    """Shows progress; `note` may be called as often as one likes."""

    def __init__(self, total: int, done: int, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._estimate = Estimate(total, done)
        self._last = time.monotonic()
        self._waits = False
        self._bar: Progress | None = None
        if self._console.is_terminal:
            columns = (TextColumn("reading"), BarColumn(), TextColumn("{task.description}", markup=False))
            self._bar = Progress(*columns, console=self._console, transient=True, redirect_stdout=False)
            self._task = self._bar.add_task("", total=total, completed=done)

    def note(self, done: int, counts: Counter[str], waits_for: str) -> None:
        """Show how many entries are done, what became of the works in them, and what is waited for."""
        self._estimate.note(done)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, description=self._text(counts, waits_for))
        elif time.monotonic() - self._last >= LINE_S or (waits_for and not self._waits):
            self._last = time.monotonic()
            self._waits = self._waits or bool(waits_for)  # the first time at once: it may be a wrong address
            self._console.print(
                f"wetread: {self._text(counts, waits_for)}", highlight=False, markup=False, soft_wrap=True
            )

    def _text(self, counts: Counter[str], waits_for: str) -> str:
        told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()) if count)
        waiting = f"; waiting: {waits_for}" if waits_for else ""
        now = self._estimate
        return f"{now.done:,} of {now.total:,} entries, {now.rate:.1f}/s, {now}{'; ' if told else ''}{told}{waiting}"

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def duration(seconds: float) -> str:
    """Give seconds as `3 h 20 min`, `12 min` or `40 s`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
