"""Doorbells between the stages, so that nobody need poll fast. A hint only: a lost ring costs a quarter second."""

from __future__ import annotations

import contextlib
import os
import select
import stat
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

Stage = Literal["triage", "read", "report", "deliver", "door"]


class Bell:
    """A named pipe that wakes whoever waits at a stage."""

    def __init__(self, folder: Path, stage: Stage, waiter: str = "0") -> None:
        """Be the waiter called `waiter` of `stage`; every waiter of a stage is rung."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{stage}.{waiter}"
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        # Opened for both ways: with no writer a pipe opened for reading alone is always readable.
        self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def wait(self, timeout_s: float = 0.25) -> bool:
        """Wait for a ring; False when none came in time."""
        if not select.select([self._pipe], [], [], timeout_s)[0]:
            return False
        with contextlib.suppress(BlockingIOError):
            os.read(self._pipe, 65536)
        return True

    def close(self) -> None:
        """Stop waiting; the pipe stays for the next waiter."""
        os.close(self._pipe)


def ring(folder: Path, stage: Stage) -> None:
    """Wake all waiters of `stage`; nothing happens when there is none."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(folder):  # noqa: PTH208 -- names alone, as cheap as can be: called for every instance
            if name.startswith(f"{stage}."):
                _ring(folder / name)


def _ring(path: Path) -> None:
    with contextlib.suppress(OSError):  # full: it is ringing already; no reader: nobody waits
        pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if stat.S_ISFIFO(os.fstat(pipe).st_mode):
                os.write(pipe, b"!")
        finally:
            os.close(pipe)
