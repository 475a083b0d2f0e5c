"""What the tests of the whole trip send, and how they look at what comes back."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import films
import pydicom
from pydicom.uid import ComputedRadiographyImageStorage, JPEG2000Lossless, generate_uid
from sqlalchemy import select
from waiting import wait_for
from wetread_gateway.state.store import StateStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydicom.dataset import Dataset
    from wetread_bench.hospital import Hospital

WAIT_S = 300.0  # of a machine that is busy
CHEST_SIDE = 256
INTAKE = ("intake", "watermark_free_bytes = 1048576\noverload_age_s = 86400")
"""However far behind a busy machine is: what a gateway that is behind refuses, others test."""


@dataclass(frozen=True)
class Film:
    """A film to send; what is not given is its own."""

    study: str
    sop: str
    patient: str = "P1"
    series: str = ""
    picture: int = 0
    modality: str = "DX"
    number: int = 1
    expected: int | None = None

    def dataset(self) -> pydicom.FileDataset:
        made = films.film(
            films.radiograph(CHEST_SIDE, CHEST_SIDE, seed=self.picture),
            PatientID=self.patient,
            PatientName=f"TEST^{self.patient}",
            PatientAge="003Y",
            PatientBirthDate="",
            PatientSex="",
            StudyDate="20260102",
            StudyTime="101112",
            AccessionNumber="A1",
            ReferringPhysicianName="",
            StudyID="1",
            StudyInstanceUID=self.study,
            SeriesInstanceUID=self.series or generate_uid(entropy_srcs=[self.study]),
            SOPInstanceUID=self.sop,
            Modality=self.modality,
            SeriesNumber=1,
            InstanceNumber=self.number,
            NumberOfSeriesRelatedInstances=self.expected,
        )
        if self.modality == "CR":
            made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
        made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
        return made

    def data(self) -> bytes:
        return films.to_bytes(self.dataset())

    def write(self, folder: Path, *, jpeg_2000: bool = False) -> Path:
        path = folder / f"{len(list(folder.iterdir()))}.dcm"
        path.write_bytes(films.compressed(self.dataset(), JPEG2000Lossless) if jpeg_2000 else self.data())
        return path


def uid() -> str:
    return str(generate_uid())


def objects(hospital: Hospital, study: str) -> list[Dataset]:
    """Everything that the PACS holds of a study."""
    found = hospital.pacs.post("/tools/find", {"Level": "Instance", "Query": {"StudyInstanceUID": study}})
    return [pydicom.dcmread(io.BytesIO(hospital.pacs.file(name))) for name in found]


def of_kind(found: Sequence[Dataset], modality: str) -> list[Dataset]:
    return [dataset for dataset in found if modality == dataset.Modality]


def captures(found: Sequence[Dataset]) -> list[Dataset]:
    return [dataset for dataset in found if "PixelData" in dataset and "ContributingEquipmentSequence" in dataset]


def sources(report: Dataset) -> set[str]:
    return {
        instance.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }


def predecessors(report: Dataset) -> set[str]:
    return {
        instance.ReferencedSOPInstanceUID
        for study in report.get("PredecessorDocumentsSequence") or ()
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }


def container(report: Dataset) -> list[str]:
    """Code values of the concept names at the top of a report's tree."""
    return [item.ConceptNameCodeSequence[0].CodeValue for item in report.ContentSequence]


def await_objects(hospital: Hospital, study: str, count: int, timeout_s: float = WAIT_S) -> list[Dataset]:
    """Wait until the PACS holds so many objects of a study, and give them; fewer when they do not come in time."""
    query = {"Level": "Instance", "Query": {"StudyInstanceUID": study}}
    await_true(lambda: len(hospital.pacs.post("/tools/find", query)) >= count, timeout_s)
    return objects(hospital, study)


def await_true(holds: Callable[[], bool], timeout_s: float = WAIT_S) -> bool:
    """Ask again and again: neither a PACS nor a store tells when something has changed."""
    return wait_for(holds, timeout_s)


def rows(hospital: Hospital, table, study: str | None = None) -> list:
    """Rows of the gateway's state store, of one study where the table knows it."""
    store = StateStore(hospital.gateway.state)
    query = select(table) if study is None else select(table).where(table.c.study_uid == study)
    try:
        with store.read() as connection:
            return list(connection.execute(query).all())
    finally:
        store.close()


def spooled(hospital: Hospital, folder: str, study: str = "") -> list[Path]:
    """Files in a folder of the spool; folders may come and go meanwhile."""
    place = hospital.gateway.state / "spool" / folder / study
    return [Path(at, name) for at, _, names in os.walk(place) for name in names]
