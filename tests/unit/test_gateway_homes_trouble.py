"""What several intakes do when one is away or its store is gone: what needs it waits, and is done once."""

from __future__ import annotations

import time

import pytest
from intake_pair import Pair
from sqlalchemy import delete, insert
from triage_site import instance
from wetread_gateway.config.settings import Destination
from wetread_gateway.errors import ConfigError
from wetread_gateway.reading.store_worklist import StoreWorklist
from wetread_gateway.reading.stored import Refusal, StoredReading
from wetread_gateway.reporter import ReporterStage
from wetread_gateway.siblings import Siblings
from wetread_gateway.state.homes import settle
from wetread_gateway.state.tables import METADATA, OBJECTS, READINGS, WORKS
from wetread_gateway.triage.reindex import reindex

REFUSED = StoredReading("chest_ct", "stable", 1, "algorithm", "maker", 1700000000.0, refusal=Refusal("Gap", "a gap"))


@pytest.fixture
def pair(tmp_path):
    made = Pair(tmp_path, f"sqlite:///{tmp_path / 'common.sqlite'}")
    yield made
    made.close()


def split(pair, first="a", **attributes):
    """A series of two images, one at each; its work."""
    for number, intake in enumerate(sorted((pair.a, pair.b), key=lambda one: one.name != first), 1):
        told = {"Modality": "CT", "SeriesInstanceUID": "1.2.3.5", "InstanceNumber": number, **attributes}
        intake.arrive(instance(f"1.2.3.5.{number}", **told))
        intake.settle()
    pair.tick(3.0)
    return pair.a.works()


def change(pair, **values):
    with pair.a.context.store.write() as connection:
        connection.execute(WORKS.update().values(**values))


@pytest.mark.slow
def test_a_report_over_films_of_one_that_is_away_waits_and_is_made_when_it_comes_back(pair) -> None:
    (work,) = split(pair, NumberOfSeriesRelatedInstances=2)
    with pair.a.context.store.write() as connection:
        row = {"work_id": work.id, "document": REFUSED.document(), "read_at": REFUSED.read_at}
        connection.execute(insert(READINGS).values(**row))
    change(pair, state="read")
    pair.a.context.live.change(destination=(Destination("pacs", ae_title="PACS", host="127.0.0.1"),))
    stage = ReporterStage(pair.a.context)
    assert ReporterStage(pair.b.context).step() == 0  # the work is a's
    for _ in range(5):
        before = time.time()
        assert stage.step() == 1
        (work,) = pair.a.works()
        assert (work.state, work.report_attempts) == ("read", 0)
        assert work.not_before > before + 1.5
        change(pair, not_before=0.0)
    pair.open("b")
    until = time.monotonic() + 120
    while pair.a.works(state="read"):
        change(pair, not_before=0.0)
        stage.step()
        assert time.monotonic() < until  # who did not answer is left alone for a second
    assert [work.state for work in pair.a.works()] == ["reported"]
    assert {row.home for row in pair.a.rows(OBJECTS)} == {"a"}
    assert not list((pair.a.folder / "borrowed").iterdir())


@pytest.mark.slow
def test_a_series_that_lies_at_two_is_read_from_both(pair) -> None:
    pair.open("a", "b")
    split(pair, NumberOfSeriesRelatedInstances=2)
    for intake in (pair.a, pair.b):
        worklist = StoreWorklist(intake.context)
        (lease,) = worklist.lease(1, intake.name)
        assert {source.home for source in lease.sources} == {"a", "b"}
        films = [worklist.film(lease, n) for n in (0, 1)]
        assert sorted(type(film) is bytes for film in films) == [False, True]
        change(pair, state="waiting")


@pytest.mark.slow
def test_a_store_that_is_gone_is_built_anew_from_both_spools_and_a_split_series_is_judged_anew(pair) -> None:
    split(pair, NumberOfSeriesRelatedInstances=2)
    pair.a.arrive(instance("1.2.9", StudyInstanceUID="1.2.90"))
    pair.settle()
    with pair.a.context.store.write() as connection:
        for table in reversed(METADATA.sorted_tables):
            connection.execute(delete(table))
    for intake in (pair.a, pair.b):
        found = reindex(intake.context)
        assert found.instances == (2 if intake is pair.a else 1)
        assert reindex(intake.context).instances == 0
    pair.tick(3.0)
    assert {len(work.sources): work.state for work in pair.a.works()} == {1: "waiting", 2: "waiting"}
    assert {(row.sop_uid, row.home) for row in pair.b.instances()} == {
        ("1.2.3.5.1", "a"),
        ("1.2.3.5.2", "b"),
        ("1.2.9", "a"),
    }


def test_two_intakes_of_one_name_are_one_too_many(pair, tmp_path) -> None:
    pair.a.tick()
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(ConfigError, match="an intake called 'a' is at work"):
        settle(pair.a.context.store, other, "a")
    settle(pair.a.context.store, other, "c")


def test_a_series_is_judged_by_an_image_that_lies_here_before_another_intake_is_asked(pair, monkeypatch) -> None:
    asked, borrowed = [], Siblings.borrowed

    def noted(siblings, films):
        asked.extend(film.home for film in films)
        return borrowed(siblings, films)

    monkeypatch.setattr(Siblings, "borrowed", noted)
    assert [len(work.sources) for work in split(pair, first="b", NumberOfSeriesRelatedInstances=2)] == [2]
    assert asked == ["a"]
