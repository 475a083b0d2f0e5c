"""What the gateway's processes write to standard error while all goes wrong with a patient: never who it is."""

from __future__ import annotations

import errno
import io
import json
import logging
import sys
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import outbox
import pydicom
import pytest
from films import film, radiograph, to_bytes
from outbox import Outbox, configure
from scripted_pacs import ScriptedPacs
from sqlalchemy import insert
from triage_site import Site, context_in, instance
from wetread_client import Client, FakeTransport, Retry, ServerError
from wetread_client.card import Code
from wetread_client.fake import fake_answer
from wetread_gateway import logs
from wetread_gateway.config.settings import Intake
from wetread_gateway.dimse.command import Command
from wetread_gateway.dimse.keeping import Caller, Keeping
from wetread_gateway.dimse.negotiation import Context as PresentationContext
from wetread_gateway.dimse.status import CommandField, Status
from wetread_gateway.reading.pauses import Pauses
from wetread_gateway.reading.pipeline import Pipelines
from wetread_gateway.reading.reader import Reader
from wetread_gateway.reading.store_worklist import StoreWorklist
from wetread_gateway.reading.stored import StoredFinding, StoredReading
from wetread_gateway.reporter import ReporterStage
from wetread_gateway.spool.disk import RealDisk
from wetread_gateway.spool.spool import Spool
from wetread_gateway.state.tables import READINGS, DeliveryState, WorkState
from works import Works, configuration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wetread_client.fake import FakeRequest
    from wetread_client.transport import InferAnswer
    from wetread_gateway.results.order import ReportOrder

NAME, PATIENT_ID, BIRTH_DATE = "Zyxwvut^Quirina", "PID-7731-XQ", "19470203"
PATIENT = {"PatientName": NAME, "PatientID": PATIENT_ID, "PatientBirthDate": BIRTH_DATE}
WHO = f"{NAME} {PATIENT_ID} {BIRTH_DATE}"
MARKS = (*NAME.split("^"), PATIENT_ID, BIRTH_DATE, "1947-02-03")
PIXELS = radiograph(32, 24)
DX = "1.2.840.10008.5.1.4.1.1.1.1"
EXPLICIT = "1.2.840.10008.1.2.1"


@dataclass
class Log:
    """What a process has written to standard error so far."""

    stream: io.StringIO

    def tells_of(self, *messages: str) -> None:
        """Assert that these messages are there, in JSON lines that do not name the patient."""
        written = self.stream.getvalue()
        told = [json.loads(line)["message"] for line in written.splitlines()]
        assert [message for message in messages if message not in told] == [], told
        assert [mark for mark in MARKS if mark.casefold() in written.casefold()] == [], written


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """Log as a process of the gateway does."""
    made = Log(io.StringIO())
    levels = {logger: logger.level for logger in map(logging.getLogger, (None, *logging.root.manager.loggerDict))}
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(sys, "stderr", made.stream)
    logs.set_up("test")
    yield made
    for logger, level in levels.items():
        logger.setLevel(level)


class FailingSync(RealDisk):
    """A disk whose fsync fails."""

    def fsync(self, file: int) -> None:
        raise OSError(errno.EIO, "Input/output error")


def test_an_intake_and_a_refused_one_name_no_patient(log: Log, tmp_path: Path) -> None:
    context = context_in(tmp_path)
    context.live.change(intake=Intake(watermark_free_bytes=0))
    caller = Caller("MOD", "WETREAD", "127.0.0.1", "receiver-0.1", stat=False)
    statuses = []
    for spool in (context.spool, Spool(tmp_path / "spool", FailingSync())):
        command = Command(CommandField.C_STORE, 1, True, DX, "1.2.3.4.1")
        keeping = Keeping(replace(context, spool=spool), caller, command, PresentationContext(DX, EXPLICIT))
        keeping.write(memoryview(instance(**PATIENT)))
        statuses.append(keeping.finish())
    context.store.close()
    context.audit.close()
    assert statuses == [Status.SUCCESS, Status.OUT_OF_RESOURCES]
    log.tells_of("an instance is refused: the spool's disk: Input/output error")


def test_triage_names_no_patient_of_what_it_quarantines_or_cannot_file(log: Log, tmp_path: Path) -> None:
    site = Site(tmp_path)
    whole = instance("1.2.5", **PATIENT)
    site.arrive(whole)
    site.arrive(whole[: whole.index(BIRTH_DATE.encode()) + 12])
    site.arrive(instance("1.2.6", **PATIENT, StudyInstanceUID=None))
    site.settle()
    assert sorted(row.state for row in site.instances()) == ["quarantined", "quarantined", "sorted"]
    with site.context.store.write() as connection:  # the error of a database names the statement and its values
        refuse = "CREATE TRIGGER refuse BEFORE INSERT ON instances BEGIN SELECT RAISE(ABORT, 'refused'); END"
        connection.exec_driver_sql(refuse)
    site.arrive(instance("1.2.7", **PATIENT))
    site.triage.step()
    site.close()
    log.tells_of("an instance was quarantined", "a batch could not be filed")


@pytest.mark.slow
def test_a_reading_that_fails_names_no_patient(log: Log, tmp_path: Path) -> None:
    works = Works.open(configuration(tmp_path, rollouts=str(tmp_path / "rollout")))
    dead = works.add(instance(**PATIENT), attempts=2, alone=True)
    gone = works.add(instance(**PATIENT))
    (works.context.spool.root / works.files(gone)[0]).unlink()

    def fail(request: FakeRequest) -> InferAnswer:
        if PATIENT_ID.encode() in request.film:
            raise ServerError("INTERNAL", f"Stub process is not healthy: {WHO}")
        return fake_answer()  # to the probe that follows

    pipelines = Pipelines(
        lambda: "",
        lambda _url, model: Client(pipeline=model, transport=FakeTransport([fail]), retry=Retry(times=0)),
    )
    pauses = Pauses(Retry(first_wait_s=0.01, longest_wait_s=0.01))
    reader = Reader(
        StoreWorklist(works.context), pipelines, "reader-0", lambda: works.context.settings.triton, pauses=pauses
    )
    thread = threading.Thread(target=reader.run, args=(works.context.stop,))
    thread.start()
    try:
        outbox.await_true(lambda: {works.row(work).state for work in (dead, gone)} == {WorkState.DEAD})
    finally:
        works.context.stop.set()
        thread.join()
        pipelines.close()
        works.close()
    log.tells_of("a work was not read", "a work goes to the dead letter")


def add_read(works: Works, **attributes: object) -> int:
    """Add a work over one film of the patient, with its reading."""
    work = works.add(b"", state=WorkState.READ, destinations=["pacs"])
    study = works.row(work).study_uid
    given = {"StudyInstanceUID": study, "SeriesInstanceUID": f"{study}.9", "SOPInstanceUID": f"{study}.0"}
    data = to_bytes(film(PIXELS, **{**PATIENT, **given, **attributes}))
    (works.context.spool.root / works.files(work)[0]).write_bytes(data.replace(b"~~", b"\xff\xfe"))  # no UTF-8
    finding = StoredFinding("finding", (Code("SCT", "1234", "Finding"),), 0.9, True, 0.5, f"{study}.0")
    reading = StoredReading("chest_xray", "stable", 3, "algorithm", "maker", 1.7e9, findings=(finding,), novelty=0.5)
    with works.context.store.write() as connection:
        row = {"work_id": work, "document": reading.document(), "heatmap": None, "read_at": reading.read_at}
        connection.execute(insert(READINGS).values(row))
    return work


def test_a_report_that_cannot_be_made_names_no_patient(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configuration(tmp_path)
    config.write_text(config.read_text() + '[[destination]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\n')
    works = Works.open(config, "reporter-0-of-1")
    bad = [
        add_read(works, SpecificCharacterSet="ISO_IR 192", PatientName=f"{NAME}~~"),
        add_read(works, SpecificCharacterSet="ISO_IR 192", PatientID=f"{PATIENT_ID}~~"),
        add_read(works, SOPClassUID=None),
        add_read(works),
    ]

    def refuse(order: ReportOrder) -> None:
        raise ValueError(f"what a library may say: {order.sources[0].by_keyword}")

    monkeypatch.setattr("wetread_gateway.results.reporter.facts_of", refuse)
    ReporterStage(works.context).step()
    assert {works.row(work).state for work in bad} == {WorkState.DEAD}
    works.close()
    log.tells_of("a work went to the dead letter")


@pytest.mark.slow
def test_a_delivery_that_fails_names_no_patient(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = outbox.result

    def result(*given: object) -> bytes:
        dataset = pydicom.dcmread(io.BytesIO(make(*given)))
        for keyword, value in PATIENT.items():
            setattr(dataset, keyword, value)
        buffer = io.BytesIO()
        dataset.save_as(buffer)
        return buffer.getvalue()

    monkeypatch.setattr(outbox, "result", result)
    with ScriptedPacs(statuses=[0xA700, 0xC000], commitment=False) as pacs:
        away = {"name": "away", "ae_title": "AWAY", "host": "127.0.0.1", "port": 9, "give_up_after_h": 1.0}
        works = Outbox.open(configure(tmp_path, pacs.destination(concurrency=1), away))
        _busy, refused = works.add_result("pacs"), works.add_result("pacs")
        old, _young = works.add_result("away", age_s=3700.0), works.add_result("away")
        with works.delivering():
            works.await_delivery(old, DeliveryState.DEAD, "away")
            works.await_delivery(refused, DeliveryState.DEAD)
    works.close()
    log.tells_of(
        "a delivery failed and is tried again",
        "a destination fails and is left alone for a while",
        "a delivery went to the dead letter",
    )
