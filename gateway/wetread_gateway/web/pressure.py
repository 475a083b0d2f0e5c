"""When the door says no: the disk is nearly full, or routine work has waited too long."""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING

from wetread_gateway.errors import DiskFull
from wetread_gateway.pressure import oldest_waiting_s
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
        self._age_s = 0.0

    def age_s(self) -> float:
        """Give the age of the oldest routine work that waits."""
        with self._lock:
            if time.monotonic() - self._looked_at > _REMEMBER_S:
                self._age_s = oldest_waiting_s(self._context)
                self._looked_at = time.monotonic()
            return self._age_s

    def check(self, *, stat: bool, size: int) -> None:
        """Refuse with 507 when the disk has no room for `size` bytes, with 429 when overloaded, unless it is STAT."""
        intake = self._context.settings.intake
        try:
            self._context.spool.check_room(intake, size)
        except DiskFull as error:
            raise Refusal(507, str(error)) from error
        if not stat and self.age_s() > intake.overload_age_s:
            retry = {"Retry-After": str(math.ceil(intake.overload_age_s))}
            raise Refusal(429, "routine work waits too long; only STAT is taken", headers=retry)
