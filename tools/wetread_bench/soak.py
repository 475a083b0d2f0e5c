"""The soak: hundreds of thousands of films, good and bad, and the server's memory over them."""

import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pydicom
from wetread_client import Client, Rejected, Retry, WetreadError
from wetread_embedded import EmbeddedTriton, ServerConfig

from wetread_bench.encode import encode
from wetread_bench.inputs import BITS, prepare
from wetread_bench.machine import Machine, commit, describe_machine, versions
from wetread_bench.processes import PROC, descendants

CONCURRENCY = 8
WARM_UP = 0.2  # share of the requests before the memory is expected to stand still
FLAT_MIB = 1.0  # per 10,000 requests; 20 MiB over a whole soak is no leak that an operator would meet
NOISE_MIB = 5.0  # a heap breathes by as much: less growth than this in all is none
LARGE_FILMS = 2
SMALL_STEP = 8  # of 2048 pixels every eighth

Tell = Callable[[str], None]


@dataclass(frozen=True)
class SoakPlan:
    """How long: so many requests, or so many minutes when those come first."""

    requests: int = 200_000
    minutes: float | None = None
    sample_s: float = 5.0


@dataclass(frozen=True)
class Sample:
    """Memory at one moment."""

    seconds: float
    requests: int
    pss_mib: Mapping[str, float]
    """Proportional set size by process: `tritonserver`, `<model>/<number>`, and `<model>/<number>/decoding`."""

    @property
    def total_mib(self) -> float:
        """Of all processes."""
        return sum(self.pss_mib.values())


@dataclass(frozen=True)
class Soak:
    """What a soak wrote down."""

    machine: Machine
    versions: Mapping[str, str]
    commit: str
    inputs: str
    planned_requests: int
    requests: int
    seconds: float
    outcomes: Mapping[str, int]
    series: tuple[Sample, ...]

    @property
    def figures(self) -> dict[str, float]:
        """The numbers to judge by."""
        return {
            "requests": self.requests,
            "server_errors": sum(n for name, n in self.outcomes.items() if name.startswith("error")),
            "mib_per_10000_requests": round(self.slope(), 3),
            "peak_mib": round(max(sample.total_mib for sample in self.series), 1),
        }

    @property
    def grew(self) -> bool:
        """Whether the memory grew after warm-up by more than a heap's noise."""
        in_all = self.slope() * (1 - WARM_UP) * self.requests / 1e4
        return self.slope() > FLAT_MIB and in_all > NOISE_MIB

    @property
    def verdict(self) -> str:
        """One sentence."""
        slope = self.slope()
        flat = "GROWING" if self.grew else "flat"
        short = f"; shortened to {self.requests:,} of {self.planned_requests:,} requests, so this is the trend"
        return f"memory {flat}: {slope:+.2f} MiB per 10,000 requests" + short * (self.requests < self.planned_requests)

    def slope(self, process: str | None = None) -> float:
        """Growth in MiB per 10,000 requests after warm-up, of one process or of all together."""
        settled = [sample for sample in self.series if sample.requests >= WARM_UP * self.requests]
        return slope([(s.requests, s.total_mib if process is None else s.pss_mib.get(process, 0.0)) for s in settled])

    def write(self, folder: Path) -> Path:
        """Write soak.json."""
        processes = sorted({name for sample in self.series for name in sample.pss_mib})
        path = folder / "soak.json"
        document = asdict(self) | {
            "shortened": self.requests < self.planned_requests,
            "warm_up_share": WARM_UP,
            "slopes_mib_per_10000_requests": {name: round(self.slope(name), 3) for name in processes},
            "figures": self.figures,
            "verdict": self.verdict,
        }
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=1) + "\n")
        return path


def slope(points: Sequence[tuple[int, float]]) -> float:
    """MiB per 10,000 requests through (requests, MiB): the median of all pairs' slopes (Theil-Sen), deaf to spikes."""
    pairs = [(b - a, after - before) for (a, before), (b, after) in itertools.combinations(points, 2) if b > a]
    return float(np.median([grown / requests for requests, grown in pairs])) * 1e4 if pairs else 0.0


def soak(checkout: Path, folder: Path, plan: SoakPlan, tell: Tell) -> Soak:
    """Send the films of the benchmark, small ones and bad ones over shared memory and watch the server's memory."""
    inputs = prepare(folder / "inputs", checkout, LARGE_FILMS)
    films = _mixture([Path(file) for syntax in ("raw", "j2k") for file in inputs.files(syntax)])
    config = ServerConfig.on_free_ports(root=checkout, store=folder / "served-soak", fresh=True)
    with EmbeddedTriton(config) as server, Client(server.http_url, retry=Retry(times=0)) as client:
        load = _Load(client, films, plan)
        series = tuple(load.watched(server, tell))
        heals = len(server.heals)
    outcomes = dict(load.outcomes) | ({"error: a model's process died": heals} if heals else {})
    done = sum(load.outcomes.values())
    return Soak(
        describe_machine(), versions(), commit(checkout), inputs.source, plan.requests, done, series[-1].seconds,
        outcomes, series,
    )  # fmt: skip


def _mixture(large: list[Path]) -> list[bytes]:
    """Twenty films: four large, thirteen small, three bad, of which one gets as far as the codec."""
    pixels = pydicom.dcmread(large[0]).pixel_array[::SMALL_STEP, ::SMALL_STEP]
    small = [encode(np.ascontiguousarray(pixels), number, syntax, BITS) for number, syntax in enumerate(_SMALL)]
    big = [path.read_bytes() for path in large][:4]
    j2k = small[_SMALL.index("j2k")]
    at = j2k.index(b"\xff\x52")  # COD, which tells the codec how to decode
    broken = j2k[:at] + b"\xff\x52" + b"\xff" * 32 + j2k[at + 34 :]
    bad = [small[0][:-1000], broken, b"no film"]
    good = [film for _, film in zip(range(13), itertools.cycle(small), strict=False)]
    return [film for group in itertools.zip_longest(good, big, bad) for film in group if film is not None]


_SMALL = ("raw", "rle", "j2k")


class _Load:
    def __init__(self, client: Client, films: list[bytes], plan: SoakPlan) -> None:
        self._client, self._films, self._plan = client, films, plan
        self._numbers = iter(range(plan.requests))
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._sender_ended = threading.Event()
        self.outcomes: Counter[str] = Counter()

    def watched(self, server: EmbeddedTriton, tell: Tell) -> Iterator[Sample]:
        """Send everything; give a sample of the server's memory every few seconds and at the end."""
        started = time.monotonic()
        threads = [threading.Thread(target=self._send) for _ in range(CONCURRENCY)]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                if self._sender_ended.wait(self._plan.sample_s):  # then the others have their last film
                    for thread in threads:
                        thread.join()
                elapsed = time.monotonic() - started
                if self._plan.minutes is not None and elapsed > self._plan.minutes * 60:
                    self._stop.set()
                sample = Sample(round(elapsed, 2), sum(self.outcomes.values()), memory_mib(server))
                tell(f"{sample.requests:>9,} of {self._plan.requests:,} requests, {sample.total_mib:,.0f} MiB")
                yield sample
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _send(self) -> None:
        try:
            self._send_all()
        finally:
            self._sender_ended.set()

    def _send_all(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                number = next(self._numbers, None)
            if number is None:
                return
            outcome = self._outcome(self._films[number % len(self._films)])
            with self._lock:
                self.outcomes[outcome] += 1

    def _outcome(self, film: bytes) -> str:
        try:
            self._client.read(film)
        except Rejected as refusal:
            return refusal.code
        except WetreadError as error:
            return f"error: {type(error).__name__}: {error}"[:200]
        return "read"


def memory_mib(server: EmbeddedTriton, proc: Path = PROC) -> dict[str, float]:
    """Proportional set size of the server, the processes of its models and their decoding children."""
    named = {"tritonserver": server.pid}
    for model, pids in server.stub_pids().items():
        for number, pid in enumerate(sorted(pids)):
            named[f"{model}/{number}"] = pid
            named.update({f"{model}/{number}/decoding": child for child in descendants(pid, proc)})
    found = {name: _pss_mib(proc / str(pid) / "smaps_rollup") for name, pid in named.items()}
    return {name: round(mib, 2) for name, mib in found.items() if mib is not None}


def _pss_mib(rollup: Path) -> float | None:
    try:
        lines = rollup.read_text().splitlines()
    except OSError:  # it ended meanwhile
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), None)
