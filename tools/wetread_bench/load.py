"""The load generator's process: threads that read films on a server, in a closed loop or by a timetable."""

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from wetread_client import Client, Retry, WetreadError
from wetread_client.connect import connect
from wetread_client.endpoint import Endpoint
from wetread_client.http import HttpTransport
from wetread_client.shared_memory import SharedMemoryTransport

from wetread_bench.worker import obey

_FAILURES = (WetreadError, OSError, http.client.HTTPException, ValueError)
Read = Callable[[bytes], float]


@dataclass
class _Tally:
    latencies_ms: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)


class LoadGenerator:
    """Reads films from memory, as a caller does who has just received them."""

    def __init__(self) -> None:
        self._films: list[bytes] = []
        self._read: Read | None = None
        self._close: Callable[[], None] | None = None

    def load(self, files: list[str]) -> int:
        """Hold the files' bytes in memory."""
        self._films = [Path(file).read_bytes() for file in files]
        return len(self._films)

    def aim(self, way: str, url: str) -> str:
        """Choose the server: `shm`, `shm_no_pool`, `http`, `grpc` to Triton, `plain` to the Flask process."""
        self.release()
        if way == "plain":
            self._read = _plain(url)
            return way
        if way == "shm_no_pool":
            transport: Any = SharedMemoryTransport(HttpTransport(Endpoint.parse(url)), pool=False)
        else:
            transport = connect(url, way)  # type: ignore[arg-type]
        client = Client(url, transport=transport, retry=Retry(times=0))  # a failure must count, not pass unseen
        self._close = client.close
        self._read = lambda film: client.read(film).findings[0].probability
        return way

    def release(self) -> None:
        """Close the connections and remove the shared memory."""
        if self._close is not None:
            self._close()
        self._read, self._close = None, None

    def probabilities(self) -> list[float]:
        """The probability of each film."""
        assert self._read is not None
        return [self._read(film) for film in self._films]

    def run(
        self,
        threads: int,
        start_at: float,
        seconds: float,
        warm_s: float,
        offset: int = 0,
        rate: float | None = None,
        seed: int = 0,
    ) -> dict[str, Any]:
        """Read films on `threads` threads from `start_at` (monotonic) on; tell of those that ended in the window.

        The window begins after `warm_s` and lasts `seconds`. `rate`: films a second by a Poisson timetable, whose
        latencies count from the intended moment; None: a closed loop.
        """
        window = (start_at + warm_s, start_at + warm_s + seconds)
        tallies = [_Tally() for _ in range(threads)]
        timetable = None if rate is None else _Timetable(start_at, rate, seed)
        runners = [
            threading.Thread(target=self._loop, args=(offset + number * 2, start_at, window, timetable, tally))
            for number, tally in enumerate(tallies)
        ]
        for runner in runners:
            runner.start()
        for runner in runners:
            runner.join()
        errors: Counter[str] = sum((tally.errors for tally in tallies), Counter())
        latencies = [latency for tally in tallies for latency in tally.latencies_ms]
        return {"latencies_ms": latencies, "errors": dict(errors)}

    def _loop(
        self, at: int, start_at: float, window: tuple[float, float], timetable: "_Timetable | None", tally: _Tally
    ) -> None:
        assert self._read is not None
        time.sleep(max(0.0, start_at - time.monotonic()))
        while True:
            begun = time.monotonic() if timetable is None else timetable.wait()
            if begun >= window[1]:
                return
            try:
                self._read(self._films[at % len(self._films)])
            except _FAILURES as error:
                tally.errors[f"{type(error).__name__}: {error}"[:200]] += 1
                time.sleep(0.05)  # a dead server must not be hammered
            ended = time.monotonic()
            if window[0] <= ended < window[1]:
                tally.latencies_ms.append((ended - begun) * 1e3)
            at += 1


class _Timetable:
    """Intended moments, each given to one thread; late ones are given at once."""

    def __init__(self, start_at: float, rate: float, seed: int) -> None:
        self._moments = poisson_moments(start_at, rate, random.Random(seed))  # noqa: S311 -- a timetable, no secret
        self._lock = threading.Lock()

    def wait(self) -> float:
        with self._lock:
            moment = next(self._moments)
        time.sleep(max(0.0, moment - time.monotonic()))
        return moment


def poisson_moments(at: float, rate: float, rng: random.Random) -> Iterator[float]:
    """Give the moments of a Poisson process from `at` on, `rate` a second."""
    while True:
        at += rng.expovariate(rate)
        yield at


def _plain(url: str) -> Read:
    """A reader for the plain stack: the bytes posted, as its callers do."""
    endpoint = urlsplit(url)
    assert endpoint.hostname is not None

    def read(film: bytes) -> float:
        connection = http.client.HTTPConnection(str(endpoint.hostname), endpoint.port, timeout=60)
        try:
            connection.request("POST", "/read", film, {"Content-Type": "application/dicom"})
            response = connection.getresponse()
            body = response.read()
            if response.status != 200:
                raise OSError(f"HTTP {response.status}: {body[:100]!r}")
            return float(json.loads(body)["probability"])
        finally:
            connection.close()

    return read


def serve(generator: LoadGenerator, **also: Callable[..., Any]) -> None:
    """Obey the orders that every generator knows, and `also` its own."""
    known = (generator.load, generator.release, generator.run, generator.probabilities)
    obey({order.__name__: order for order in known} | also)
    generator.release()


def main() -> None:
    """Be a worker."""
    generator = LoadGenerator()
    serve(generator, aim=generator.aim)


if __name__ == "__main__":
    main()
