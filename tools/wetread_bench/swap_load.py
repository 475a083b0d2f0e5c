"""The load generator of the swap benchmark: a process that reads films by a timetable and writes each answer down."""

from __future__ import annotations

import itertools
import random
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wetread_client import Client, Retry

from wetread_bench.worker import obey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Row = tuple[float, float, str, int, int, float, str]
"""Intended and ended (monotonic seconds), way, film, release, probability, error."""
_PAUSE_S = 0.05
"""After a failure: a dead server must not be hammered."""


class SwapLoad:
    """Reads over one way or over several in turn; every thread has connections of its own for the plain ones."""

    def __init__(self) -> None:
        self._films: list[bytes] = []
        self._ways: list[tuple[str, str]] = []
        self._client: Client | None = None
        self._rows: list[Row] = []
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()
        self._timetable: Timetable | None = None

    def load(self, files: list[str]) -> int:
        """Hold the files' bytes in memory."""
        self._films = [Path(file).read_bytes() for file in files]
        return len(self._films)

    def aim(self, ways: list[tuple[str, str]]) -> int:
        """Choose ways with their addresses: `shm` (our client), `plain_http` and `plain_grpc` (tritonclient alone)."""
        self._ways = [(way, url) for way, url in ways]
        return len(self._ways)

    def begin(self, threads: int, rate: float | None, seed: int = 0) -> None:
        """Begin to read: `rate` films a second, Poisson, or a closed loop where it is None."""
        self._stop.clear()
        self._timetable = None if rate is None else Timetable(time.monotonic(), rate, seed)
        turns = itertools.count(seed)
        self._threads = [threading.Thread(target=self._loop, args=(turns,), daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def set_rate(self, rate: float) -> None:
        """Go on with another rate; moments that were given to waiting threads stay as they are."""
        assert self._timetable is not None
        self._timetable.set_rate(rate)

    def take(self) -> list[Row]:
        """Give what has ended since the last call."""
        rows, self._rows = self._rows, []
        return rows

    def end(self) -> list[Row]:
        """Stop, wait for what is under way, close the connections; give the rest."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._threads = []
        if self._client is not None:
            self._client.close()
            self._client = None
        return self.take()

    def _loop(self, turns: Iterator[int]) -> None:
        readers = {way: self._reader(way, url) for way, url in self._ways}
        try:
            while not self._stop.is_set():
                intended = time.monotonic() if self._timetable is None else self._timetable.wait(self._stop)
                if intended is None:
                    return
                turn = next(turns)
                self._read(readers, turn, intended)
        finally:
            for _, close in readers.values():
                close()

    def _read(self, readers: dict[str, tuple[Any, Any]], turn: int, intended: float) -> None:
        way = self._ways[turn % len(self._ways)][0]
        film = turn // len(self._ways) % len(self._films)
        release, probability, failure = 0, 0.0, ""
        try:
            release, probability = readers[way][0](self._films[film])
        except Exception as error:  # noqa: BLE001 -- whatever a client raises is a failed request, and is counted
            failure = f"{type(error).__name__}: {error}"[:300]
        self._rows.append((intended, time.monotonic(), way, film, release, probability, failure))
        if failure:
            self._stop.wait(_PAUSE_S)

    def _reader(self, way: str, url: str) -> tuple[Any, Callable[[], None]]:
        if way == "plain_http":
            return _plain_http(url)
        if way == "plain_grpc":
            return _plain_grpc(url)
        if self._client is None:
            # A failure must count, not pass unseen.
            self._client = Client(url, transport="shm", retry=Retry(times=0))
        return _ours(self._client), lambda: None


class Timetable:
    """Moments in random order of a Poisson process, each given to one thread; late ones are given at once."""

    def __init__(self, start_at: float, rate: float, seed: int) -> None:
        self._at, self._rate = start_at, rate
        self._rng = random.Random(seed)  # noqa: S311 -- a timetable, no secret
        self._lock = threading.Lock()

    def set_rate(self, rate: float) -> None:
        """Let the moments from now on follow each other at another rate (per second)."""
        with self._lock:
            self._rate = rate

    def next(self) -> float:
        """Give the next moment in monotonic seconds."""
        with self._lock:
            self._at += self._rng.expovariate(self._rate)
            return self._at

    def wait(self, stop: threading.Event) -> float | None:
        """Wait for the next moment and give it; None when `stop` was set before."""
        moment = self.next()
        stopped = stop.wait(max(0.0, moment - time.monotonic()))
        return None if stopped else moment


def _ours(client: Client) -> Any:
    def read(film: bytes) -> tuple[int, float]:
        reading = client.read(film)
        return reading.release, reading.findings[0].probability

    return read


def _plain_http(url: str) -> tuple[Any, Callable[[], None]]:
    """A caller who knows Triton and nothing of ours."""
    import tritonclient.http as triton  # noqa: PLC0415 - only in this process

    client = triton.InferenceServerClient(url.removeprefix("http://"), network_timeout=60.0)
    return _plain(triton, client, lambda answer: answer.get_response()["model_version"]), client.close


def _plain_grpc(url: str) -> tuple[Any, Callable[[], None]]:
    import tritonclient.grpc as triton  # noqa: PLC0415 - only in this process

    client = triton.InferenceServerClient(url.removeprefix("grpc://"))
    return _plain(triton, client, lambda answer: answer.get_response().model_version), client.close


def _plain(triton: Any, client: Any, version: Callable[[Any], str]) -> Any:
    import numpy as np  # noqa: PLC0415 - as tritonclient

    def read(film: bytes) -> tuple[int, float]:
        tensor = triton.InferInput("DICOM", [1, len(film)], "UINT8")
        tensor.set_data_from_numpy(np.frombuffer(film, np.uint8)[None])
        answer = client.infer("chest_xray", [tensor], outputs=[triton.InferRequestedOutput("PROBABILITY")])
        return int(version(answer)), float(answer.as_numpy("PROBABILITY").flat[0])

    return read


def main() -> None:
    """Be a worker."""
    load = SwapLoad()
    names = ("load", "aim", "begin", "set_rate", "take", "end")
    obey({name: getattr(load, name) for name in names})
    load.end()


if __name__ == "__main__":
    main()
