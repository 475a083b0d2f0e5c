"""Simulated pods and their worklist against queueing theory, whole days, and the manifest that ships."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner
from wetread_bench.autoscale import pages, search
from wetread_bench.autoscale.curve import ServiceCurve, constant, exponential
from wetread_bench.autoscale.day import Day, step
from wetread_bench.autoscale.manifest import DEFAULT_UP, Manifest, Metric, Policy, Rules
from wetread_bench.autoscale.monitoring import AGE, NAMES, WORKS_PER_S, Monitoring
from wetread_bench.autoscale.outcome import Outcome, direction_changes
from wetread_bench.autoscale.queue import BIN_GROWTH, LEAST_S, STAT
from wetread_bench.autoscale.simulate import Cluster, simulate
from wetread_bench.autoscale.study import STEP_MINUTE, naive, step_outcome
from wetread_bench.autoscale.worklist import ReaderSettings, Worklist, quantile_s
from wetread_bench.simulate_command import app

pytestmark = pytest.mark.full  # its kernels take half a minute to compile

CHECKOUT = Path(__file__).parents[2]
SHAPE = (0.6, 0.8, 0.95, 1.1, 1.6)
SLOW = ServiceCurve((1, 2, 4), (9.0, 9.6, 10.0), (SHAPE,) * 3, (0.0, 0.05, 0.3), (0.0, 0.05, 0.6))
WORKS = Metric("External", WORKS_PER_S, "AverageValue", 6)
SHRINKS = Rules(3600, "Max", (Policy("Pods", 2, 60),))
GOOD = Manifest(2, 20, (WORKS,), DEFAULT_UP, SHRINKS)


def one_server(curve: ServiceCurve, load: float, works: int = 400_000, slots: int = 1) -> Worklist:
    worklist = Worklist(curve, 1, ReaderSettings(slots=slots, most_ahead=0, look_s=0.0), longest=works)
    worklist.start(0)
    arrivals = np.cumsum(np.random.default_rng(5).exponential(1 / load, works))
    worklist.advance(float(arrivals[-1]) + 1000.0, arrivals)
    assert (worklist.completed, worklist.lost) == (works, 0)
    return worklist


def mean_s(worklist: Worklist) -> float:
    counts = worklist.take_histogram().sum(axis=0)
    middles = LEAST_S * (1 + BIN_GROWTH) ** (np.arange(len(counts)) + 0.5)
    return float((counts * middles).sum() / counts.sum())


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_a_single_exponential_server_is_theorys(load: float) -> None:
    # M/M/1: the time in the system is exponential with the rate mu - lambda
    times = one_server(exponential(1.0), load).take_histogram()
    assert quantile_s(times, 0.5) == pytest.approx(np.log(2) / (1 - load), rel=0.06)
    assert quantile_s(times, 0.99) == pytest.approx(np.log(100) / (1 - load), rel=0.1)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_a_single_constant_server_is_theorys(load: float) -> None:
    # M/D/1: 1 + rho / (2 (1 - rho))
    assert mean_s(one_server(constant(1.0), load)) == pytest.approx(1 + load / (2 * (1 - load)), rel=0.05)


def test_works_under_way_share_a_pod() -> None:
    # M/G/1 with processor sharing: 1 / (1 - rho) whatever the sizes' spread
    assert mean_s(one_server(constant(1.0), 0.8, slots=60)) == pytest.approx(5.0, rel=0.08)


def test_stat_passes_what_waits_and_keeps_a_slot() -> None:
    worklist = Worklist(SLOW, 1, ReaderSettings(look_s=0.0))
    worklist.start(0)
    arrivals = np.linspace(0.1, 10.0, 400)
    kinds = (np.arange(400) % 40 == 39).astype(np.int8)
    worklist.advance(200.0, arrivals, kinds)
    times = worklist.take_histogram()
    assert times[STAT].sum() == 10
    assert quantile_s(times[STAT], 0.99) < 2.0 < quantile_s(times, 0.5)


def test_an_idle_reader_looks_for_work_four_times_a_second() -> None:
    worklist = Worklist(constant(1000.0), 1, ReaderSettings(look_s=0.25))
    worklist.start(0)
    worklist.advance(1000.0, np.arange(1.0, 999.0, 1.01))
    assert quantile_s(worklist.take_histogram(), 0.5) == pytest.approx(0.125, rel=0.2)


def test_nothing_is_lost_when_pods_drain_and_die() -> None:
    worklist = Worklist(SLOW, 4, ReaderSettings(lease_s=30.0))
    rng = np.random.default_rng(7)
    for pod in range(4):
        worklist.start(pod)
    arrivals = np.sort(rng.random(3000) * 300)
    for begin in range(0, 300, 10):
        some = arrivals[(arrivals >= begin) & (arrivals < begin + 10)]
        worklist.advance(begin + 10.0, some)
        assert worklist.lost == 0
        pod = begin // 10 % 4
        if begin % 20:
            worklist.drain(pod)
        else:
            worklist.kill(pod)
        worklist.advance(worklist.now + 0.0, np.zeros(0))
        assert worklist.lost == 0
        while not worklist.is_gone(pod):
            worklist.advance(worklist.now + 1.0, np.zeros(0))
        worklist.start(pod)
    worklist.advance(worklist.now + 2000.0, np.zeros(0))
    assert worklist.completed == worklist.arrived
    assert worklist.held == 0
    assert worklist.given_back > 0


def test_a_killed_pods_works_are_leased_again_when_their_leases_end() -> None:
    worklist = Worklist(constant(1.0), 2, ReaderSettings(lease_s=30.0))
    worklist.start(0)
    worklist.advance(1.0, np.array([0.5]))
    worklist.kill(0)
    worklist.start(1)
    worklist.advance(30.0, np.zeros(0))
    assert worklist.completed == 0
    worklist.advance(40.0, np.zeros(0))
    assert worklist.completed == 1
    assert quantile_s(worklist.take_histogram(), 0.5) > 30.0


def test_a_day_is_the_same_with_the_same_seed_and_another_with_another() -> None:
    day = step(8.0, 3.0, minutes=60)
    one, again, other = (simulate(day, GOOD, SLOW, seed=seed).numbers() for seed in (1, 1, 2))
    assert one == again
    assert one != other
    assert Day.make(5.0, 3) == Day.make(5.0, 3) != Day.make(5.0, 4)


def test_a_days_peak_hour_needs_ten_pods() -> None:
    committed = Day.load(CHECKOUT / pages.DAY)
    capacity = ServiceCurve.load(CHECKOUT / pages.POD).peak(4)
    assert len(committed.works) == 24 * 60
    assert 9.0 < committed.peak_hour_per_s / capacity <= 10.0


def test_a_good_manifest_keeps_a_day_and_broken_ones_are_told_apart() -> None:
    day = Day.make(SLOW.peak(4), 3)
    cpu = Metric("ContainerResource", "cpu", "Utilization", 70, "triton")
    good = simulate(day, GOOD, SLOW)
    assert good.holds, good.numbers()
    restless = simulate(day, replace(GOOD, down=Rules(0, "Max", (Policy("Percent", 100, 15),))), SLOW)
    assert restless.direction_changes > 6
    assert not restless.holds
    cpu_alone = simulate(day, naive(replace(GOOD, metrics=(cpu, WORKS))), SLOW, Cluster(cold_start_s=180.0))
    assert not cpu_alone.holds, cpu_alone.numbers()
    too_few = simulate(day, replace(GOOD, max_replicas=8), SLOW)
    assert too_few.p99_s > 2.0
    assert {each.lost for each in (good, restless, cpu_alone, too_few)} == {0}


def test_a_metric_that_fails_leaves_the_others_to_grow_and_nothing_to_shrink() -> None:
    day = step(8.0, 5.0, minutes=60, at_minute=10)
    age = Metric("External", AGE, "Value", 1)
    both = replace(GOOD, metrics=(WORKS, age))
    blind = simulate(day, both, SLOW, Cluster(without=frozenset({WORKS_PER_S})))
    assert blind.peak_replicas > 4, "the age alone sees it"
    assert blind.direction_changes == 0


def test_a_longer_cold_start_recovers_later() -> None:
    quick, late = (
        step_outcome(GOOD, SLOW, Cluster(cold_start_s=seconds)).recovered_after_s(STEP_MINUTE) for seconds in (10, 240)
    )
    assert 0 < quick < late < 3600


def test_a_killed_pod_costs_a_lease_and_no_work() -> None:
    day = step(8.0, 1.0, minutes=30)
    outcome = simulate(day, GOOD, SLOW, Cluster(kills=(600.0, 615.0)))
    assert outcome.lost == 0
    assert outcome.p999_s > 2.0


def test_turns_are_counted() -> None:
    assert direction_changes([2, 4, 4, 6, 5, 3, 8]) == 2
    assert direction_changes([2, 2]) == 0


@pytest.fixture(scope="module")
def shipped() -> tuple[Manifest, ServiceCurve, Day]:
    return (
        Manifest.load(CHECKOUT / pages.HPA),
        ServiceCurve.load(CHECKOUT / pages.POD),
        Day.load(CHECKOUT / pages.DAY),
    )


def test_the_shipped_manifest_keeps_the_peak_day(shipped: tuple[Manifest, ServiceCurve, Day]) -> None:
    manifest, curve, day = shipped
    outcome = simulate(day, manifest, curve)
    assert outcome.p99_s < 2.0
    assert outcome.direction_changes <= 6
    assert outcome.lost == 0
    assert outcome.numbers() == json.loads((CHECKOUT / pages.RESULT).read_text())["outcomes"]["shipped"]


def test_every_metric_of_the_shipped_manifest_is_simulated_over_the_adapters_window(
    shipped: tuple[Manifest, ServiceCurve, Day],
) -> None:
    assert {metric.name for metric in shipped[0].metrics} <= set(NAMES)
    rules = (CHECKOUT / pages.HPA).with_name("adapter-rules.yaml").read_text()
    assert set(re.findall(r"\[(\w+)\]", rules)) == {"1m"}
    assert Monitoring().rate_window_s == 60.0


def test_the_page_and_the_manifest_say_what_the_committed_results_say(
    shipped: tuple[Manifest, ServiceCurve, Day],
) -> None:
    assert pages.page_text(CHECKOUT) == (CHECKOUT / pages.PAGE).read_text(), "run `wetread simulate refresh`"
    told = json.loads((CHECKOUT / pages.RESULT).read_text())
    manifest, curve, day = shipped
    targets = {metric.name: metric.target for metric in manifest.metrics}
    assert targets[WORKS_PER_S] == round(told["chosen"]["share"] * curve.peak(4))
    assert manifest.down is not None
    assert (manifest.down.window_s, manifest.down.tolerance) == (
        told["chosen"]["window_s"],
        told["chosen"]["tolerance"],
    )
    assert told["day"]["works"] == day.total


def small_site(folder: Path, manifest: str) -> list[str]:
    levels = [
        {"concurrency": n, "films_per_s": rate, "shape": SHAPE}
        for n, rate in zip(SLOW.levels, SLOW.works_per_s, strict=True)
    ]
    pod = {"measurements": {"pipelines": [{"precision": "fp32", "levels": levels}]}}
    (folder / "pod.json").write_text(json.dumps(pod))
    (folder / "hpa.yaml").write_text(manifest)
    Day(tuple(600.0 + 12 * min(minute, 60) for minute in range(120))).write(folder / "day.csv", "two hours")
    return ["hpa", "--hpa", f"{folder}/hpa.yaml", "--day", f"{folder}/day.csv", "--pod", f"{folder}/pod.json"]


HPA = """\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
spec:
  minReplicas: 2
  maxReplicas: {most}
  metrics:
    - type: ContainerResource
      containerResource: {{name: cpu, container: triton, target: {{type: Utilization, averageUtilization: 70}}}}
    - type: External
      external: {{metric: {{name: wetread_works_per_second}}, target: {{type: AverageValue, averageValue: "6"}}}}
  behavior:
    scaleDown: {{stabilizationWindowSeconds: 1800}}
"""


def test_the_command_tells_of_a_day_and_fails_where_a_bar_is_missed(tmp_path: Path) -> None:
    words = small_site(tmp_path, HPA.format(most=20))
    good = CliRunner().invoke(app, [*words, "--json", "--naive", "--step", "4", "--plot", str(tmp_path / "day.svg")])
    told = json.loads(good.stdout)
    assert good.exit_code == 0, told
    assert told["day"]["hpa.yaml"]["lost"] == 0
    assert set(told["day"]) == set(told["step_recovers_s"]) == {"hpa.yaml", "CPU alone"}
    assert "<svg" in (tmp_path / "day.svg").read_text()[:1000]
    assert CliRunner().invoke(app, small_site(tmp_path, HPA.format(most=2))).exit_code == 1
    assert CliRunner().invoke(app, [*words, "--day", str(tmp_path / "none.csv")]).exit_code == 2


def test_outcomes_say_when_a_step_is_overcome() -> None:
    outcome = simulate(step(8.0, 1.0, minutes=20), GOOD, SLOW)
    assert isinstance(outcome, Outcome)
    assert outcome.recovered_after_s(0) == 0.0


def test_numbers_that_keep_one_day_and_not_another_do_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = step(1.0, 1.0), step(2.0, 1.0)
    tight = search.target_of(0.85, SLOW, 4)
    kept = Outcome(9, 0, 0, 0.1, 0.2, 0.3, 0.1, 3, 9, 5, 30.0, 0.4, 0)

    def told(day: Day, manifest: Manifest, *_: object) -> Outcome:
        too_tight = day is second and manifest.metrics[0].target >= tight
        return replace(kept, minutes_over_bar=3 if too_tight else 0)

    monkeypatch.setattr(search, "simulate", told)
    found = list(search.candidates((first, second), GOOD, SLOW, Cluster(), lambda _: None))
    assert {each.share for each in found if not each.holds} == {0.75, 0.85}  # 8 works a second, the others 6
