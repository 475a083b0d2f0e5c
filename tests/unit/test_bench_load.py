"""The arithmetic of load: the timetable, what is lost, when a rate is held, the search for the highest."""

from __future__ import annotations

import itertools
import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from wetread_bench.load_search import Trial, capacity, figures, search

sys.path.append(str(Path(__file__).parents[2] / "client" / "loadtest"))

from wetread_loadtest.checks import Wrong, check_read_answer, check_reading, outcome_of
from wetread_loadtest.films import Films
from wetread_loadtest.schedule import DAY, Plan, moments
from wetread_loadtest.tally import Tally

HELD = Trial(
    rate=10.0, seconds=60.0, offered=600, answered=600, goodput_per_s=10.0, p50_ms=60.0, p99_ms=150.0,
    stat_answered=30, stat_p50_ms=60.0, stat_p99_ms=120.0, refused=0, refused_before_body=0, stat_refused=0,
    failed=0, lost=0, unsent=0, generator_lag_p99_ms=2.0,
)  # fmt: skip


def count(plan: Plan, share: float = 1.0, seed: int = 1) -> int:
    return len(list(moments(plan, share, random.Random(seed))))


def test_a_rate_is_met_and_shared_out():
    plan = Plan(1000.0, rate=20.0)
    assert count(plan) == pytest.approx(20_000, rel=0.03)
    assert count(plan, 0.25) == pytest.approx(5_000, rel=0.05)
    assert count(plan, 0.0) == 0


def test_moments_are_in_order_and_at_random():
    found = list(moments(Plan(1000.0, rate=20.0), 1.0, random.Random(1)))
    gaps = [late - early for early, late in itertools.pairwise(found)]
    assert min(gaps) >= 0
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert deviation == pytest.approx(mean, rel=0.05)  # of an exponential distribution


@pytest.mark.slow
def test_the_peak_hour_of_the_day_has_225_transactions_times_the_factor():
    assert max(DAY) == 225
    found = list(moments(Plan(86400.0, day_factor=10.0), 1.0, random.Random(1)))
    hours = [sum(hour <= at / 3600 < hour + 1 for at in found) for hour in range(24)]
    assert hours[DAY.index(225)] == pytest.approx(2250, rel=0.08)
    assert sum(hours) == pytest.approx(10 * sum(DAY), rel=0.03)


def test_bursts_leave_at_once_and_add_nothing_to_the_rate():
    plan = Plan(1000.0, rate=20.0, burst=8, burst_share=0.4)
    found = list(moments(plan, 1.0, random.Random(1)))
    sizes = [len(list(group)) for _, group in itertools.groupby(found)]
    assert len(found) == pytest.approx(20_000, rel=0.05)
    assert set(sizes) == {1, 8}
    assert 8 * sizes.count(8) / len(found) == pytest.approx(0.4, rel=0.1)


def study(state: str = "sorted", count: int = 1, works: tuple[dict[str, object], ...] = ()) -> dict[str, object]:
    return {"instances": {state: count}, "works": list(works)}


def test_what_was_acknowledged_and_has_no_result_is_lost():
    read = {"state": "finished", "reading": {"release": 1}}
    assert outcome_of(study(works=(read,)), 1, is_read=True) == "ok"
    assert outcome_of(None, 1, is_read=True) == "lost"
    assert outcome_of(study(count=11), 12, is_read=False) == "lost"
    assert outcome_of(study("unmatched", 12), 12, is_read=False) == "ok"
    assert outcome_of(study("received"), 1, is_read=True) == "waiting"
    assert outcome_of(study(works=({"state": "waiting", "reading": None},)), 1, is_read=True) == "waiting"
    assert outcome_of(study(works=({"state": "dead", "reading": None},)), 1, is_read=True) == "lost"


def test_an_answer_of_another_film_or_without_a_release_is_wrong():
    reading = {"release": 3, "findings": [{"probability": 0.5}]}
    answer = {"study_uid": "1", "state": "read", "works": [{"instance_uids": ["2"], "reading": reading}]}
    check_read_answer(answer, "1", "2")
    for wrong in ({"study_uid": "9"}, {"state": "waiting"}, {"works": []}):
        with pytest.raises(Wrong):
            check_read_answer({**answer, **wrong}, "1", "2")
    for broken in ({"release": 0}, {"findings": [{"probability": 1.5}]}):
        with pytest.raises(Wrong):
            check_reading({**reading, **broken})


@pytest.mark.slow
def test_every_film_is_its_own():
    films = Films(1)
    found = [films.film(number) for number in range(1, 20)]
    assert len({identity.sop_uid for identity, _ in found} | {identity.study_uid for identity, _ in found}) == 38
    assert len({film[-512 * 512 * 2 :] for _, film in found}) == 19
    assert all(500_000 < len(film) < 560_000 for _, film in found)
    _, slices = films.series(20, 3)
    assert len({identity.sop_uid for identity, _ in slices}) == 3
    assert len({identity.uid("series") for identity, _ in slices}) == 1


def test_the_report_counts_a_late_sender_and_what_never_left():
    tally = Tally()
    line = tally.line("read", "stat")
    line.latencies_s += [0.1] * 99 + [2.0]
    line.refused["429"] += 1
    line.in_window = 90
    tally.left(0.5)
    tally.offered, tally.unsent = 102, 1
    told = tally.told()
    assert told["generator"] == {"unsent": 1, "lag_p50_ms": 500.0, "lag_p99_ms": 500.0, "lag_max_ms": 500.0}
    assert told["lines"]["all stat"]["p99_ms"] == 2000.0
    trial = Trial.of(2.0, 50.0, told)
    assert (trial.answered, trial.refused, trial.goodput_per_s, trial.p50_ms) == (100, 1, 1.8, 100.0)
    assert not trial.is_whole  # one never left


def test_a_rate_is_held_only_when_nothing_is_refused_and_p99_keeps_its_limit():
    assert HELD.is_held(50.0)
    assert not HELD.is_held(49.0)
    for trouble in ("refused", "failed", "lost", "unsent"):
        assert not replace(HELD, **{trouble: 1}).is_held(50.0)
    assert not replace(HELD, answered=599).is_held(50.0)


@pytest.mark.parametrize("true", [5.2, 8.3, 13.0, 18.0])
def test_the_search_finds_the_highest_rate_that_is_held(true):
    def run(rate: float) -> Trial:
        return replace(HELD, rate=rate, p99_ms=100.0 if rate <= true else 500.0)

    trials = search(run, 50.0, estimate=15.0, trials=5)
    assert len(trials) == 5
    assert true - 15.0 * 1.1 / 2**5 - 0.01 <= capacity(trials, 50.0) <= true


def test_a_search_that_holds_nothing_says_zero():
    assert capacity(search(lambda rate: replace(HELD, rate=rate, lost=1), 50.0, 15.0, 5), 50.0) == 0.0


def test_figures_are_ratios_of_the_same_run():
    at_300 = replace(HELD, goodput_per_s=9.5, stat_p99_ms=90.0, lost=1)
    assert figures(10.0, 50.0, replace(HELD, p99_ms=100.0), at_300, [HELD]) == {
        "capacity_per_s": 10.0,
        "goodput_at_300": 0.95,
        "lost": 1,
        "p99_over_unloaded_at_80": 2.0,
        "stat_p99_over_unloaded_at_300": 1.8,
    }
