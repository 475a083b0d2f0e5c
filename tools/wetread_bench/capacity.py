"""`wetread bench capacity`: what one core of a Triton pod reads, by concurrency, and under arrivals at random."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from wetread_release.draft import ANY_TARGET, Draft
from wetread_release.gate.lay_out import side_of_draft
from wetread_release.gate.server import serving

from wetread_bench.autoscale.curve import LEVELS, ServiceCurve, shape_of
from wetread_bench.autoscale.real_run import PoissonRun, model_of
from wetread_bench.document import Document
from wetread_bench.engines import EnginesPlan, draft_of
from wetread_bench.inputs import COUNT, prepare
from wetread_bench.machine import cores
from wetread_bench.processes import busy_s, cpu_use, descendants
from wetread_bench.results import quantile
from wetread_bench.triton_statistics import between
from wetread_bench.triton_statistics import statistics as statistics_of
from wetread_bench.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from wetread_release.gate.lay_out import Side
    from wetread_release.gate.server import GateServer

    from wetread_bench.triton_statistics import ModelUse

    Report = Callable[[str], None]

PIPELINE = "chest_xray"
SERIES = ("brain_mr", "chest_ct")
PRECISIONS = ("fp32", "int8")
LOADS = (0.5, 0.8)
LEAD_S = 0.3
SEED = 12
NO_MODEL = "no model ships with this pipeline: its slot is filled by whoever brings one"
QUIET = 0.1
"""Share of the two cores that other processes may take in a result that is published."""
_STARTUP_S = 180.0


@dataclass(frozen=True)
class CapacityPlan:
    """How long to measure; a full run takes about six minutes, and two more the first time, for the films and INT8."""

    seconds: float = 6.0
    """Of each concurrency."""
    warm_s: float = 1.5
    repeats: int = 2
    """Rounds over all concurrencies; the second in reversed order."""
    poisson_s: float = 75.0
    """Of each run with arrivals at random of the first precision."""
    other_poisson_s: float = 30.0
    """Of the other precisions."""
    slots: int = 4
    """Films that a reader has under way at once: `[triton] concurrency`."""
    films: int = COUNT
    precisions: tuple[str, ...] = PRECISIONS
    quick: bool = False


@dataclass(frozen=True)
class Level:
    """One concurrency, over all rounds."""

    concurrency: int
    films_per_s: float
    films_per_s_by_round: tuple[float, ...]
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    films: int
    queue_over_compute: float
    """Triton's queue time over its time of inference, over the steps, as the adapter's rule has it."""
    pending: float
    """Requests that wait in Triton, over the steps, by Little's law."""
    shape: tuple[float, ...]
    """Quantiles of the latency over its mean, evenly spaced, the lowest and the highest among them."""


@dataclass(frozen=True)
class Round:
    """One concurrency in one round."""

    films_per_s: float
    latencies_ms: tuple[float, ...]
    queue_over_compute: float
    pending: float

    @classmethod
    def of(cls, latencies_ms: Sequence[float], seconds: float, uses: Iterable[ModelUse]) -> Self:
        """Take what was measured, and what Triton says of its models meanwhile."""
        uses = tuple(uses)
        rate = len(latencies_ms) / seconds
        queued = sum(use.queue_ms for use in uses)
        computed = sum(use.infer_ms for use in uses)
        return cls(rate, tuple(latencies_ms), queued / max(1e-9, computed), rate * queued / 1e3)


def bench_capacity(checkout: Path, output: Path, plan: CapacityPlan, command: str, report: Report) -> Document:
    """Measure every precision on a server pinned to the first core, the generator on the last."""
    report(f"films: {plan.films}, made once")
    inputs = prepare(output / "inputs", checkout, plan.films)
    drafts = {name: draft_of(checkout, output / "engines", name, EnginesPlan(), report) for name in plan.precisions}
    sides = [side_of_draft(folder, Draft.load(folder), ANY_TARGET, name, name) for name, folder in drafts.items()]
    here = cores()
    pipelines: list[dict[str, Any]] = []
    others, started = _Others(), time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="wetread-capacity-") as scratch,
        _pinned(here[:1]),
        serving(sides, checkout, Path(scratch), _STARTUP_S) as server,
        _pinned(here[-1:]),
        Worker("wetread_bench.capacity_generator", cores=here[-1:]) as generator,
    ):
        generator.ask("load", files=inputs.files("raw"))
        for side in sides:
            seconds = plan.poisson_s if side is sides[0] else plan.other_poisson_s
            with others.watched(generator.pid):
                measured = _measure(generator, server, side, plan, seconds, report)
            pipelines.append({"pipeline": PIPELINE, "precision": side.name, **measured})
    errors = sum(each["errors"] for each in pipelines)
    busy = others.share(len(here))
    report(f"measured in {time.monotonic() - started:.0f} s; other processes took {busy:.0%} of the cores")
    return Document.of(
        checkout,
        "capacity",
        command,
        complete=not (plan.quick or errors or busy > QUIET or len(here) < 2 or plan.precisions != PRECISIONS),
        inputs={"films": inputs.source, "count": inputs.count, "mean_bytes": inputs.mean_bytes["raw"]},
        settings={**asdict(plan), "server_core": here[0], "generator_core": here[-1], "seed": SEED},
        measurements={"pipelines": pipelines, "skipped": dict.fromkeys(SERIES, NO_MODEL), "other_cpu_share": busy},
        figures=figures_of(pipelines),
        remarks=_remarks(busy, here),
    )


def _measure(
    generator: Worker, server: GateServer, side: Side, plan: CapacityPlan, poisson_s: float, report: Report
) -> dict[str, Any]:
    """Give the curve and the runs at random of one pipeline; those lie between the rounds, so that a drift shows."""
    url, name = server.clients[side.name].url, side.ensemble
    generator.ask("aim_at", url=url, pipeline=name)
    rounds: dict[int, list[Round]] = {concurrency: [] for concurrency in LEVELS}
    runs: list[PoissonRun] = []
    errors = 0
    for number in range(plan.repeats):
        for concurrency in reversed(LEVELS) if number % 2 else LEVELS:
            before = statistics_of(url, side.models)
            answer = _run(generator, concurrency, plan.seconds, plan.warm_s)
            uses = between(before, statistics_of(url, side.models)).values()
            rounds[concurrency].append(Round.of(answer["latencies_ms"], plan.seconds, uses))
            errors += sum(answer["errors"].values())
            report(f"{name} {concurrency:>2} at once: {rounds[concurrency][-1].films_per_s:6.1f} films/s")
        if number:
            continue
        peak = max(rounds[concurrency][0].films_per_s for concurrency in LEVELS if concurrency <= plan.slots)
        for load in LOADS:
            rate = round(load * peak, 3)
            answer = _run(generator, plan.slots, poisson_s, plan.warm_s, rate)
            errors += sum(answer["errors"].values())
            runs.append(PoissonRun.of(load, rate, SEED, plan.warm_s, poisson_s, plan.slots, answer["latencies_ms"]))
            report(f"{name} {rate:.1f}/s at random: p99 {runs[-1].p99_ms:.0f} ms")
    levels = [asdict(level_of(concurrency, rounds[concurrency])) for concurrency in LEVELS]
    curve = ServiceCurve.of(levels)
    poisson = [{**asdict(run), "model": asdict(model_of(run, curve))} for run in runs]
    return {"levels": levels, "poisson": poisson, "errors": errors}


def _run(generator: Worker, threads: int, seconds: float, warm_s: float, rate: float | None = None) -> dict[str, Any]:
    start_at = time.monotonic() + LEAD_S
    answer: dict[str, Any] = generator.ask(
        "run", threads=threads, start_at=start_at, seconds=seconds, warm_s=warm_s, rate=rate, seed=SEED
    )
    return answer


def level_of(concurrency: int, rounds: Sequence[Round]) -> Level:
    """Sum one concurrency up."""
    latencies = [latency for each in rounds for latency in each.latencies_ms]
    rates = tuple(round(each.films_per_s, 2) for each in rounds)
    p50, p95, p99 = (round(quantile(latencies, share), 3) for share in (0.5, 0.95, 0.99))
    return Level(
        concurrency,
        round(statistics.median(rates), 2),
        rates,
        round(statistics.fmean(latencies), 3),
        p50,
        p95,
        p99,
        len(latencies),
        round(statistics.median(each.queue_over_compute for each in rounds), 4),
        round(statistics.median(each.pending for each in rounds), 4),
        shape_of(latencies),
    )


def figures_of(pipelines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Give what a reader judges by; the errors of the model are those of the first precision, the shipped one."""
    found: dict[str, float] = {}
    for each in pipelines:
        name = each["precision"]
        peak = max(level["films_per_s"] for level in each["levels"])
        alone = each["levels"][0]
        found[f"films_per_s_per_core_{name}"] = peak
        found[f"peak_over_alone_{name}"] = peak / alone["films_per_s"]
        for run in each["poisson"]:
            found[f"p99_over_unloaded_at_{run['load']:.0%}_{name}".replace("%", "")] = run["p99_ms"] / alone["p99_ms"]
    for run in pipelines[0]["poisson"] if pipelines else ():
        percent, model = round(100 * run["load"]), run["model"]
        found[f"model_throughput_error_{percent}"] = abs(model["films_per_s"] / run["films_per_s"] - 1)
        found[f"model_p99_error_{percent}"] = abs(model["p99_ms"] / run["p99_ms"] - 1)
    return {name: float(f"{value:.4g}") for name, value in found.items()}


@contextmanager
def _pinned(to: Sequence[int]) -> Iterator[None]:
    """Run this thread, and what it starts meanwhile, on the given cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, to)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class _Others:
    """Counts what processes other than the bench's own take."""

    def __init__(self) -> None:
        self._other_s = self._wall_s = 0.0

    @contextmanager
    def watched(self, generator: int) -> Iterator[None]:
        """Count meanwhile."""

        def now() -> tuple[float, float, float]:
            ours = {os.getpid(), generator, *descendants(os.getpid())}
            return time.monotonic(), busy_s(), sum(use.total_s for use in cpu_use(ours).values())

        before = now()
        yield
        wall_s, busy, ours = (after - begun for after, begun in zip(now(), before, strict=True))
        self._wall_s += wall_s
        self._other_s += max(0.0, busy - ours)

    def share(self, count: int) -> float:
        """Give their share of all cores' time."""
        return round(self._other_s / max(1e-9, self._wall_s * count), 4)


def _remarks(busy: float, here: Sequence[int]) -> tuple[str, ...]:
    remarks = [f"{' and '.join(SERIES)}: {NO_MODEL}"]
    if busy > QUIET:
        remarks.append(f"a busy machine: other processes took {busy:.0%} of the cores")
    if len(here) < 2:
        remarks.append("one core: the generator takes the server's")
    return tuple(remarks)
