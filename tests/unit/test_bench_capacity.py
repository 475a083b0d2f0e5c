"""What a capacity result is made of: the curve, the runs at random, the model of them, the figures and the sizing."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from wetread_bench import capacity
from wetread_bench.autoscale.curve import LEVELS, ServiceCurve, constant, shape_of
from wetread_bench.autoscale.real_run import PoissonRun, model_of
from wetread_bench.autoscale.sizing import Assumptions, need, table
from wetread_bench.load import poisson_moments
from wetread_bench.publish import NotPublishable, publish
from wetread_bench.triton_statistics import ModelUse

CHECKOUT = Path(__file__).parents[2]


def use(queue_ms: float, compute_ms: float) -> ModelUse:
    return ModelUse(10, 0, 1.0, queue_ms, 0.0, compute_ms, 0.0)


def levels(rates: tuple[float, ...] = (50.0, 55.0, 60.0, 61.0, 62.0)) -> list[dict[str, object]]:
    rng = np.random.default_rng(0)
    found = []
    for concurrency, rate in zip(LEVELS, rates, strict=True):
        latencies = tuple(rng.gamma(9, concurrency / rate * 1e3 / 9, 500).tolist())
        one = capacity.Round(rate, latencies, 0.1, 0.4)
        found.append(asdict(capacity.level_of(concurrency, [one, one])))
    return found


def pipeline(precision: str, p99_ms: float = 100.0, modelled_ms: float = 110.0) -> dict[str, object]:
    runs = [
        {"load": load, "films_per_s": 30.0, "p99_ms": p99_ms, "model": {"films_per_s": 31.5, "p99_ms": modelled_ms}}
        for load in capacity.LOADS
    ]
    return {"pipeline": "chest_xray", "precision": precision, "levels": levels(), "poisson": runs, "errors": 0}


def test_a_level_is_the_median_rate_and_the_quantiles_of_all_rounds() -> None:
    rounds = [capacity.Round(rate, (1.0, 3.0), 0.0, 0.0) for rate in (10.0, 30.0, 20.0)]
    level = capacity.level_of(4, rounds)
    assert (level.films_per_s, level.films, level.mean_ms) == (20.0, 6, 2.0)
    assert level.films_per_s_by_round == (10.0, 30.0, 20.0)
    assert (level.shape[0], level.shape[-1]) == (0.5, 1.5)


def test_what_waits_in_triton_is_counted_by_littles_law() -> None:
    seen = capacity.Round.of([5.0] * 200, 2.0, [use(4.0, 10.0), use(1.0, 15.0)])
    assert seen.films_per_s == 100.0
    assert seen.queue_over_compute == pytest.approx(0.2)
    assert seen.pending == pytest.approx(0.5)


def test_a_curve_is_interpolated_and_its_sizes_have_the_mean_one() -> None:
    curve = ServiceCurve.of(levels())
    assert curve.rate(3) == pytest.approx(57.5)
    assert curve.rate(0) == 0.0
    assert curve.rate(40) == 62.0
    assert curve.peak(4) == 60.0
    sizes = curve.sizes(5)
    assert sizes.shape[0] == 6
    assert ((sizes[:, 1:] + sizes[:, :-1]) / 2).mean(axis=1) == pytest.approx(np.ones(6))
    assert curve.pending_requests(1) == pytest.approx(0.4)
    assert constant(5.0).pending_requests(1) == 0.0


def test_a_shape_is_relative_to_the_mean() -> None:
    assert shape_of([10.0, 20.0, 30.0], 3) == (0.5, 1.0, 1.5)


def test_a_precision_that_was_not_measured_is_said(tmp_path: Path) -> None:
    file = tmp_path / "capacity.json"
    file.write_text(json.dumps({"measurements": {"pipelines": [pipeline("fp32")]}}))
    assert ServiceCurve.load(file).levels == LEVELS
    with pytest.raises(ValueError, match="fp16"):
        ServiceCurve.load(file, "fp16")


@pytest.mark.slow
@pytest.mark.parametrize("rate", [25.0, 40.0])
@pytest.mark.full
def test_the_model_is_fed_with_the_arrivals_of_the_run(rate: float) -> None:
    # one slot of 20 ms: what waits can be computed from the arrivals one by one (Lindley's equation)
    moments, free_at, latencies = poisson_moments(0.0, rate, random.Random(3)), 0.0, []
    while (moment := next(moments)) < 61.0:
        free_at = max(free_at, moment) + 0.02
        if 1.0 <= free_at < 61.0:
            latencies.append((free_at - moment) * 1e3)
    run = PoissonRun.of(0.5, rate, 3, 1.0, 60.0, 1, latencies)
    modelled = model_of(run, constant(50.0))
    assert modelled.films_per_s == pytest.approx(run.films_per_s)
    assert modelled.p50_ms == pytest.approx(run.p50_ms, rel=0.02)
    assert modelled.p99_ms == pytest.approx(run.p99_ms, rel=0.02)


def test_figures_are_the_cores_rate_and_the_models_errors_of_the_shipped_precision() -> None:
    figures = capacity.figures_of([pipeline("fp32"), pipeline("int8", modelled_ms=900.0)])
    assert figures["films_per_s_per_core_fp32"] == 62.0
    assert figures["peak_over_alone_int8"] == pytest.approx(1.24)
    assert figures["model_p99_error_50"] == figures["model_p99_error_80"] == pytest.approx(0.1)
    assert figures["model_throughput_error_80"] == pytest.approx(0.05)
    assert {"p99_over_unloaded_at_50_fp32", "p99_over_unloaded_at_80_int8"} <= set(figures)


def test_more_studies_need_more_pods_and_a_lost_zone_leaves_enough() -> None:
    given = Assumptions()
    needs = [need(studies, 50.0, given) for studies in (1_500, 15_000, 1_000_000)]
    assert [row.pods for row in needs] == sorted({row.pods for row in needs})
    for row in needs:
        assert row.pods_with_spare * (given.zones - 1) >= row.pods * given.zones or row.pods == 1
        assert min(row.gpus_with_spare, row.pods_with_spare) >= 2
    # by hand: a million studies, 9 % in the peak hour, half as much again in its busiest minutes: 37.5 a second;
    # 60 films at 50 a second and 22.5 series of 3 s, at 65 %
    assert needs[-1].films_per_s == pytest.approx(60.0)
    assert needs[-1].series_per_s == pytest.approx(22.5)
    assert needs[-1].pods == 106
    assert "| 1,000,000 | 60.00 | 22.500 | 106 |" in table(50.0)


def test_a_capacity_result_is_published_without_a_place_in_the_readme(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Title\n")
    (tmp_path / "build").mkdir()
    document = {"name": "capacity", "complete": True, "measurements": {"pipelines": [pipeline("fp32")]}}
    source = tmp_path / "build" / "capacity.json"
    source.write_text(json.dumps(document))
    assert publish("capacity", tmp_path / "build", tmp_path).read_text() == source.read_text()
    source.write_text(json.dumps({**document, "complete": False}))
    with pytest.raises(NotPublishable):
        publish("capacity", tmp_path / "build", tmp_path)


def test_the_committed_result_has_what_the_simulation_needs() -> None:
    told = json.loads((CHECKOUT / "docs" / "benchmarks" / "capacity.json").read_text())
    for each in told["measurements"]["pipelines"]:
        curve = ServiceCurve.of(each["levels"])
        assert curve.levels == LEVELS
        assert len(curve.shapes[0]) > 50
        for run in each["poisson"]:
            assert {"rate", "seed", "slots", "percentiles_ms", "model"} <= set(run)
    if told["complete"]:
        errors = {name: value for name, value in told["figures"].items() if name.startswith("model_")}
        assert len(errors) == 4
        assert max(errors.values()) <= 0.15, errors
