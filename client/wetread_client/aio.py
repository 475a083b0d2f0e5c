"""The client for asyncio."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from wetread_client.client import Client, FilmResult
from wetread_client.errors import Status, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self, TypeVar

    from typing_extensions import Buffer

    from wetread_client.card import PipelineCard
    from wetread_client.connect import Way
    from wetread_client.reading import Reading
    from wetread_client.retry import Retry
    from wetread_client.transport import Transport

    T = TypeVar("T")


class AsyncClient:
    """A `Client` for asyncio: the same calls, awaited, on at most `concurrency` threads of its own.

    Threads, because copying a film and sending it block, and release the interpreter lock, either way. A call that has
    to wait for a thread waits within its deadline. A call that is cancelled returns at once; its request ends on its
    thread, by its deadline at the latest, and the answer is dropped.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        pipeline: str = "chest_xray",
        *,
        concurrency: int = 8,
        transport: Way | Transport = "auto",
        timeout_s: float = 30.0,
        retry: Retry | None = None,
        ca: Path | None = None,
    ) -> None:
        self._client = Client(url, pipeline, transport=transport, timeout_s=timeout_s, retry=retry, ca=ca)
        self._timeout_s = timeout_s
        self._concurrency = concurrency
        self._threads = ThreadPoolExecutor(concurrency, "wetread-async")

    async def read(
        self,
        film: Path | str | Buffer,
        *,
        declared_film: bool = False,
        any_body_part: bool = False,
        heatmap: bool = True,
        deadline_s: float | None = None,
    ) -> Reading:
        """Read one film, as `Client.read` does."""
        read = partial(
            self._client.read, film, declared_film=declared_film, any_body_part=any_body_part, heatmap=heatmap
        )
        return await self._in_time(read, deadline_s)

    async def read_series(
        self,
        files: Sequence[Path | str | Buffer],
        *,
        any_body_part: bool = False,
        segmentation: bool = True,
        heatmap: bool = True,
        deadline_s: float | None = None,
    ) -> Reading:
        """Read one series, as `Client.read_series` does."""
        read = partial(
            self._client.read_series,
            files,
            any_body_part=any_body_part,
            segmentation=segmentation,
            heatmap=heatmap,
        )
        return await self._in_time(read, deadline_s)

    async def read_many(
        self,
        films: Iterable[Path],
        concurrency: int | None = None,
        *,
        any_body_part: bool = False,
        heatmap: bool = True,
        deadline_s: float | None = None,
    ) -> AsyncIterator[FilmResult]:
        """Read files as `Client.read_many` does; results come as they are ready.

        Close the iterator (`contextlib.aclosing`) where you leave it early, so that its threads end with it.
        """
        results = self._client.read_many(
            films,
            concurrency or self._concurrency,
            any_body_part=any_body_part,
            heatmap=heatmap,
            deadline_s=deadline_s,
        )
        following: asyncio.Future[FilmResult | None] | None = None
        try:
            while True:
                following = asyncio.ensure_future(self._run(partial(next, results, None)))
                result = await asyncio.shield(following)
                if result is None:
                    return
                yield result
        finally:
            if following is not None:  # a generator cannot be closed while a thread is still in it
                await asyncio.wait([following])
            await self._run(results.close)

    def card(self, release: int) -> PipelineCard | None:
        """Give the card of a release that has answered this client, None for one that has not."""
        return self._client.card(release)

    async def takes_series(self, timeout_s: float = 2.0) -> bool:
        """Say whether this client's pipeline takes series (`read_series`) and not films (`read`)."""
        return await self._run(partial(self._client.takes_series, timeout_s))

    async def is_live(self, timeout_s: float = 2.0) -> bool:
        """Say whether a server answers at this address."""
        return await self._run(partial(self._client.is_live, timeout_s))

    async def is_ready(self, timeout_s: float = 2.0) -> bool:
        """Say whether the server serves this client's pipeline now."""
        return await self._run(partial(self._client.is_ready, timeout_s))

    async def releases(self, timeout_s: float = 2.0) -> tuple[int, ...]:
        """Give the releases of this client's pipeline that the server serves."""
        return await self._run(partial(self._client.releases, timeout_s))

    async def aclose(self) -> None:
        """Wait for the requests under way, then close connections and remove shared memory."""
        await asyncio.to_thread(self._threads.shutdown, wait=True)
        await asyncio.to_thread(self._client.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _in_time(self, read: partial[Reading], deadline_s: float | None) -> Reading:
        """Read on a thread of the client's; waiting for one counts."""
        deadline = time.monotonic() + (self._timeout_s if deadline_s is None else deadline_s)

        def in_time() -> Reading:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise Unavailable(Status.DEADLINE_EXCEEDED.value, "no thread of the client became free in time")
            return read(deadline_s=left_s)

        return await self._run(in_time)

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)
