"""A Triton for tests of something else than its end."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from wetread_embedded import EmbeddedTriton, Heal


class KilledTriton(EmbeddedTriton):
    """An embedded server that is killed in the end: Triton's own end takes two seconds, and longer with more models.

    The attendant ends before it, in order, and nothing stays behind, as `EmbeddedTriton.stop` promises of any server.
    """

    def stop(self) -> None:
        """Kill the server once nothing looks after it any more."""
        if self._attendant is not None:
            self._attendant.stop()
        if self.is_running:
            with suppress(ProcessLookupError):  # it ends by itself just now
                os.kill(self.pid, signal.SIGKILL)
        super().stop()


def deaths(server: EmbeddedTriton) -> list[Heal]:
    """Heals of processes that did die: on a busy machine Triton takes a live one for dead, and that is healed, too."""
    return [heal for heal in server.heals if heal.cause.startswith("process ")]
