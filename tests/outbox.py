"""A gateway with results to deliver and nothing else, for tests of the delivery stage."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import Comprehensive3DSRStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from sqlalchemy import insert, select
from waiting import wait_for
from wetread_gateway.delivery import confirmer, lane, sender
from wetread_gateway.delivery.breaker import Backoff, Breaker
from wetread_gateway.delivery.stage import run
from wetread_gateway.priority import Priority
from wetread_gateway.results.uids import series_uid, uid_of
from wetread_gateway.state.tables import DELIVERIES, OBJECTS, WORKS, DeliveryState, WorkState
from works import Works

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pytest

WAIT_S = 300.0
FOR_EVER_S = 1e9


def result(sop_uid: str, study_uid: str, sop_class: str = Comprehensive3DSRStorage, filler: int = 1000) -> bytes:
    """A Part 10 file that a PACS can file; what it says does not matter here."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = sop_uid
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study_uid, series_uid(sop_uid)
    dataset.PatientID, dataset.PatientName = "P1", "Test^Patient"
    dataset.Modality = "OT" if sop_class == SecondaryCaptureImageStorage else "SR"
    dataset.TextComments = "x" * filler
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def cut_pauses_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses of delivery spare a PACS that is busy, or down for minutes; the one of a test is neither."""
    monkeypatch.setattr(lane, "REST_S", 0.05)
    monkeypatch.setattr(lane, "Breaker", partial(Breaker, Backoff(0.05, 0.2)))
    monkeypatch.setattr(sender, "OBJECT_BACKOFF", Backoff(0.05, 0.2))
    monkeypatch.setattr(confirmer, "ASK_BACKOFF", Backoff(0.05, 0.2))
    monkeypatch.setattr(confirmer, "GATHER_S", 0.0)


@contextmanager
def gathering(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no commitment be asked for within the block: then for all that is stored by its end, in one request."""
    monkeypatch.setattr(confirmer, "GATHER_S", FOR_EVER_S)
    yield
    monkeypatch.setattr(confirmer, "GATHER_S", 0.0)


def configure(folder: Path, *destinations: dict[str, object], dicom: str = "") -> Path:
    """Write (anew) a configuration with these destinations, its state in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = f'[gateway]\nstate_dir = "{folder / "state"}"\n[dicom]\nany_peer = true\n{dicom}\n'
    for destination in destinations:
        text += "[[destination]]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in destination.items())
    file = folder / "gateway.toml"
    file.write_text(text)
    return file


def _toml(value: object) -> str:
    return f'"{value}"' if not isinstance(value, bool | int | float) else str(value).lower()


class Outbox(Works):
    """One process's view of a gateway whose reports are built."""

    def add_result(
        self,
        *destinations: str,
        classes: tuple[str, ...] = (Comprehensive3DSRStorage,),
        priority: Priority = Priority.ROUTINE,
        filler: int = 1000,
        age_s: float = 0.0,
    ) -> int:
        """Add a work whose objects (one of each class) wait for delivery; its id."""
        work = self.add(priority=priority, state=WorkState.REPORTED)
        study = self.row(work).study_uid
        uids = [uid_of(study, number, time.time_ns()) for number, _ in enumerate(classes)]
        paths = [
            self.context.spool.put_result(study, uid, result(uid, study, kind, filler))
            for uid, kind in zip(uids, classes, strict=True)
        ]
        now = time.time() - age_s
        with self.context.store.write() as connection:
            for uid, kind, path in zip(uids, classes, paths, strict=True):
                row = {"sop_uid": uid, "work_id": work, "kind": "sr", "sop_class": kind, "study_uid": study}
                connection.execute(insert(OBJECTS).values(path=path, created_at=now, **row))
            for name in destinations:
                row = {"work_id": work, "destination": name, "objects": uids, "priority": priority}
                connection.execute(insert(DELIVERIES).values(state=DeliveryState.WAITING, created_at=now, **row))
        self.context.ring("deliver")  # as the reporter does
        return work

    def delivery(self, work: int, destination: str = "pacs"):
        """The delivery's row."""
        query = select(DELIVERIES).where(DELIVERIES.c.work_id == work, DELIVERIES.c.destination == destination)
        with self.context.store.read() as connection:
            return connection.execute(query).one()

    def await_delivery(self, work: int, state: DeliveryState, destination: str = "pacs"):
        """Wait until a delivery is in a state; its row."""
        await_true(lambda: self.delivery(work, destination).state == state, lambda: self.delivery(work, destination))
        return self.delivery(work, destination)

    def finished(self, works: list[int]) -> int:
        """How many of the works are finished."""
        query = select(WORKS.c.id).where(WORKS.c.id.in_(works), WORKS.c.state == WorkState.FINISHED)
        with self.context.store.read() as connection:
            return len(connection.execute(query).all())

    @contextmanager
    def delivering(self) -> Iterator[None]:
        """Run the delivery stage."""
        self.context.stop.clear()
        thread = threading.Thread(target=run, args=(self.context,))
        thread.start()
        try:
            yield
        finally:
            self.context.stop.set()
            self.context.ring("deliver")
            thread.join()


def await_true(holds: Callable[[], bool], shown: Callable[[], object] = lambda: "", wait_s: float = WAIT_S) -> None:
    """Wait until `holds`; the state store tells nobody of a change, so it is asked."""
    assert wait_for(holds, wait_s), f"waited in vain: {shown()}"
