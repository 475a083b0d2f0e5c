"""Shadow readings: a candidate is asked after the stable release, kept and compared, and never in anybody's way."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from rollout_docs import roll
from sqlalchemy import select, update
from waiting import WAIT_S, wait_for
from wetread_client import Client, FakeTransport, Rejected, Retry, ServerError, Unavailable
from wetread_client.fake import fake_answer
from wetread_gateway.errors import LeaseLost
from wetread_gateway.priority import Priority
from wetread_gateway.reading.http_worklist import HttpWorklist
from wetread_gateway.reading.pauses import Pauses
from wetread_gateway.reading.pipeline import Pipelines
from wetread_gateway.reading.reader import Reader
from wetread_gateway.reading.shadow_readings import Difference
from wetread_gateway.reading.store_worklist import StoreWorklist
from wetread_gateway.reading.stored import Refusal, StoredFinding, StoredReading
from wetread_gateway.reading.worklist import Served
from wetread_gateway.shadow_table import comparison
from wetread_gateway.state.tables import SHADOW_READINGS, WORKS, WorkState
from works import Works, configuration, serving

ONCE = Retry(times=0)
QUICK = Retry(first_wait_s=0.01, longest_wait_s=0.01)
LIGHT = Served("chest_light", "stable")
STABLE = Served("chest_xray", "stable")


def read_by(release, *probabilities, arm="stable", **changes):
    findings = tuple(StoredFinding(f"finding {n}", (), p, p >= 0.5, 0.5, "1.2") for n, p in enumerate(probabilities))
    made = StoredReading("chest_xray", arm, release, "algorithm", "maker", 1700000000.0, findings, 0.5)
    return replace(made, **changes)


SAID = read_by(3, 0.9, 0.2)
SHADOW = read_by(4, 0.6, 0.7, arm="candidate")


@pytest.fixture(params=["store", "http"])
def stand(request, tmp_path):
    """A worklist, the state behind it, and its rollout: candidate 4 in shadow."""
    roll(tmp_path / "rollout", candidate=4, shadow=True)
    works = Works.open(configuration(tmp_path, lease_s=30.0, rollouts=str(tmp_path / "rollout")))
    if request.param == "store":
        yield StoreWorklist(works.context), works
    else:
        with serving(works.context) as url:
            worklist = HttpWorklist(url)
            yield worklist, works
            worklist.close()
    works.context.stop.set()
    works.close()


def shadows(works):
    with works.context.store.read() as connection:
        return connection.execute(select(SHADOW_READINGS).order_by(SHADOW_READINGS.c.id)).all()


# ------------------------------------------------------------------------------------------------- comparison


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        (SAID, SAID, Difference(0, 2, 0.0, 0.0)),
        (SAID, SHADOW, Difference(1, 2, pytest.approx(0.4), pytest.approx(0.5))),
        (read_by(3, 0.9), SHADOW, Difference(0, 1, pytest.approx(0.3), pytest.approx(0.3))),
        (SAID, replace(SAID, findings=(), refusal=Refusal("UnsupportedImage", "a hip")), Difference(1, 0, None, None)),
        (SAID, read_by(4), Difference(0, 0, None, None)),
    ],
)
def test_two_readings_are_compared_finding_by_finding(one, other, found):
    assert Difference.between(one, other) == found
    assert Difference.between(other, one) == found


def test_findings_of_other_images_are_not_compared():
    elsewhere = replace(SAID, findings=tuple(replace(f, source_uid="1.3") for f in SAID.findings))
    assert Difference.between(SAID, elsewhere).findings == 0


# ------------------------------------------------------------------------------------------------- worklists


@pytest.mark.slow
def test_a_shadow_is_kept_beside_the_reading_and_in_the_timeline(stand):
    worklist, works = stand
    work = works.add(b"film")
    [lease] = worklist.lease(1, "a")
    assert lease.has_shadow
    worklist.complete(lease, SAID)
    film = worklist.film(lease, 0)
    assert (film.read_bytes() if isinstance(film, Path) else bytes(film)) == b"film"
    for _ in range(2):  # an answer that got lost is sent again
        worklist.shadow(lease, SHADOW)
    [row] = shadows(works)
    assert (row.pipeline, row.stable_release, row.release, row.flips, row.findings) == ("chest_xray", 3, 4, 1, 2)
    assert (row.difference, row.largest) == (pytest.approx(0.4), pytest.approx(0.5))
    assert StoredReading.parse(row.document, None) == SHADOW
    assert works.readings() == {work: SAID}
    assert works.row(work).state == WorkState.READ
    assert works.timeline(work)[-1] == "read in shadow by chest_xray release 4 (candidate), not reported"


@pytest.mark.slow
def test_only_who_completed_a_work_may_add_its_shadow(stand):
    worklist, works = stand
    work = works.add()
    [old] = worklist.lease(1, "a")
    with pytest.raises(LeaseLost):
        worklist.shadow(old, SHADOW)  # it is not read yet
    with works.context.store.write() as connection:
        connection.execute(update(WORKS).where(WORKS.c.id == work).values(lease_until=0.0))
    [new] = worklist.lease(1, "b")
    worklist.complete(new, SAID)
    with pytest.raises(LeaseLost):
        worklist.shadow(old, SHADOW)
    assert shadows(works) == []
    worklist.shadow(new, SHADOW)
    assert len(shadows(works)) == 1


def test_routine_works_are_leased_for_the_light_model_while_it_can_be_read_with(stand, tmp_path):
    worklist, works = stand
    roll(tmp_path / "rollout", light_model="chest_light")
    assert wait_for(lambda: works.context.rollouts.of("chest_xray").light_model)
    for priority in (Priority.ROUTINE, Priority.ROUTINE, Priority.URGENT):
        works.add(priority=priority)
    [urgent, routine] = worklist.lease(2, "a")
    assert (urgent.served, urgent.has_shadow) == (STABLE, True)
    assert (routine.served, routine.has_shadow) == (LIGHT, False)
    assert [lease.served for lease in worklist.lease(1, "a", without=frozenset({LIGHT}))] == [STABLE]


def test_a_pause_of_the_stable_release_stops_nothing_that_the_light_model_reads(stand, tmp_path):
    worklist, works = stand
    roll(tmp_path / "rollout", light_model="chest_light")
    assert wait_for(lambda: works.context.rollouts.of("chest_xray").light_model)
    works.add(priority=Priority.URGENT)
    routine = works.add()
    paused = frozenset({STABLE})
    assert [(lease.work, lease.served) for lease in worklist.lease(2, "a", without=paused)] == [(routine, LIGHT)]
    assert worklist.lease(2, "a", without=paused | {LIGHT}) == []


# ------------------------------------------------------------------------------------------------- the reader


def stable(*_):
    return fake_answer([0.9], release=3)


def candidate(*_):
    return fake_answer([0.3], release=4)


@contextmanager
def reading(works, by_candidate=candidate, by_stable=stable):
    """A reader over two scripted ensembles."""
    models = {
        "chest_xray": FakeTransport([by_stable]),
        "chest_xray_candidate": FakeTransport([by_candidate]),
    }
    pipelines = Pipelines(lambda: "", lambda _, model: Client(pipeline=model, transport=models[model], retry=ONCE))
    settings = works.context.settings.triton
    reader = Reader(StoreWorklist(works.context), pipelines, "reader-0", lambda: settings, pauses=Pauses(QUICK))
    thread = threading.Thread(target=reader.run, args=(works.context.stop,))
    thread.start()
    try:
        yield models
    finally:
        works.context.stop.set()
        thread.join()
        pipelines.close()


@pytest.fixture
def works(tmp_path):
    roll(tmp_path / "rollout", candidate=4, shadow=True)
    config = configuration(tmp_path, concurrency=2, lease_s=30.0, shadows=2, rollouts=str(tmp_path / "rollout"))
    made = Works.open(config)
    yield made
    made.close()


def count(outcome):
    return REGISTRY.get_sample_value("wetread_gateway_shadows_total", {"outcome": outcome}) or 0.0


def test_the_candidate_is_asked_after_the_stable_release_and_without_a_heatmap(works):
    work = works.add()
    with reading(works) as models:
        assert wait_for(lambda: shadows(works))
    [row] = shadows(works)
    assert (row.work_id, row.stable_release, row.release, row.flips) == (work, 3, 4, 1)
    assert row.document["arm"] == "candidate"
    assert works.readings()[work].release == 3
    assert works.readings()[work].arm == "stable"
    assert not any("HEATMAP" in request.outputs for request in models["chest_xray_candidate"].requests)


@pytest.mark.slow
def test_a_candidate_that_hangs_delays_nothing_and_what_falls_behind_is_counted(works):
    hanging, go_on = threading.Event(), threading.Event()

    def hang(_):
        hanging.set()
        go_on.wait(WAIT_S)
        return candidate()

    before = count("dropped")
    first = works.add()
    with reading(works, hang):
        assert hanging.wait(WAIT_S)
        assert wait_for(lambda: works.states() == {WorkState.READ: 1})
        for _ in range(9):
            works.add()
        assert wait_for(lambda: works.states() == {WorkState.READ: 10})
        assert wait_for(lambda: count("dropped") == before + 7)  # one hangs, two wait
        go_on.set()
        assert wait_for(lambda: len(shadows(works)) == 3)
    assert first in {row.work_id for row in shadows(works)}


@pytest.mark.slow
def test_no_shadow_begins_while_a_film_is_read(works):
    """The candidate gets its turn only between films that count."""
    under_way, asked_meanwhile = threading.Event(), []

    def watched(_):
        under_way.set()
        time.sleep(0.03)
        under_way.clear()
        return stable()

    def ask(_):
        asked_meanwhile.append(under_way.is_set())
        return candidate()

    for _ in range(6):
        works.add()
    with reading(works, ask, watched):
        assert wait_for(lambda: len(shadows(works)) >= 2)
    assert not any(asked_meanwhile)


@pytest.mark.slow
@pytest.mark.parametrize(
    "error", [Unavailable("NOT_FOUND", "not loaded"), ServerError("INTERNAL", "a stub died"), OSError(5, "gone")]
)
def test_a_candidate_that_fails_fails_nothing_else(works, error):
    before = count("failed")
    first = works.add()
    with reading(works, error):
        assert wait_for(lambda: count("failed") == before + 1)
        second = works.add()
        assert wait_for(lambda: works.states() == {WorkState.READ: 2})
    assert works.readings().keys() == {first, second}
    assert shadows(works) == []
    assert works.row(first).attempts == 0


@pytest.mark.slow
def test_what_the_candidate_refuses_is_decided_otherwise(works):
    works.add()
    with reading(works, Rejected("UnsupportedImage", "a hip")):
        assert wait_for(lambda: shadows(works))
    [row] = shadows(works)
    assert (row.flips, row.difference) == (1, None)


@pytest.mark.slow
def test_the_shadow_ends_with_the_rollouts_word(works, tmp_path):
    works.add()
    with reading(works) as models:
        assert wait_for(lambda: shadows(works))
        roll(tmp_path / "rollout", shadow=False)
        assert wait_for(lambda: not works.context.rollouts.of("chest_xray").shadow)
        asked = len(models["chest_xray_candidate"].requests)
        works.add()
        assert wait_for(lambda: works.states() == {WorkState.READ: 2})
    assert len(models["chest_xray_candidate"].requests) == asked


# ------------------------------------------------------------------------------------------------- the command


@pytest.mark.slow
def test_the_comparison_is_by_release_and_names_what_was_decided_otherwise(stand):
    worklist, works = stand
    added = [works.add() for _ in range(3)]
    leases = worklist.lease(3, "a")
    for lease, release in zip(leases, (4, 4, 5), strict=True):
        worklist.complete(lease, SAID)
        worklist.shadow(lease, replace(SHADOW if release == 4 else SAID, release=release, arm="candidate"))
    table, *lines = comparison(works.context, "chest_xray")
    rows = list(zip(*(list(column.cells) for column in table.columns), strict=True))
    assert rows == [
        ("release 3", "release 4", "2", "2 (100.0%)", "0.4000", "0.5000"),
        ("release 3", "release 5", "1", "0 (0.0%)", "0.0000", "0.0000"),
    ]
    studies = [works.row(work).study_uid for work in added[:2]]
    assert lines == [f"decided otherwise by release 4: study {uid}" for uid in reversed(studies)]
    assert comparison(works.context, "brain_mr") == []
