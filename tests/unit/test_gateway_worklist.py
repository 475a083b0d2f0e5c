"""One suite for every worklist: in SQLite, in PostgreSQL, and over HTTP."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from rollout_docs import roll
from sqlalchemy import delete, update
from wetread_bench.servers import free_port
from wetread_gateway import right_of_way
from wetread_gateway.errors import LeaseLost, SourceMissing, WorklistAway
from wetread_gateway.priority import Priority
from wetread_gateway.reading.http_worklist import HttpWorklist
from wetread_gateway.reading.store_worklist import StoreWorklist
from wetread_gateway.reading.stored import Refusal, StoredReading
from wetread_gateway.reading.worklist import Failure, FailureKind, Served
from wetread_gateway.shadow_table import comparison
from wetread_gateway.state.tables import METADATA, WORKS, WorkState
from works import LeaseServer, Works, configuration

READING = StoredReading(
    "chest_xray", "stable", 3, "algorithm", "maker", 1700000000.0, novelty=0.5, heatmap=b"\x00\xff", warnings=("w",)
)
LATER = Failure(FailureKind.LATER, "UNAVAILABLE", "down", wait_s=30.0)
SUSPECT = Failure(FailureKind.SUSPECT, "INTERNAL", "a stub died")


@pytest.fixture(scope="module")
def lease_server():
    with LeaseServer().running() as running:
        yield running


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.pacs), "http"])
def stand(request, tmp_path):
    """A worklist and the state behind it."""
    url = request.getfixturevalue("postgres") if request.param == "postgres" else ""
    works = Works.open(configuration(tmp_path, url, lease_s=30.0, rollouts=str(tmp_path / "rollout")))
    if url:
        with works.context.store.write() as connection:  # few rows, which go faster than tables are truncated
            for table in reversed(METADATA.sorted_tables):
                connection.execute(delete(table))
    if request.param != "http":
        yield StoreWorklist(works.context), works
        works.close()
        return
    with request.getfixturevalue("lease_server").serving(works.context) as url:
        worklist = HttpWorklist(url)
        yield worklist, works
        worklist.close()
    works.close()


def set_row(works, work, **values):
    with works.context.store.write() as connection:
        connection.execute(update(WORKS).where(WORKS.c.id == work).values(**values))


def expire(works, work):
    set_row(works, work, lease_until=time.time() - 1)


@pytest.mark.slow
def test_stat_comes_first_then_urgent_then_routine_by_age(stand):
    worklist, works = stand
    routine, old_urgent, urgent, stat, last = (
        works.add(priority=p)
        for p in (Priority.ROUTINE, Priority.URGENT, Priority.URGENT, Priority.STAT, Priority.ROUTINE)
    )
    leased = [lease.work for n in (1, 2, 1) for lease in worklist.lease(n, "a")]
    assert leased == [stat, old_urgent, urgent, routine]
    assert [lease.work for lease in worklist.lease(4, "a")] == [last]
    assert worklist.lease(4, "a") == []


def test_a_lease_says_all_that_a_reader_needs(stand, tmp_path):
    roll(tmp_path / "rollout", candidate=4, candidate_percent=10.0)
    worklist, works = stand
    options = {"any_body_part": True, "candidate": 4}
    work = works.add(b"one", b"two", options=options, arm="candidate", priority=Priority.URGENT)
    [lease] = worklist.lease(9, "a")
    assert (lease.work, lease.priority, lease.any_body_part) == (work, Priority.URGENT, True)
    assert lease.served.model == "chest_xray_candidate"
    assert lease.study_uid == works.row(work).study_uid
    assert [source.sop_uid for source in lease.sources] == [f"{lease.study_uid}.0", f"{lease.study_uid}.1"]
    assert 25 < lease.until - time.time() <= 31
    films = [worklist.film(lease, n) for n in (0, 1)]
    assert [film.read_bytes() if isinstance(film, Path) else bytes(film) for film in films] == [b"one", b"two"]


def test_the_slot_kept_for_stat_gets_nothing_else(stand):
    worklist, works = stand
    works.add()
    assert worklist.lease(4, "a", stat_only=True) == []
    stat = works.add(priority=Priority.STAT)
    assert [lease.work for lease in worklist.lease(4, "a", stat_only=True)] == [stat]


def test_a_pipeline_that_is_paused_is_left_out_and_its_other_arm_is_not(stand, tmp_path):
    roll(tmp_path / "rollout", candidate=4, candidate_percent=10.0)
    worklist, works = stand
    works.add()
    works.add(arm="candidate", options={"candidate": 2})  # of a candidate that is gone: the stable release's
    candidate = works.add(arm="candidate", options={"candidate": 4})
    leases = worklist.lease(4, "a", without=frozenset({Served("chest_xray", "stable")}))
    assert [lease.work for lease in leases] == [candidate]


@pytest.mark.slow
def test_stat_has_the_right_of_way_while_it_is_read_and_a_moment_after(stand, monkeypatch):
    monkeypatch.setattr(right_of_way, "WINDOW_S", 60.0)
    worklist, works = stand
    sign = works.context.spool.root / "stat"
    for priority in (Priority.ROUTINE, Priority.STAT):
        works.add(priority=priority)
        [lease] = worklist.lease(1, "a")
        assert works.context.right_of_way().must_yield() == (priority is Priority.STAT)
        worklist.complete(lease, READING)
    assert sign.stat().st_mtime <= time.time() - 60.0 + right_of_way.ANSWER_S


def test_a_reading_is_kept_whole_and_tells_the_next_stage(stand):
    worklist, works = stand
    work = works.add()
    report = works.context.bell("report")
    [lease] = worklist.lease(1, "a")
    worklist.complete(lease, READING)
    assert works.row(work).state == WorkState.READ
    assert works.readings() == {work: READING}
    assert works.timeline(work) == ["read by chest_xray release 3 (stable)"]
    assert report.wait(0)
    report.close()


def test_a_refusal_is_a_result(stand):
    worklist, works = stand
    work = works.add()
    [lease] = worklist.lease(1, "a")
    worklist.complete(lease, replace(READING, heatmap=None, refusal=Refusal("UnsupportedImage", "a hip")))
    assert works.row(work).state == WorkState.READ
    assert works.readings()[work].refusal == Refusal("UnsupportedImage", "a hip")
    assert works.timeline(work) == ["chest_xray release 3 (stable) refuses it: UnsupportedImage: a hip"]


@pytest.mark.slow
def test_a_shadow_is_kept_once_and_compared(stand, tmp_path):
    roll(tmp_path / "rollout", candidate=4, shadow=True)
    worklist, works = stand
    works.add()
    [lease] = worklist.lease(1, "a")
    assert lease.has_shadow
    worklist.complete(lease, READING)
    for _ in range(2):
        worklist.shadow(lease, replace(READING, arm="candidate", release=4, heatmap=None))
    [table] = comparison(works.context, "chest_xray")
    assert [next(iter(column.cells)) for column in table.columns][:4] == ["release 3", "release 4", "1", "0 (0.0%)"]


def test_what_is_completed_twice_has_one_reading(stand):
    worklist, works = stand
    work = works.add()
    [lease] = worklist.lease(1, "a")
    worklist.complete(lease, READING)
    with pytest.raises(LeaseLost):
        worklist.complete(lease, replace(READING, release=4))
    assert works.readings() == {work: READING}
    audit = "".join(file.read_text() for file in (works.context.spool.root.parent / "audit").iterdir())
    assert audit.count('"outcome":"ok"') == 1
    assert audit.count('"outcome":"failed"') <= 1


@pytest.mark.slow
@pytest.mark.parametrize("act", ["complete", "extend", "fail", "film"])
def test_an_old_token_changes_nothing(stand, act):
    worklist, works = stand
    work = works.add()
    [old] = worklist.lease(1, "a")
    expire(works, work)
    [new] = worklist.lease(1, "b")
    assert new.token > old.token
    before = works.row(work)
    if act == "film" and isinstance(worklist, StoreWorklist):
        pytest.skip("a file beside us is there for every process of ours")
    calls = {
        "complete": lambda: worklist.complete(old, READING),
        "extend": lambda: worklist.extend(old),
        "fail": lambda: worklist.fail(old, SUSPECT),
        "film": lambda: worklist.film(old, 0),
    }
    with pytest.raises(LeaseLost):
        calls[act]()
    assert works.row(work) == before
    assert works.readings() == {}
    worklist.complete(new, READING)


@pytest.mark.slow
def test_an_extended_lease_does_not_expire(stand):
    worklist, works = stand
    work = works.add()
    [lease] = worklist.lease(1, "a")
    expire(works, work)
    assert worklist.extend(lease).until > time.time() + 20
    assert worklist.lease(1, "b") == []


@pytest.mark.slow
def test_what_nobody_is_to_blame_for_waits_and_is_no_attempt(stand):
    worklist, works = stand
    work = works.add()
    [lease] = worklist.lease(1, "a")
    before = time.time()
    worklist.fail(lease, LATER)
    row = works.row(work)
    assert (row.state, row.attempts, row.alone, row.reason) == (WorkState.WAITING, 0, False, "UNAVAILABLE: down")
    assert before + 25 < row.not_before <= time.time() + 30
    assert worklist.lease(1, "a") == []
    set_row(works, work, not_before=0.0)
    assert [lease.work for lease in worklist.lease(1, "a")] == [work]


def test_a_work_that_runs_out_of_time_waits_the_longer_the_older_it_is(stand):
    worklist, works = stand
    before = time.time()
    work = works.add(created_at=before - 400)
    [lease] = worklist.lease(1, "a")
    worklist.fail(lease, Failure(FailureKind.LATER, "DEADLINE_EXCEEDED", "no answer in time", 1.0))
    after = time.time()
    assert before + 95 < works.row(work).not_before < after + (after - before) / 4 + 101


def test_a_reason_with_characters_that_no_column_takes_is_kept(stand):
    worklist, works = stand
    work = works.add()
    [lease] = worklist.lease(1, "a")
    worklist.fail(lease, replace(SUSPECT, reason="a\x00b\nc" + "d" * 1000))
    assert works.row(work).reason.startswith("INTERNAL: a?b?cddd")


def test_what_comes_back_keeps_its_place(stand):
    worklist, works = stand
    old, young = works.add(), works.add()
    [lease] = worklist.lease(1, "a")
    worklist.fail(lease, replace(LATER, wait_s=0.0))
    assert [lease.work for lease in worklist.lease(2, "a")] == [old, young]


@pytest.mark.slow
def test_a_film_under_which_the_server_fails_is_read_alone_three_times_and_then_given_up(stand):
    worklist, works = stand
    work = works.add()
    for attempts in range(3):
        [lease] = worklist.lease(1, "a")
        assert (lease.alone, lease.attempts) == (attempts > 0, max(0, attempts - 1))
        worklist.fail(lease, SUSPECT)
    assert works.row(work).state == WorkState.WAITING
    [lease] = worklist.lease(1, "a")
    worklist.fail(lease, SUSPECT)
    row = works.row(work)
    assert (row.state, row.attempts) == (WorkState.DEAD, 3)
    assert row.reason == "suspected poison film, read alone 3 times: INTERNAL: a stub died"
    assert worklist.lease(1, "a") == []
    [file] = works.files(work)
    assert file.startswith("dead/")
    assert "dead letter" in works.timeline(work)[-1]


@pytest.mark.slow
def test_nothing_of_its_pipeline_is_under_way_beside_what_is_read_alone(stand):
    worklist, works = stand
    busy = works.add()
    [held] = worklist.lease(1, "a")
    suspect, other, next_one = works.add(alone=True), works.add(pipeline="brain_mr"), works.add()
    assert [lease.work for lease in worklist.lease(9, "a")] == [other]  # it waits for `busy`, and none passes it
    worklist.complete(held, READING)
    [alone] = worklist.lease(9, "a")
    assert alone.work == suspect
    assert alone.alone
    assert worklist.lease(9, "a") == []
    assert worklist.lease(9, "a", stat_only=True) == []
    worklist.complete(alone, READING)
    assert [lease.work for lease in worklist.lease(9, "a")] == [next_one]
    assert busy in works.readings()


def test_stat_passes_a_film_that_waits_to_be_read_alone(stand):
    worklist, works = stand
    works.add()
    worklist.lease(1, "a")
    works.add(alone=True)
    stat = works.add(priority=Priority.STAT)
    assert [lease.work for lease in worklist.lease(1, "a", stat_only=True)] == [stat]


def test_a_missing_file_is_found_out_and_the_work_given_up(stand):
    worklist, works = stand
    work = works.add()
    [lease] = worklist.lease(1, "a")
    (works.context.spool.root / works.files(work)[0]).unlink()
    with pytest.raises(SourceMissing):
        worklist.film(lease, 0)
    worklist.fail(lease, Failure(FailureKind.HOPELESS, "SourceMissing", "nowhere"))
    assert (works.row(work).state, works.row(work).reason) == (WorkState.DEAD, "SourceMissing: nowhere")


def test_a_reader_that_comes_back_gets_its_works_at_once_and_only_its_own(stand):
    worklist, works = stand
    mine, theirs = works.add(), works.add()
    [old] = worklist.lease(1, "a")
    worklist.lease(1, "b")
    assert worklist.abandon("a") == 1
    [lease] = worklist.lease(9, "a")
    assert lease.work == mine
    with pytest.raises(LeaseLost):
        worklist.complete(old, READING)
    assert works.row(theirs).state == WorkState.LEASED


@pytest.mark.slow
def test_many_readers_at_once_lease_each_work_once(stand):
    worklist, works = stand
    ids = [works.add() for _ in range(40)]

    def take_all(owner):
        taken = []
        while leases := worklist.lease(3, owner):
            taken += leases
        return taken

    with ThreadPoolExecutor(4) as threads:
        taken = [lease for leases in threads.map(take_all, "abcd") for lease in leases]
    while leases := worklist.lease(9, "a"):  # what one had skipped since another was just looking at it
        taken += leases
    assert sorted(lease.work for lease in taken) == ids


def test_works_of_other_kinds_are_never_leased(stand):
    worklist, works = stand
    works.add(kind="reuse")
    works.add(kind="withdraw")
    assert worklist.lease(9, "a") == []


def test_a_gateway_that_cannot_be_reached_is_no_fault_of_the_work(tmp_path):
    worklist = HttpWorklist(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(WorklistAway):
        worklist.lease(1, "a")
    worklist.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        {"token": 1, "reading": {}},
        {"token": 1, "reading": {**READING.document(), "findings": 3}},
        {"token": 1, "reading": READING.document(), "heatmap": "no base64!"},
        {"token": 1, "reading": {**READING.document(), "novelty": "1e999"}},
        {"token": "x"},
    ],
)
def test_what_is_no_reading_is_refused_over_http(tmp_path, lease_server, body):
    works = Works.open(configuration(tmp_path))
    with lease_server.serving(works.context) as url:
        assert httpx.post(f"{url}/v1/leases/1/complete", json=body).status_code == 422
        assert httpx.post(f"{url}/v1/leases", json={"owner": "no name\n"}).status_code == 422
    works.close()
