"""The figures of the swap benchmark from requests whose fate is known."""

from __future__ import annotations

import pytest
from wetread_bench.swap_expected import TOLERANCE, Alike, Answers, Ledger, log_odds
from wetread_bench.swap_figures import (
    MARGIN_S,
    PROMOTE,
    PUBLISH,
    QUIET_FULL,
    QUIET_LIGHT,
    ROLLBACK,
    Request,
    Window,
    by_kind,
    errors,
    figures,
    latencies,
    releases,
    strangers,
)

CHANCES = (0.2, 0.6)


def request(intended: float, ms: float = 10.0, **more: object) -> Request:
    told = {"way": "shm", "film": 0, "release": 1, "probability": CHANCES[0], "error": "", **more}
    return Request(intended, intended + ms / 1e3, **told)  # type: ignore[arg-type]


def answers(*probabilities: float) -> Answers:
    return Answers(tuple((each,) for each in probabilities), tuple((each > 0.5,) for each in probabilities))


@pytest.fixture
def ledger() -> Ledger:
    """Release 1 answers two films with CHANCES, release 2 with others."""
    made = Ledger()
    made.enter(1, answers(*CHANCES))
    made.enter(2, answers(0.3, 0.7))
    return made


def test_an_answer_of_the_release_that_it_names_is_no_stranger(ledger: Ledger) -> None:
    own = [request(1.0), request(2.0, film=1, probability=CHANCES[1]), request(3.0, release=2, probability=0.3)]
    assert strangers(own, ledger) == []


@pytest.mark.parametrize(
    "foreign",
    [
        pytest.param({"release": 2}, id="the numbers of another release"),
        pytest.param({"film": 1}, id="the numbers of another film"),
        pytest.param({"release": 3}, id="a release that was never published"),
        pytest.param({"probability": 0.25}, id="numbers of no release, as of parts that were mixed"),
    ],
)
def test_an_answer_with_other_numbers_is_a_stranger(ledger: Ledger, foreign: dict[str, object]) -> None:
    found = request(1.0, **foreign)  # type: ignore[arg-type]
    assert strangers([request(0.5), found], ledger) == [found]


def test_a_failed_request_is_counted_as_failed_and_not_as_a_stranger(ledger: Ledger) -> None:
    failed = request(1.0, release=0, probability=0.0, error="Unavailable: gone")
    assert strangers([failed], ledger) == []
    found = figures([request(0.0), failed], [], [], {})
    assert (found["requests"], found["failed"]) == (2, 1)
    assert errors([failed, failed]) == {"shm: Unavailable: gone": 2}
    assert releases([failed, request(0.0), request(0.0, release=2)]) == {"1": 1, "2": 1}


def test_rounding_of_another_engine_is_within_the_tolerance_even_of_rare_findings() -> None:
    ledger = Ledger()
    ledger.enter(1, answers(1e-4))
    assert ledger.is_of(1, 0, 1e-4 * (1 + TOLERANCE / 2))
    assert not ledger.is_of(1, 0, 1e-4 * (1 + TOLERANCE * 2))
    assert log_odds(0.0) < log_odds(1e-6) < 0 < log_odds(1.0)


def test_two_releases_that_nobody_could_tell_apart_are_refused(ledger: Ledger) -> None:
    with pytest.raises(Alike, match="releases 3 and 1"):
        ledger.enter(3, answers(0.9, CHANCES[1]))


@pytest.mark.slow
def test_room_is_found_until_there_is_none_and_keeps_all_apart() -> None:
    ledger = Ledger()
    odds = (log_odds(0.4), log_odds(0.5))
    shifts = [ledger.room(odds, temperature=1.0) for _ in range(20)]
    assert shifts[0] == 0
    assert len(set(shifts)) == len(shifts)
    for _ in range(len(shifts), 101):
        ledger.room(odds, temperature=1.0)
    with pytest.raises(Alike):
        ledger.room(odds, temperature=1.0)


def test_a_window_takes_requests_by_their_intended_moment_and_by_its_kind() -> None:
    windows = [Window(QUIET_FULL, 10, 20), Window.around(PROMOTE, 30, 31)]
    inside, late = request(10.0, 1.0), request(19.999, 50_000.0)
    outside = [request(9.9, 2.0), request(20.0, 3.0), request(30 - MARGIN_S - 0.01, 4.0)]
    assert latencies([late, inside, *outside], windows, QUIET_FULL) == pytest.approx([1.0, 50_000.0])
    assert latencies([request(29.6, 5.0), *outside], windows, PROMOTE, ROLLBACK) == pytest.approx([5.0])


def test_a_request_in_two_windows_counts_once() -> None:
    windows = [Window.around(PROMOTE, 10, 11), Window.around(ROLLBACK, 11.2, 12)]
    assert len(latencies([request(11.3)], windows, PROMOTE, ROLLBACK)) == 1


def test_only_our_own_way_is_judged_and_the_others_are_shown() -> None:
    windows = [Window(QUIET_FULL, 0, 10), Window(PROMOTE, 10, 20)]
    seen = [request(1, 10), request(2, 500, way="plain_http"), request(11, 30), request(12, 700, way="plain_http")]
    assert figures(seen, windows, [], {})["p99_swap_over_quiet"] == pytest.approx(3)
    shown = by_kind(seen, windows)
    assert shown[PROMOTE]["plain_http"].p99_ms == pytest.approx(700)
    assert shown[QUIET_FULL]["shm"].requests == 1


def test_each_figure_compares_with_the_quiet_of_its_own_load() -> None:
    windows = [Window(QUIET_FULL, 0, 1), Window(PROMOTE, 1, 2), Window(QUIET_LIGHT, 2, 3), Window(PUBLISH, 3, 4)]
    seen = [request(0.5, 40), request(1.5, 60), request(2.5, 10), request(3.5, 50)]
    found = figures(seen, windows, [seen[0]], {"before": 200.0, "after": 210.0})
    assert found == pytest.approx(
        {
            "requests": 4,
            "failed": 0,
            "unattributed": 1,
            "p99_swap_over_quiet": 1.5,
            "p99_publish_over_quiet": 5,
            "rss_after_over_before": 1.05,
        }
    )


def test_a_figure_without_its_windows_is_left_out_rather_than_made_up() -> None:
    assert figures([request(1)], [], [], {"before": 100.0}).keys() == {"requests", "failed", "unattributed"}
