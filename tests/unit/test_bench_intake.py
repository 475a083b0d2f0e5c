from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from wetread_bench.fresh_films import Identity
from wetread_bench.intake_senders import Line, Sent
from wetread_bench.intake_trip import Trip, backlog, growth, highest_sustained, summed_up
from wetread_bench.intake_watch import CAPTURE, REPORT, Stored, StoredWatch

RATE, SECONDS = 10.0, 20.0


def sent(count: int) -> list[Sent]:
    return [Sent(Identity(1, number), number / RATE, number / RATE + 0.01) for number in range(count)]


def stored(films: list[Sent], way_s, kinds=(REPORT, CAPTURE)) -> list[Stored]:
    """`way_s`: seconds from the last byte by film number."""
    return [
        Stored(film.last_byte + way_s(film.identity.number), kind, film.identity.study_uid, kind)
        for film in films
        for kind in kinds
    ]


def trip(way_s, kinds=(REPORT, CAPTURE)) -> Trip:
    films = sent(round(RATE * SECONDS))
    loop = SimpleNamespace(sent=films, troubles={})
    return summed_up(Line(RATE, SECONDS), loop, stored(films, way_s, kinds), (0.0, SECONDS), {})


def test_a_trip_that_keeps_up_is_sustained() -> None:
    found = trip(lambda number: 0.5 if number % 50 == 0 else 0.1)
    assert found.is_sustained
    assert (found.report_p50_ms, found.report_max_ms, found.success_p50_ms) == (100.0, 500.0, 10.0)
    assert found.films_per_s == pytest.approx(RATE, rel=0.02)


def test_a_queue_that_grows_is_not_sustained_though_everything_comes_back() -> None:
    found = trip(lambda number: 0.1 + number * 0.01)  # nine a second come back
    assert found.is_whole
    assert not found.is_sustained
    assert found.backlog_growth_per_s == pytest.approx(RATE / 11, rel=0.1)


def test_a_film_without_its_capture_is_not_whole() -> None:
    assert not trip(lambda _: 0.1, (REPORT,)).is_whole


def test_the_backlog_counts_films_acknowledged_and_not_back() -> None:
    films = sent(3)
    assert backlog(films, {films[0].identity.study_uid: 0.7}, (0.0, 1.0)) == [(0.5, 3), (1.0, 2)]
    assert growth([(at / 2, 7 + at % 3) for at in range(40)]) == pytest.approx(0.0)


def test_rates_are_tried_until_one_is_not_held() -> None:
    good = trip(lambda _: 0.1)
    told: list[Trip] = []
    best, tried = highest_sustained(
        lambda rate: replace(good, rate=rate, reports=good.films - (rate > 12)), [10.0, 15.0, 20.0], told.append
    )
    assert best is not None
    assert (best.rate, [one.rate for one in tried], told) == (10.0, [10.0, 15.0], tried)


def test_a_line_in_the_pipe_is_an_object_that_is_stored(tmp_path) -> None:
    with StoredWatch(tmp_path / "watch") as watch:
        assert str(tmp_path) in watch.lua
        with (tmp_path / "watch" / "stored.pipe").open("a") as pipe:
            pipe.write("SR 1.2 1.3\nOT 1.2 1.4\nDX 1.2 1.5\n")
        assert watch.wait(lambda found: len(found) == 3, 120.0)
        assert [(one.kind, one.study_uid) for one in watch.stored()] == [
            (REPORT, "1.2"),
            (CAPTURE, "1.2"),
            ("DX", "1.2"),
        ]
        assert not watch.wait(lambda found: len(found) > 3, 0.01)
