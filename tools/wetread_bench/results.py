"""What a benchmark writes down: observations of one round, measurements over rounds, figures."""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from wetread_bench.machine import Machine
from wetread_bench.processes import CpuUse
from wetread_bench.triton_statistics import ModelUse


@dataclass(frozen=True)
class Cell:
    """One thing to measure. `way`: limit, in_process, shm, shm_no_pool, http, grpc, shm_open or plain."""

    way: str
    syntax: str
    concurrency: int

    @property
    def key(self) -> str:
        """Its name in results."""
        return f"{self.way}/{self.syntax}/c{self.concurrency}"


@dataclass(frozen=True)
class Observation:
    """One cell in one round. CPU time is in seconds a film, `stages_ms` milliseconds a film."""

    films_per_s: float
    p50_ms: float
    p99_ms: float
    requests: int
    errors: Mapping[str, int]
    cpu: Mapping[str, CpuUse]
    models: Mapping[str, ModelUse]
    other_cpu_share: float
    """Share of all cores' time that processes which are no part of the benchmark took: 0 on a quiet machine."""
    stages_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Spread:
    """The median over rounds, the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def over(cls, values: Iterable[float]) -> Self:
        """Of at least one value, rounded to five digits."""
        numbers = sorted(values)
        return cls(*(float(f"{value:.5g}") for value in (statistics.median(numbers), numbers[0], numbers[-1])))


@dataclass(frozen=True)
class Measurement:
    """One cell over all rounds."""

    cell: str
    way: str
    syntax: str
    concurrency: int
    films_per_s: Spread
    p50_ms: Spread
    p99_ms: Spread
    requests: int
    errors: int
    stages_ms: dict[str, float]
    """Of in-process cells: each stage's median milliseconds a film."""


@dataclass(frozen=True)
class ClassUse:
    """What one class of processes costs a film."""

    user_ms: float
    system_ms: float
    minor_faults: float


@dataclass(frozen=True)
class Accounting:
    """Where one cell's time goes, medians over rounds: CPU by class of process, Triton's statistics by model."""

    cell: str
    cpu_ms_per_film: float
    by_class: dict[str, ClassUse]
    models: dict[str, ModelUse]
    other_cpu_share: float


@dataclass(frozen=True)
class Ratio:
    """A figure: the median over rounds of the quotient of two cells' numbers of the same round."""

    name: str
    spread: Spread
    above: str
    below: str


@dataclass(frozen=True)
class Result:
    """The document `build/bench/<name>.json`."""

    name: str
    complete: bool
    """Every cell was measured at full length on a quiet machine, without an error: only such results are published."""
    machine: Machine
    versions: dict[str, str]
    commit: str
    command: str
    inputs: dict[str, Any]
    settings: dict[str, Any]
    errors: dict[str, int]
    measurements: list[Measurement]
    accounting: list[Accounting]
    ratios: list[Ratio]
    perf_analyzer: dict[str, float] | str
    figures: dict[str, float]

    def write(self, folder: Path) -> Path:
        """Write the document and return its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")
        return path


Observations = Mapping[Cell, Sequence[Observation]]


def measure(cell: Cell, rounds: Sequence[Observation]) -> Measurement:
    """Sum one cell up."""
    stages = rounds[0].stages_ms
    return Measurement(
        cell=cell.key,
        way=cell.way,
        syntax=cell.syntax,
        concurrency=cell.concurrency,
        films_per_s=Spread.over(seen.films_per_s for seen in rounds),
        p50_ms=Spread.over(seen.p50_ms for seen in rounds),
        p99_ms=Spread.over(seen.p99_ms for seen in rounds),
        requests=sum(seen.requests for seen in rounds),
        errors=sum(sum(seen.errors.values()) for seen in rounds),
        stages_ms={stage: _median(seen.stages_ms[stage] for seen in rounds) for stage in stages},
    )


def account(cell: Cell, rounds: Sequence[Observation]) -> Accounting:
    """Say where one cell's time went."""
    classes = {
        name: ClassUse(
            user_ms=_median(seen.cpu[name].user_s * 1e3 for seen in rounds if name in seen.cpu),
            system_ms=_median(seen.cpu[name].system_s * 1e3 for seen in rounds if name in seen.cpu),
            minor_faults=_median(seen.cpu[name].minor_faults for seen in rounds if name in seen.cpu),
        )
        for name in dict.fromkeys(name for seen in rounds for name in seen.cpu)
    }
    models = {
        model: ModelUse(
            **{
                number: _median(asdict(seen.models[model])[number] for seen in rounds)
                for number in asdict(rounds[0].models[model])
            }  # type: ignore[arg-type]  # medians of counts are numbers too
        )
        for model in rounds[0].models
    }
    return Accounting(
        cell=cell.key,
        cpu_ms_per_film=round(sum(use.user_ms + use.system_ms for use in classes.values()), 4),
        by_class=classes,
        models=models,
        other_cpu_share=_median(seen.other_cpu_share for seen in rounds),
    )


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed; NaN-free: 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _median(values: Iterable[float]) -> float:
    return round(float(statistics.median(values)), 4)
