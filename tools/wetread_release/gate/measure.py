"""What a side costs in Triton: one film's latency, films a second, a full batch of the network alone, memory.

The sides take turns, so that a load from elsewhere falls on both: ratios hold where absolute times do not.
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from wetread_client import WetreadError
from wetread_embedded.errors import ServerCallFailed

from wetread_release.wiring import NETWORKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from wetread_release.gate.lay_out import Side
    from wetread_release.gate.server import GateServer

PROC = Path("/proc")
_WARM_UP = 5
_BUSY = 8
"""Films under way at once for the rate."""
_ROUNDS = 5
_LEAST_OF_A_ROUND = 32  # films
_BATCHES = 20
_FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Cost:
    """What one side costs on this machine, at the priority that the gate ran with."""

    p50_ms: float
    """One film through the whole pipeline, alone, from the call to the answer."""
    p99_ms: float
    films_per_s: float
    """Of the whole pipeline, several films under way at once."""
    batch: int
    batch_ms: float
    """A full batch of the network alone, one at a time, as Triton counts its compute_infer. NaN: it has none."""
    memory_mib: float
    """Of the processes that run its models, shared pages divided among those that share them (PSS). NaN: not known."""


def measure(
    server: GateServer, films: Sequence[bytes], times: int, done: Callable[[], None] = lambda: None
) -> dict[str, Cost]:
    """Measure all sides in turns, each film `times` times over; `films`: some that every side reads."""
    latencies = _latencies(server, films, times, done)
    rates = _rates(server, films, times, done)
    batches = _batches(server)
    costs = {}
    for side in server.sides:
        batch = side.network.max_batch_size
        p50, p99 = np.percentile(latencies[side.name], [50, 99]).tolist()
        costs[side.name] = Cost(
            p50, p99, rates[side.name], batch, batches.get(side.name, math.nan), memory_mib(_pids(server, side))
        )
    return costs


def steps(times: int) -> int:
    """Give how often `measure` will call `done`."""
    return times + _ROUNDS


def memory_mib(pids: Iterable[int], proc: Path = PROC) -> float:
    """Give the proportional set size of processes, NaN where none is known; one that ended meanwhile counts nothing."""
    pids = list(pids)
    if not pids:
        return math.nan
    total = 0
    for pid in pids:
        try:
            lines = (proc / str(pid) / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def _latencies(
    server: GateServer, films: Sequence[bytes], times: int, done: Callable[[], None]
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {side.name: [] for side in server.sides}
    turns = itertools.cycle(films)
    for number in range(_WARM_UP + times):
        film = next(turns)
        for side in server.sides:
            took_ms = server.read(side, film).ms
            if number >= _WARM_UP:
                found[side.name].append(took_ms)
        if number >= _WARM_UP:
            done()
    return found


def _rates(server: GateServer, films: Sequence[bytes], times: int, done: Callable[[], None]) -> dict[str, float]:
    """Films a second of each side, the median of a few rounds."""
    found: dict[str, list[float]] = {side.name: [] for side in server.sides}
    work = list(itertools.islice(itertools.cycle(films), max(times, _LEAST_OF_A_ROUND)))
    with ThreadPoolExecutor(_BUSY, "gate-busy") as threads:
        for number in range(_ROUNDS):
            for side in server.sides[:: -1 if number % 2 else 1]:
                started = time.perf_counter()
                list(threads.map(partial(server.read, side), work))
                found[side.name].append(len(work) / (time.perf_counter() - started))
            done()
    return {name: statistics.median(rates) for name, rates in found.items()}


def _batches(server: GateServer) -> dict[str, float]:
    """Milliseconds of a full batch of each side's network; sides whose network wants other than one FP32 left out."""
    requests = {}
    for side in server.sides:
        role, config = next((role, part.config) for role, part in side.parts.items() if role in NETWORKS)
        image, *others = config.inputs
        if not others and image.data_type == "FP32" and -1 not in image.dims and config.max_batch_size:
            requests[side.name] = (side.model(role), *_request(image.name, (config.max_batch_size, *image.dims)))
    taken: dict[str, list[float]] = {name: [] for name in requests}
    for number in range(_BATCHES + 1):
        for name, (model, body, headers) in requests.items():
            took_ms = _compute_ms(server, model, body, headers)
            if number and took_ms is not None:  # the first one warms up
                taken[name].append(took_ms)
    return {name: statistics.median(each) for name, each in taken.items() if each}


def _request(name: str, shape: tuple[int, ...]) -> tuple[bytes, dict[str, str]]:
    """Give body and headers of an inference request with noise in one FP32 input (KServe v2, binary tensors)."""
    values = np.random.default_rng(0).uniform(-1, 1, shape).astype("<f4")
    tensor = {"name": name, "shape": list(shape), "datatype": "FP32"}
    described = {**tensor, "parameters": {"binary_data_size": values.size * _FLOAT32_BYTES}}
    head = json.dumps({"inputs": [described], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    return head + values.tobytes(), headers


def _compute_ms(server: GateServer, model: str, body: bytes, headers: dict[str, str]) -> float | None:
    rest = server.rest
    try:
        before = _computed(rest.call("GET", f"/v2/models/{model}/stats", timeout_s=30.0))
        rest.call("POST", f"/v2/models/{model}/infer", body, headers, timeout_s=120.0)
        after = _computed(rest.call("GET", f"/v2/models/{model}/stats", timeout_s=30.0))
    except ServerCallFailed:
        return None  # the answers of the pipeline are what is judged
    count = after[0] - before[0]
    return (after[1] - before[1]) / count / 1e6 if count else None


def _computed(document: bytes) -> tuple[int, int]:
    """Give executions and their nanoseconds of compute_infer from Triton's statistics of a model."""
    (entry,) = json.loads(document)["model_stats"]
    batches = entry.get("batch_stats", [])
    counts = [(int(each["compute_infer"]["count"]), int(each["compute_infer"]["ns"])) for each in batches]
    return sum(count for count, _ in counts), sum(ns for _, ns in counts)


def _pids(server: GateServer, side: Side) -> list[int]:
    stubs = [pid for model, pids in server.stub_pids().items() if model in side.models for pid in pids]
    return stubs + [child for stub in stubs for child in _descendants(stub)]


def _descendants(pid: int, proc: Path = PROC) -> list[int]:
    found, waiting = [], [pid]
    while waiting:
        for listed in (proc / str(waiting.pop()) / "task").glob("*/children"):
            try:
                children = [int(word) for word in listed.read_text().split()]
            except OSError:
                continue  # it ended meanwhile
            found += children
            waiting += children
    return found


def readable(server: GateServer, films: Iterable[bytes], count: int) -> list[bytes]:
    """Choose films that all sides read, at most `count`."""
    chosen = []
    for film in films:
        try:
            for side in server.sides:
                server.read(side, film)
        except WetreadError:
            continue
        chosen.append(film)
        if len(chosen) == count:
            break
    return chosen
