"""When the door says no: the disk is nearly full, or routine work has waited too long."""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from wetread_gateway.errors import DiskFull
from wetread_gateway.pressure import Watch
from wetread_gateway.web.problems import Refusal

if TYPE_CHECKING:
    from wetread_gateway.context import Context

_REMEMBER_S = 0.5


class Pressure:
    """Says whether a request may bring more; looked up once in half a second."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._looked_at = -math.inf
        self._watch = Watch(context)
        self._thread = CapacityLimiter(2)

    async def overload(self) -> Refusal | None:
        """Give the refusal of routine work, None when there is room for it; as a rule from memory."""
        if time.monotonic() - self._looked_at > _REMEMBER_S and not self._lock.locked():
            await run_sync(self._look, limiter=self._thread)  # its own: all others may be busy
        if not self._watch.overloaded:
            return None
        headers = {"Retry-After": str(self._watch.retry_after_s), "Connection": "close"}
        return Refusal(429, "routine work waits too long; only STAT is taken", headers=headers)

    def check_room(self, size: int) -> None:
        """Refuse with 507 when the disk has no room for `size` bytes."""
        try:
            self._context.spool.check_room(self._context.settings.intake, size)
        except DiskFull as error:
            raise Refusal(507, str(error), headers={"Connection": "close"}) from error

    def _look(self) -> None:
        with self._lock:
            if time.monotonic() - self._looked_at > _REMEMBER_S:
                self._watch.look()
                self._looked_at = time.monotonic()
