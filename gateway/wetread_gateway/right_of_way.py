"""STAT has the right of way: from when it comes until it is read, no stage of any process begins anything routine."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading
    from pathlib import Path

WINDOW_S = 0.15
"""How long a claim lasts, and each step claims anew: a STAT instance's whole trip takes a third on an idle machine."""
ANSWER_S = 0.03
"""How much of the right is left when it has been read: what the answer at a door takes on an idle machine, thrice."""
LONGEST_S = 0.3
"""After so long one routine step passes all the same: an unbroken row of STAT must not stop the rest."""
LOOK_S = 0.005


class RightOfWay:
    """One stage's view of it; for one thread. `folder`: the spool, in which the time of one file is the sign."""

    def __init__(self, folder: Path) -> None:
        self._sign = folder / "stat"
        self._yielding_since: float | None = None

    def claim(self) -> None:
        """STAT is coming, or has come."""
        try:
            os.utime(self._sign)
        except FileNotFoundError:
            self._sign.touch()

    def end(self) -> None:
        """STAT has been read: what is routine waits until the answer has gone. Another STAT claims at its next step."""
        moment = time.time() - WINDOW_S + ANSWER_S
        with contextlib.suppress(FileNotFoundError):
            os.utime(self._sign, (moment, moment))

    def must_yield(self) -> bool:
        """Whether routine work has to wait now."""
        now = time.monotonic()
        if not self._is_claimed():
            self._yielding_since = None
            return False
        if self._yielding_since is None:
            self._yielding_since = now
        if now - self._yielding_since > LONGEST_S:
            self._yielding_since = None
            return False
        return True

    def give_way(self, stop: threading.Event) -> None:
        """Wait while routine work has to."""
        while self.must_yield() and not stop.is_set():
            stop.wait(LOOK_S)

    def _is_claimed(self) -> bool:
        try:
            claimed_at = self._sign.stat().st_mtime
        except FileNotFoundError:
            return False
        return 0 <= time.time() - claimed_at < WINDOW_S
