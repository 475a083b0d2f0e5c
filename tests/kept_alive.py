"""A Triton that is started again when it ends, as a service manager does.

Triton 2.51 may abort when a process of a model is killed, above all on a busy machine.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from killed_triton import KilledTriton

if TYPE_CHECKING:
    from wetread_embedded import ServerConfig


class KeptAlive:
    """Runs a server on the ports that its first start chose; a context that leaves no process behind.

    It has all that the server of the moment has.
    """

    def __init__(self, config: ServerConfig) -> None:
        self.server = KilledTriton(config)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
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
