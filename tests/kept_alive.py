"""A Triton that is started again when it ends, as a service manager does.

Triton 2.51 may abort when a process of a model is killed, above all on a busy machine.
"""

from __future__ import annotations

import functools
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from killed_triton import KilledTriton
from waiting import wait_for
from wetread_embedded.errors import StartTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from wetread_embedded import ServerConfig

TRIES = 3
HUNG = Path(__file__).parents[1] / "build" / "hung-starts"
"""Logs of servers that did not start in time, which `conftest.py` shows in the end."""


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
        self._start(self.server.config)
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
                self._start(config)
                self.restarts += 1

    def _start(self, config: ServerConfig) -> None:
        self.server = KilledTriton(config)
        try:
            self.server.start()
        except StartTimeout:  # once in some hundred starts on a busy machine, nobody knows why
            HUNG.mkdir(parents=True, exist_ok=True)
            shutil.copy(config.log_path, HUNG / f"{time.time_ns()}.log")
            self.server = KilledTriton(config)
            self.server.start()


def unless_aborted(test: Callable[..., None]) -> Callable[..., None]:
    """Have a test of a kept-alive `server` asked again, `TRIES` times in all, only where Triton itself has aborted.

    Such a run tells nothing of us; any other failure stands.
    """

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
