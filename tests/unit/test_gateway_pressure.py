"""How far behind the gateway is, and operators' questions of it."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import update
from wetread_gateway import operate
from wetread_gateway.instance import Arrival
from wetread_gateway.pressure import look, oldest_waiting_s
from wetread_gateway.priority import Priority
from wetread_gateway.state.tables import WORKS, WorkState
from works import Works, configuration


@pytest.fixture
def works(tmp_path):
    opened = Works.open(configuration(tmp_path))
    yield opened
    opened.close()


def set_row(works, work, **values):
    with works.context.store.write() as connection:
        connection.execute(update(WORKS).where(WORKS.c.id == work).values(values))


class TestPressure:
    def test_nothing_waits_in_an_empty_gateway(self, works):
        assert oldest_waiting_s(works.context) == 0.0

    def test_the_oldest_routine_work_counts(self, works):
        for age in (100.0, 50.0):
            works.add(created_at=time.time() - age)
        assert 99 < oldest_waiting_s(works.context) < 110

    def test_a_series_may_wait_longer_than_a_film(self, works):
        """With the defaults 600 s of a series are what 30 s of a film are."""
        works.add(created_at=time.time() - 590, completeness="confirmed")
        assert oldest_waiting_s(works.context) < 30
        works.add(created_at=time.time() - 610, completeness="unconfirmed")
        assert 30 < oldest_waiting_s(works.context) < 50
        works.add(created_at=time.time() - 100)
        assert 90 < oldest_waiting_s(works.context) < 120

    @pytest.mark.parametrize(
        "values",
        [
            {"priority": Priority.STAT},
            {"state": WorkState.LEASED},
            {"state": WorkState.DEAD},
            {"not_before": time.time() + 60},
        ],
    )
    def test_what_refusing_others_would_not_bring_forward_does_not(self, works, values):
        works.add(created_at=time.time() - 100, **values)
        assert oldest_waiting_s(works.context) == 0.0

    def test_films_wait_until_their_report_is_begun_and_their_age_only_until_they_are_read(self, works):
        works.add()
        works.add(state=WorkState.READ, created_at=time.time() - 100)
        for values in (
            {"state": WorkState.REPORTED},
            {"state": WorkState.READ, "not_before": time.time() + 1},
            {"state": WorkState.READ, "priority": Priority.STAT},
            {"state": WorkState.READ, "completeness": "confirmed"},
        ):
            works.add(**values)
        backlog = look(works.context)
        assert backlog.films == 2
        assert backlog.oldest_s < 50

    def test_what_is_not_even_sorted_counts_too_but_for_stat(self, works, monkeypatch):
        monkeypatch.setattr("wetread_gateway.spool.spool.time.time_ns", lambda: int((time.time() - 70) * 1e9))
        for stat in (True, False):
            before = oldest_waiting_s(works.context)
            arrival = Arrival("dimse", "A", "B", "127.0.0.1", "a", time.time() - 70, stat)
            works.context.spool.open("r", arrival, "1.2", "1.2.3", "1.2.840.10008.1.2.1").commit()
        assert before == 0.0
        assert 69 < oldest_waiting_s(works.context) < 80


class TestDeadLetter:
    def test_a_work_taken_out_of_it_is_read_again(self, works):
        work = works.add(state=WorkState.DEAD, reason="suspected", attempts=3, alone=True)
        assert [(letter.kind, letter.number) for letter in operate.dead_letters(works.context)] == [("work", work)]
        assert operate.retry(works.context, f"work:{work}") == 1
        assert (works.row(work).state, works.row(work).attempts) == (WorkState.WAITING, 0)
        assert operate.dead_letters(works.context) == []

    def test_what_is_not_in_it_is_told(self, works):
        works.add()
        with pytest.raises(ValueError, match="not in the dead letter"):
            operate.retry(works.context, "work:1")
        assert operate.retry(works.context, "all") == 0

    def test_a_study_says_what_it_waits_for(self, works):
        work = works.add()
        shown = operate.timeline(works.context, works.row(work).study_uid)
        assert shown[-1] == "reading 1 (read, routine) waits for a reader"
        set_row(works, work, state=WorkState.DEAD, reason="suspected")
        assert operate.timeline(works.context, works.row(work).study_uid)[-1].endswith(f"retry work:{work})")

    def test_a_study_that_never_came_has_no_timeline(self, works):
        assert operate.timeline(works.context, "1.2.3") == []

    def test_the_queue_counts_what_waits(self, works):
        for _ in range(3):
            works.add()
        table = operate.queue(works.context)[0]
        stages, counts = (list(column.cells) for column in table.columns[:2])
        assert counts[stages.index("waits for a reader")] == "3"
