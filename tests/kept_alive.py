"""A Triton that is started again when it ends, as a service manager does.

Triton 2.51 may abort when a process of a model is killed, above all on a busy machine.
"""

from __future__ import annotations

import functools
import logging
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from killed_triton import KilledTriton
from waiting import wait_for
from wetread_embedded.errors import StartTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from wetread_embedded import ServerConfig

LOG = logging.getLogger(__name__)
TRIES = 3


class KeptAlive:
    """Runs a server on the ports that its first start chose; a context that leaves no process behind.

    It has all that the server of the moment has.
    """

    def __init__(self, config: ServerConfig) -> None:
        self.server = KilledTriton(config)
        self.restarts = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        try:
            self.server.start()
        except StartTimeout as hung:  # once in some hundred starts on a busy machine; the log has where
            LOG.warning("%s", hung)
            self.server = KilledTriton(self.server.config)
            self.server.start()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        self._thread.join()
        self.server.stop()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.server, name)

    def _watch(self) -> None:
        while not self._closing.is_set():
            if self.server.wait(0.1) and not self._closing.is_set():
                http, grpc, metrics = self.server.ports
                config = replace(self.server.config, http_port=http, grpc_port=grpc, metrics_port=metrics)
                self.server.stop()
                self.server = KilledTriton(config)
                self.server.start()
                self.restarts += 1


def unless_aborted(test: Callable[..., None]) -> Callable[..., None]:
    """Make a test of a kept-alive `server` run once more where Triton itself aborted: that tells nothing of us."""

    @functools.wraps(test)
    def run(server: KeptAlive, **arguments: object) -> None:
        for left in reversed(range(TRIES)):
            restarts = server.restarts
            try:
                test(server, **arguments)
            except Exception:
                aborted = server.restarts > restarts or not server.is_running
                if not (aborted and left and wait_for(lambda: server.restarts > restarts)):  # noqa: B023 -- at once
                    raise
            else:
                return

    return run
