from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from wetread_bench.figures import FIGURES, ratios
from wetread_bench.films import FilmPlan
from wetread_bench.machine import describe_machine, versions
from wetread_bench.processes import CpuUse
from wetread_bench.results import Cell, Observation, Result, Spread, account, measure, quantile
from wetread_bench.triton_statistics import ModelUse, between

if TYPE_CHECKING:
    from pathlib import Path

FIGURE_NAMES = {
    "served_over_limit_raw", "served_over_limit_j2k", "served_over_plain_raw", "served_over_plain_j2k",
    "http_over_plain_raw", "http_over_plain_j2k", "p50_over_inprocess_raw", "j2k_over_raw_time",
}  # fmt: skip


def observation(films_per_s: float, p50_ms: float = 10.0, **more: object) -> Observation:
    seen = Observation(
        films_per_s=films_per_s,
        p50_ms=p50_ms,
        p99_ms=20.0,
        requests=100,
        errors={},
        cpu={"client": CpuUse(0.001, 0.0005, 3.0)},
        models={"chest_xray_classifier": ModelUse(100, 0, 2.0, 0.1, 0.2, 5.0, 0.3)},
        other_cpu_share=0.0,
    )
    return replace(seen, **more)  # type: ignore[arg-type]


def result(**changes: object) -> Result:
    cells = FilmPlan().cells()
    observations = {cell: [observation(50.0), observation(60.0), observation(70.0)] for cell in cells}
    found = ratios(observations)
    whole = Result(
        name="films",
        complete=True,
        machine=describe_machine(),
        versions=versions(),
        commit="0" * 40,
        command="wetread bench films",
        inputs={"source": "test", "count": 16, "mean_bytes": {"raw": 8}, "sha256": "0" * 64},
        settings={},
        errors={},
        measurements=[measure(cell, rounds) for cell, rounds in observations.items()],
        accounting=[account(cell, rounds) for cell, rounds in observations.items()],
        ratios=found,
        perf_analyzer="not run",
        figures={ratio.name: ratio.spread.median for ratio in found},
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def test_a_figure_is_the_median_of_the_rounds_quotients() -> None:
    observations = {
        Cell("shm", "raw", 8): [observation(80.0), observation(30.0), observation(75.0)],
        Cell("limit", "raw", 1): [observation(100.0), observation(50.0), observation(100.0)],
    }
    (ratio,) = ratios(observations)
    assert ratio.name == "served_over_limit_raw"
    assert ratio.spread == Spread(0.75, 0.6, 0.8)


def test_the_latency_figure_divides_latencies() -> None:
    observations = {
        Cell("shm", "raw", 1): [observation(80.0, 15.0)],
        Cell("in_process", "raw", 1): [observation(100.0, 10.0)],
    }
    assert [(ratio.name, ratio.spread.median) for ratio in ratios(observations)] == [("p50_over_inprocess_raw", 1.5)]


def test_a_whole_run_measures_every_cell_of_every_figure_once() -> None:
    cells = FilmPlan().cells()
    assert len(set(cells)) == len(cells)
    assert {cell for figure in FIGURES.values() for cell in (figure.above, figure.below)} <= set(cells)


def test_the_document_has_every_field_that_a_reader_judges_by(tmp_path: Path) -> None:
    document = json.loads(result().write(tmp_path).read_text())
    assert set(document["figures"]) == FIGURE_NAMES
    assert all(isinstance(value, float) for value in document["figures"].values())
    assert {"cpu", "flags", "cores", "memory_gib"} <= set(document["machine"])
    assert {"python", "numpy", "openvino"} <= set(document["versions"])
    for field in ("name", "commit", "command", "inputs", "settings", "errors", "perf_analyzer"):
        assert field in document
    for seen in document["measurements"]:
        for number in ("films_per_s", "p50_ms", "p99_ms"):
            assert seen[number]["low"] <= seen[number]["median"] <= seen[number]["high"]
    ways = {(seen["way"], seen["syntax"], seen["concurrency"]) for seen in document["measurements"]}
    for syntax in ("raw", "rle", "jpll", "jpls", "j2k"):
        assert {(way, syntax, at_once) for way in ("shm", "http", "grpc") for at_once in (1, 8)} <= ways


@pytest.mark.parametrize(
    "changes", [{"quick": True}, {"accounting_only": True}, {"syntaxes": ("raw",)}, {"count": 2}], ids=str
)
def test_a_run_that_leaves_something_out_is_not_complete(changes: dict[str, object]) -> None:
    assert FilmPlan().complete
    assert not replace(FilmPlan(), **changes).complete  # type: ignore[arg-type]


def test_costs_are_milliseconds_a_film_by_class_of_process() -> None:
    seen = account(Cell("shm", "raw", 8), [observation(50.0)] * 3)
    assert (seen.by_class["client"].user_ms, seen.by_class["client"].system_ms) == (1.0, 0.5)
    assert seen.cpu_ms_per_film == 1.5


def test_errors_of_all_rounds_are_counted() -> None:
    rounds = [observation(1.0, errors={"Unavailable": 2}), observation(1.0, errors={"ServerError": 1})]
    assert measure(Cell("shm", "raw", 8), rounds).errors == 3


def test_quantiles_are_values_that_were_seen() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert quantile(values, 0.5) == 51.0
    assert quantile(values, 0.99) == 100.0
    assert quantile([], 0.5) == 0.0


def stats(requests: int, executions: int, queue_ns: int) -> dict[str, object]:
    phases = {name: {"count": requests, "ns": 0} for name in ("compute_input", "compute_infer", "compute_output")}
    counts = {"success": {"count": requests, "ns": 0}, "fail": {"count": 0, "ns": 0}}
    times = {**phases, **counts, "queue": {"count": requests, "ns": queue_ns}}
    return {"inference_count": requests, "execution_count": executions, "inference_stats": times}


def test_tritons_statistics_are_those_between_two_moments() -> None:
    use = between({"m": stats(10, 10, 5_000_000)}, {"m": stats(30, 20, 45_000_000)})["m"]
    assert (use.requests, use.mean_batch, use.queue_ms) == (20, 2.0, 2.0)
