"""Reads a request's body: in batches, within its limits, and no longer than a slow client deserves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
from anyio.to_thread import run_sync

from wetread_gateway.web.multipart import BrokenBody
from wetread_gateway.web.problems import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio import CapacityLimiter
    from starlette.types import Message, Receive

    from wetread_gateway.config.settings import Http
    from wetread_gateway.web.multipart import Sink
    from wetread_gateway.web.receiving import Receiver

BATCH = 256 << 10
"""Bytes that go to a thread at once: a hop costs as much as copying so many."""


class Body:
    """The body that `receive` gives. Refusal: 413 when it is too large, 408 when it is too slow."""

    def __init__(self, receive: Receive, limits: Http) -> None:
        self._receive = receive
        self._limits = limits
        self._waited = 0.0
        self._came = self._total = 0
        self._has_ended = False

    async def batches(self) -> AsyncIterator[bytes]:
        """Give the bytes, about `BATCH` at once; BrokenBody when the client has gone."""
        gathered: list[bytes] = []
        size = 0
        while not self._has_ended:
            message = await self.next()
            if message["type"] == "http.disconnect":
                raise BrokenBody("the client went away")
            chunk: bytes = message.get("body", b"")
            gathered.append(chunk)
            size += len(chunk)
            if size and (size >= BATCH or self._has_ended):
                yield b"".join(gathered)
                gathered, size = [], 0

    async def next(self) -> Message:
        """Give what comes next, an ASGI message."""
        if self._has_ended:
            return await self._receive()
        message = await self._in_time()
        self._total += len(message.get("body", b""))
        self._has_ended = not message.get("more_body", False)
        if self._total > self._limits.max_body_bytes:
            raise Refusal(413, f"the body is larger than {self._limits.max_body_bytes} bytes")
        return message

    async def _in_time(self) -> Message:
        """Wait for what comes next. Only waiting counts against the client, not what we do with the bytes."""
        clock = asyncio.get_running_loop().time
        while True:
            started = clock()
            try:
                async with asyncio.timeout(self._limits.patience_s - self._waited):
                    message = await self._receive()
            except TimeoutError:
                message = None
            self._waited += clock() - started
            self._came += len(message.get("body", b"")) if message else 0
            if self._waited >= self._limits.patience_s:
                if self._came < self._limits.slowest_bytes_per_s * self._waited:
                    raise Refusal(408, "the body comes too slowly", headers={"Connection": "close"})
                self._waited, self._came = 0.0, 0
            if message is not None:
                return message


async def store(body: Body, sink: Sink, receiver: Receiver, threads: CapacityLimiter) -> str:
    """Feed the body to `receiver` and finish it; says what is wrong with the body, empty when nothing is.

    All that touches the disk runs in threads: no client waits for the disk of another.
    """
    broken = ""
    try:
        async for batch in body.batches():
            await run_sync(sink.write, batch, limiter=threads)
        await run_sync(sink.close, limiter=threads)
    except BrokenBody as error:
        broken = str(error)
    finally:
        with anyio.CancelScope(shield=True):  # the door may be closing: what is stored must still be audited
            await run_sync(receiver.finish, limiter=threads)
    return broken
