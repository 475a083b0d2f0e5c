"""`wetread bench films`: how near the served path comes to the same code without a server, and to a plain stack."""

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from wetread_bench.calibrate import OPEN_SHARE, Calibration, calibrate
from wetread_bench.encode import SYNTAXES
from wetread_bench.figures import FIGURES, ratios
from wetread_bench.inputs import COUNT, SIDE, FilmInputs, prepare
from wetread_bench.machine import commit, describe_machine, versions
from wetread_bench.perf_analyzer import second_opinion
from wetread_bench.results import Cell, Observation, Observations, Result, account, measure
from wetread_bench.rig import Rig

PLAIN_SYNTAXES = ("raw", "j2k")
OPEN_SYNTAXES = ("raw", "j2k")
CONCURRENCY = 8
QUIET = 0.1
"""Share of the cores that other processes may take, by the median cell. On a busy machine the served path, which is
many processes, gets a larger share than the limit's one a core: the ratio flatters."""
Progress = Callable[[str], None]


@dataclass(frozen=True)
class FilmPlan:
    """What to measure and for how long."""

    seconds: float = 6.0
    """Of each cell's window; the plain stack gets twice as long, it is that slow."""
    warm_s: float = 1.0
    """Before each window: connections, shared memory and caches as in a long run."""
    repeats: int = 3
    """Rounds. Each starts a fresh server and measures every cell; every second one in reversed order."""
    syntaxes: tuple[str, ...] = tuple(SYNTAXES)
    accounting_only: bool = False
    """Only the limit and shared memory at concurrency 8, and where their time goes."""
    count: int = COUNT
    """Films: the benchmark's sixteen, or the first of them."""
    quick: bool = False
    """Short windows that show that everything runs; the figures mean nothing."""

    @property
    def complete(self) -> bool:
        """Whether a result of this plan may be published."""
        whole = self.syntaxes == tuple(SYNTAXES) and self.count == COUNT
        return whole and not self.quick and not self.accounting_only

    def cells(self) -> list[Cell]:
        """The cells of one round; those that are compared with each other stand side by side."""
        found: list[Cell] = []
        for syntax in self.syntaxes:
            found += [Cell("limit", syntax, 1), Cell("shm", syntax, CONCURRENCY)]
            if self.accounting_only:
                continue
            found += [Cell(way, syntax, CONCURRENCY) for way in ("http", "grpc")]
            found += [Cell("plain", syntax, CONCURRENCY)] * (syntax in PLAIN_SYNTAXES)
            found += [Cell("shm_no_pool", syntax, CONCURRENCY)] * (syntax == "raw")
            found += [Cell("in_process", syntax, 1), *(Cell(way, syntax, 1) for way in ("shm", "http", "grpc"))]
            found += [Cell("shm_open", syntax, CONCURRENCY)] * (syntax in OPEN_SYNTAXES)
        return found


def bench_films(checkout: Path, output: Path, plan: FilmPlan, command: str, progress: Progress) -> Result:
    """Measure all cells and return the result; failed requests are counted in it."""
    progress(f"films: {plan.count} of {SIDE} x {SIDE}, made once")
    inputs = prepare(output / "inputs", checkout, plan.count)
    syntaxes = list(plan.syntaxes)
    observations: dict[Cell, list[Observation]] = {}
    calibration: Calibration | None = None
    opinion: dict[str, float] | str = "not run"
    with Rig(checkout, output, inputs) as rig:
        for number in range(plan.repeats):
            progress(f"round {number + 1} of {plan.repeats}: a fresh server, warmed up and checked")
            with rig.server(syntaxes) as server:
                if calibration is None:
                    progress("calibration: the limit's batch, the load generator's processes")
                    brief = plan.quick or plan.accounting_only
                    calibration = calibrate(rig, syntaxes, plan.seconds / 4, brief=brief)
                _round(rig, plan, number, observations, progress)
                if number == 0 and "raw" in syntaxes and not plan.accounting_only:
                    opinion = second_opinion(server.http_url, Path(inputs.files("raw")[0]), plan.seconds)
    assert calibration is not None
    return _result(checkout, plan, command, inputs, calibration, observations, opinion)


def _round(
    rig: Rig, plan: FilmPlan, number: int, observations: dict[Cell, list[Observation]], progress: Progress
) -> None:
    cells = plan.cells()
    for cell in reversed(cells) if number % 2 else cells:
        seconds, warm_s = plan.seconds, plan.warm_s
        if cell.way == "plain":
            seconds, warm_s = (
                max(4.0, 2 * seconds),
                max(4.0, warm_s),
            )  # eight films under way take seconds to come round
        seen = rig.run(cell, seconds, warm_s)
        observations.setdefault(cell, []).append(seen)
        errors = f"  ERRORS: {dict(seen.errors)}" if seen.errors else ""
        progress(f"  {cell.key:<20} {seen.films_per_s:8.1f} films/s  p50 {seen.p50_ms:8.1f} ms{errors}")


def _result(
    checkout: Path,
    plan: FilmPlan,
    command: str,
    inputs: FilmInputs,
    calibration: Calibration,
    observations: Observations,
    opinion: dict[str, float] | str,
) -> Result:
    errors: dict[str, int] = {}
    for cell, rounds in observations.items():
        for seen in rounds:
            for error, count in seen.errors.items():
                errors[f"{cell.key}: {error}"] = errors.get(f"{cell.key}: {error}", 0) + count
    found = ratios(observations)
    quiet = statistics.median(seen.other_cpu_share for rounds in observations.values() for seen in rounds) <= QUIET
    ordered = [cell for cell in dict.fromkeys(plan.cells()) if cell in observations]
    return Result(
        name="films_accounting" if plan.accounting_only else "films",
        complete=plan.complete and quiet and {ratio.name for ratio in found} == set(FIGURES) and not errors,
        machine=describe_machine(),
        versions=versions(),
        commit=commit(checkout),
        command=command,
        inputs={key: value for key, value in asdict(inputs).items() if key != "folder"},
        settings={**asdict(plan), "open_share": OPEN_SHARE, "calibration": asdict(calibration)},
        errors=errors,
        measurements=[measure(cell, observations[cell]) for cell in ordered],
        accounting=[account(cell, observations[cell]) for cell in ordered],
        ratios=found,
        perf_analyzer=opinion,
        figures={ratio.name: ratio.spread.median for ratio in found},
    )
