"""The load of the swap benchmark: our client over shared memory, and plain Triton clients over HTTP and gRPC."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from wetread_bench.worker import Worker

if TYPE_CHECKING:
    from wetread_embedded import EmbeddedTriton

    from wetread_bench.swap_load import Row

OURS, PLAIN = "our client", "plain clients"
_CLOSED = {OURS: 7, PLAIN: 1}
"""Threads of the closed loop that measures the capacity; they decide the mixture, too."""
_OPEN = {OURS: 32, PLAIN: 6}
"""Threads of the open loop: more than the films that are ever under way."""
_WARM_S = 2.0


class Generators:
    """Two processes, so that neither's clients wait for the other's interpreter lock; ends with its context."""

    def __init__(self, server: EmbeddedTriton, files: list[str]) -> None:
        self._server, self._files = server, files
        self._workers: dict[str, Worker] = {}
        self._closing = ExitStack()
        self._capacity: dict[str, float] = {}
        self._running = False

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._workers = {name: stack.enter_context(Worker("wetread_bench.swap_load")) for name in _CLOSED}
            self._closing = stack.pop_all()
        self._all("load", files=self._files)
        ways = {
            OURS: [("shm", self._server.http_url)],
            PLAIN: [("plain_http", self._server.http_url), ("plain_grpc", self._server.grpc_url)],
        }
        for name, worker in self._workers.items():
            worker.ask("aim", ways=ways[name])
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.close()

    def measure(self, seconds: float) -> dict[str, float]:
        """Measure the films per second of each in a closed loop, both at once; these are 100 % from then on."""
        for name, worker in self._workers.items():
            worker.ask("begin", threads=_CLOSED[name], rate=None)
        time.sleep(_WARM_S)
        self._all("take")
        began = time.monotonic()
        time.sleep(seconds)
        rows = self._all("take")
        took = time.monotonic() - began
        self._all("end")
        failed = [row[6] for each in rows.values() for row in each if row[6]]
        if failed:
            raise RuntimeError(f"{len(failed)} films failed before anything was swapped: {failed[0]}")
        self._capacity = {name: round(len(each) / took, 2) for name, each in rows.items()}
        return dict(self._capacity)

    def begin(self, share: float) -> None:
        """Begin to send by a timetable, at a share of the capacity."""
        for seed, (name, worker) in enumerate(self._workers.items()):
            worker.ask("begin", threads=_OPEN[name], rate=share * self._capacity[name], seed=seed)

    def set_share(self, share: float) -> None:
        """Go on at another share of the capacity."""
        for name, worker in self._workers.items():
            worker.ask("set_rate", rate=share * self._capacity[name])

    def end(self) -> list[Row]:
        """Stop; give every request of the open loop."""
        return [row for rows in self._all("end").values() for row in rows]

    def _all(self, command: str, **arguments: object) -> dict[str, Any]:
        """Ask both at once."""
        for worker in self._workers.values():
            worker.send(command, **arguments)
        return {name: worker.receive() for name, worker in self._workers.items()}
