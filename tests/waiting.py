"""Waiting for what nobody tells of."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

WAIT_S = 120.0  # of a machine that is busy


def wait_for(condition: Callable[[], object], timeout_s: float = WAIT_S) -> bool:
    """Ask until it holds; False when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
