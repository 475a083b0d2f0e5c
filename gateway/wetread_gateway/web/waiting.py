"""Wakes the requests that wait for a reading: one doorbell for all of them."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from wetread_gateway.context import Context


class Waiting:
    """A thread that waits at the door's bell and wakes whoever waits here. `start` it within the running loop."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._rung = asyncio.Event()

    @property
    def is_over(self) -> bool:
        """Whether the door closes: nobody should wait any longer."""
        return self._stop.is_set() or self._context.stop.is_set()

    def start(self) -> None:
        """Begin to listen."""
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._listen, args=(loop,), name="door bell", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Listen no more; whoever waits is woken."""
        self._stop.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
        self._wake()

    def next_ring(self) -> Callable[[float], Awaitable[None]]:
        """Give what waits for the first ring after now, a quarter of a second, or so many seconds."""
        rung = self._rung

        async def wait(timeout_s: float) -> None:
            try:
                async with asyncio.timeout(timeout_s):
                    await rung.wait()
            except TimeoutError:
                return

        return wait

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        bell = self._context.bell("door")
        while not self.is_over:
            bell.wait(0.25)
            loop.call_soon_threadsafe(self._wake)  # rung or not: a ring may be lost, and some changes ring nothing
        bell.close()

    def _wake(self) -> None:
        rung, self._rung = self._rung, asyncio.Event()
        rung.set()
