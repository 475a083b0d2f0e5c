"""Readings become objects and deliveries: durable, once, and in the dead letter with a reason where that cannot be."""

from __future__ import annotations

import io
import time

import numpy as np
import pydicom
import pytest
from films import film, to_bytes
from sqlalchemy import insert, select, update
from wetread_client.card import Code
from wetread_gateway import right_of_way
from wetread_gateway.errors import DiskFull
from wetread_gateway.reading.stored import Refusal, StoredFinding, StoredReading
from wetread_gateway.report_queue import take
from wetread_gateway.reporter import ATTEMPTS, ReporterStage
from wetread_gateway.results.reporter import Reporter
from wetread_gateway.state.tables import DELIVERIES, OBJECTS, READINGS, WORKS, WorkKind, WorkState
from works import Works, configuration

DESTINATIONS = """
[[destination]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"

[[destination]]
name = "old pacs"
ae_title = "OLD"
host = "127.0.0.1"
sr = "enhanced"
capture = false
"""


@pytest.fixture
def works(tmp_path):
    config = configuration(tmp_path)
    config.write_text(config.read_text() + DESTINATIONS)
    opened = Works.open(config, "reporter-0-of-1")
    yield opened
    opened.close()


def reading(source: str, **values) -> StoredReading:
    found = StoredFinding("finding", (Code("SCT", "1234", "Finding"),), 0.9, True, 0.5, source)
    given = {"intended_modalities": ("DX",), "intended_age_years": (0.0, 120.0), "findings": (found,), "novelty": 0.5}
    return StoredReading("chest_xray", "stable", 3, "algorithm", "maker", 1_700_000_000.0, **given | values)


def add(works: Works, *, state=WorkState.READ, destinations=("pacs",), refusal=None, sop="", **values) -> int:
    """Add a work over one film of a study of its own, with its reading."""
    work = works.add(b"", state=state, destinations=list(destinations), **values)
    study = works.row(work).study_uid
    dataset = film(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64))
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, f"{study}.9"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = sop or f"{study}.0"
    (works.context.spool.root / works.files(work)[0]).write_bytes(to_bytes(dataset))
    if values.get("predecessor") is None:
        keep(works, work, reading(f"{study}.0") if refusal is None else reading("", findings=(), refusal=refusal))
    return work


def keep(works: Works, work: int, stored: StoredReading) -> None:
    with works.context.store.write() as connection:
        row = {"work_id": work, "document": stored.document(), "heatmap": None, "read_at": stored.read_at}
        connection.execute(insert(READINGS).values(row))


def rows(works: Works, table, work: int):
    with works.context.store.read() as connection:
        return connection.execute(select(table).where(table.c.work_id == work)).all()


def due_again(works: Works) -> None:
    with works.context.store.write() as connection:
        connection.execute(update(WORKS).values(not_before=0.0))


@pytest.mark.slow
def test_a_reading_becomes_a_report_and_a_capture_that_are_on_the_disk_and_due(works):
    work = add(works)
    assert ReporterStage(works.context).step() == 1
    objects = {row.kind: row for row in rows(works, OBJECTS, work)}
    assert set(objects) == {"sr-comprehensive-3d", "capture"}
    for row in objects.values():
        stored = pydicom.dcmread(works.context.spool.root / row.path)
        assert stored.SOPInstanceUID == row.sop_uid
        assert stored.StudyInstanceUID == works.row(work).study_uid
    (delivery,) = rows(works, DELIVERIES, work)
    assert (delivery.destination, delivery.state) == ("pacs", "waiting")
    assert set(delivery.objects) == {row.sop_uid for row in objects.values()}
    assert works.row(work).state == WorkState.REPORTED


@pytest.mark.slow
def test_each_destination_gets_what_it_takes(works):
    work = add(works, destinations=("pacs", "old pacs"))
    ReporterStage(works.context).step()
    kinds = {row.sop_uid: row.kind for row in rows(works, OBJECTS, work)}
    parcels = {row.destination: sorted(kinds[uid] for uid in row.objects) for row in rows(works, DELIVERIES, work)}
    assert parcels == {"pacs": ["capture", "sr-comprehensive-3d"], "old pacs": ["sr-enhanced"]}


@pytest.mark.slow
def test_a_refused_film_is_reported_as_such_without_a_capture(works):
    work = add(works, refusal=Refusal("UnsupportedImage", "a lateral view"))
    ReporterStage(works.context).step()
    assert [row.kind for row in rows(works, OBJECTS, work)] == ["sr-comprehensive-3d"]


def test_a_refused_film_ends_with_its_reason_where_the_rule_wants_no_report(works):
    work = add(works, refusal=Refusal("UnsupportedImage", "a lateral view"), options={"report_refusals": False})
    ReporterStage(works.context).step()
    assert works.row(work).state == WorkState.FINISHED
    assert rows(works, OBJECTS, work) == []
    assert [path.split("/")[0] for path in works.files(work)] == ["done"]


@pytest.mark.slow
def test_a_report_built_again_after_a_crash_is_the_same_to_the_byte(works, monkeypatch):
    work = add(works)
    monkeypatch.setattr("wetread_gateway.reporter.record", lambda *_: None)  # killed before the index knew
    ReporterStage(works.context).step()
    results = works.context.spool.results
    before = {path.name: path.read_bytes() for path in results.rglob("*.dcm")}
    monkeypatch.undo()
    due_again(works)
    ReporterStage(works.context).step()
    assert len(before) == 2
    assert {path.name: path.read_bytes() for path in results.rglob("*.dcm")} == before
    assert works.row(work).state == WorkState.REPORTED


@pytest.mark.slow
def test_a_film_that_no_report_can_be_made_of_goes_to_the_dead_letter_and_its_neighbour_does_not(works):
    bad, good = add(works), add(works)
    (works.context.spool.root / works.files(bad)[0]).write_bytes(b"no DICOM at all")
    ReporterStage(works.context).step()
    assert works.row(bad).state == WorkState.DEAD
    assert "cannot be read" in works.row(bad).reason
    assert [path.split("/")[0] for path in works.files(bad)] == ["dead"]
    assert works.row(good).state == WorkState.REPORTED


def test_a_work_under_which_the_process_died_three_times_is_given_up(works):
    work = add(works)
    for _ in range(ATTEMPTS):
        assert [row.id for row in take(works.context, 0, 1)] == [work]  # and then it is killed
        due_again(works)
    ReporterStage(works.context).step()
    assert works.row(work).state == WorkState.DEAD
    assert rows(works, OBJECTS, work) == []


def test_a_work_that_was_tried_before_is_tried_alone_and_after_the_fresh_ones(works):
    first, second = add(works), add(works)
    take(works.context, 0, 1)  # and then it is killed
    due_again(works)
    fresh = add(works)
    assert [row.id for row in take(works.context, 0, 1)] == [fresh]
    assert [row.id for row in take(works.context, 0, 1)] == [first]
    assert [row.id for row in take(works.context, 0, 1)] == [second]


@pytest.mark.slow
def test_a_disk_that_fills_up_is_no_fault_of_the_work(works, monkeypatch):
    work = add(works)

    def full(*_):
        raise DiskFull("no room")

    monkeypatch.setattr(type(works.context.spool), "put_result", full)
    for _ in range(ATTEMPTS + 1):
        ReporterStage(works.context).step()
        due_again(works)
    monkeypatch.undo()
    ReporterStage(works.context).step()
    assert works.row(work).state == WorkState.REPORTED


def test_nothing_is_even_tried_on_a_disk_that_is_full(works, monkeypatch):
    work = add(works)
    monkeypatch.setattr(type(works.context.spool), "free_bytes", lambda _: 1 << 20)
    assert ReporterStage(works.context).step() == 0
    assert works.row(work).report_attempts == 0


@pytest.mark.slow
def test_a_correction_reuses_the_reading_and_the_old_report_is_withdrawn(works):
    old = add(works)
    ReporterStage(works.context).step()
    sop = f"{works.row(old).study_uid}.0"
    new = add(
        works,
        state=WorkState.WAITING,
        kind=WorkKind.REUSE,
        predecessor=old,
        number=2,
        sop=sop,
        patient_digest="another",
    )
    gone = works.add(b"", state=WorkState.WAITING, kind=WorkKind.WITHDRAW, predecessor=old, number=2)
    with works.context.store.write() as connection:  # a withdrawal stands in the old study, over the old sources
        kept = {name: getattr(works.row(old), name) for name in ("study_uid", "sources", "sources_digest")}
        connection.execute(update(WORKS).where(WORKS.c.id == gone).values(destinations=["pacs"], **kept))
    ReporterStage(works.context).step()
    assert works.readings()[new].findings == works.readings()[old].findings
    sr = {w: next(row for row in rows(works, OBJECTS, w) if row.kind.startswith("sr")) for w in (old, new, gone)}
    told = {w: pydicom.dcmread(works.context.spool.root / row.path) for w, row in sr.items()}
    (before,) = told[gone].PredecessorDocumentsSequence
    named = before.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert sr[old].sop_uid in [item.ReferencedSOPInstanceUID for item in named]
    assert "PredecessorDocumentsSequence" not in told[new]  # it is another patient's
    assert told[gone].StudyInstanceUID == told[old].StudyInstanceUID != told[new].StudyInstanceUID
    assert {row.kind for row in rows(works, OBJECTS, gone)} == {"sr-comprehensive-3d", "key-objects"}


def test_a_successor_waits_until_its_predecessor_is_reported(works):
    old = add(works, state=WorkState.LEASED)
    new = add(works, state=WorkState.WAITING, kind=WorkKind.REUSE, predecessor=old, number=2)
    assert ReporterStage(works.context).step() == 0
    assert works.row(new).state == WorkState.WAITING


def test_a_correction_of_what_was_never_read_is_read(works):
    old = add(works, state=WorkState.SUPERSEDED)
    with works.context.store.write() as connection:
        connection.execute(READINGS.delete().where(READINGS.c.work_id == old))
    new = add(works, state=WorkState.WAITING, kind=WorkKind.REUSE, predecessor=old, number=2)
    gone = add(works, state=WorkState.WAITING, kind=WorkKind.WITHDRAW, predecessor=old, number=2)
    ReporterStage(works.context).step()
    assert (works.row(new).kind, works.row(new).state) == (WorkKind.READ, WorkState.WAITING)
    assert works.row(gone).state == WorkState.FINISHED


def test_reporters_share_the_works_and_none_is_left_out(works):
    made = {add(works) for _ in range(6)}
    first = {row.id for row in take(works.context, 0, 2)}
    second = {row.id for row in take(works.context, 1, 2)}
    assert first | second == made
    assert not first & second


def test_stat_is_reported_first(works):
    routine, stat = add(works, priority=2), add(works, priority=0)
    assert [row.id for row in take(works.context, 0, 1)] == [stat, routine]


@pytest.mark.slow
def test_a_stat_film_that_comes_meanwhile_is_reported_before_the_rest_of_the_batch(works, monkeypatch):
    monkeypatch.setattr(right_of_way, "WINDOW_S", 60.0)
    routine = [add(works, priority=2) for _ in range(3)]
    stage = ReporterStage(works.context)
    told = []
    report = stage._report

    def reported(work):
        told.append(work.id)
        report(work)
        if len(told) == 1:  # after it: a first report may take longer than the right of way lasts
            told.append(add(works, priority=0))
            works.context.right_of_way().claim()

    monkeypatch.setattr(stage, "_report", reported)
    stage.step()
    first, stat, again, *rest = told
    assert stat == again == max(told)
    assert [first, *rest] == routine


@pytest.mark.slow
def test_the_whole_reporter_and_the_quick_one_write_the_same_bytes(works):
    works_made = [add(works), add(works)]
    slow = ReporterStage(works.context)
    slow._reporter = Reporter(quick=False)
    slow.step()
    results = works.context.spool.results
    before = {path.name: path.read_bytes() for path in results.rglob("*.dcm")}
    for work in works_made:
        with works.context.store.write() as connection:
            connection.execute(DELIVERIES.delete().where(DELIVERIES.c.work_id == work))
            connection.execute(OBJECTS.delete().where(OBJECTS.c.work_id == work))
            connection.execute(update(WORKS).values(state=WorkState.READ, not_before=time.time() - 1))
    ReporterStage(works.context).step()
    after = {path.name: path.read_bytes() for path in results.rglob("*.dcm")}
    assert before.keys() == after.keys()
    for name, data in before.items():
        assert pydicom.dcmread(io.BytesIO(data)) == pydicom.dcmread(io.BytesIO(after[name]))
