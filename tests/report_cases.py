"""Readings and orders for the tests of results: every kind of report, films as strange as real ones."""

import io
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pydicom
import pydicom.config
from films import film, item, radiograph, to_bytes
from pydicom.dataset import FileDataset
from pydicom.uid import UID, ComputedRadiographyImageStorage, CTImageStorage
from wetread_client.card import Code
from wetread_gateway.reading.stored import Refusal, StoredFinding, StoredReading
from wetread_gateway.results.order import BuiltObject, ObjectKind, ObjectReference, ReportOrder
from wetread_gateway.results.reporter import Reporter
from wetread_gateway.results.source import Source
from wetread_gateway.state.tables import WorkKind

READ_AT = 1_750_000_000.123456
EVERYTHING = frozenset(ObjectKind)
CODES = (Code("SCT", "36118008", "Pneumothorax"), Code("RADLEX", "RID5352", "pneumothorax"))
OTHER_CODES = (Code("SCT", "60046008", "Pleural effusion"),)
STUDY = "1.2.826.0.1.3680043.8.498.10"
PIXELS = radiograph(96, 80)


def chest_film(**attributes: object) -> FileDataset:
    """A film that a hospital might send, of a child of three; an attribute given as None is left out."""
    full: dict[str, object] = {
        "StudyInstanceUID": STUDY,
        "SeriesInstanceUID": f"{STUDY}.1",
        "SOPInstanceUID": UID(f"{STUDY}.1.1"),
        "PatientBirthDate": "20220310",
        "PatientSex": "F",
        "PatientAge": "003Y",
        "StudyDate": "20250615",
        "StudyTime": "101112",
        "AccessionNumber": "A-17",
        "StudyID": "S1",
        "ReferringPhysicianName": "Referrer^Ann",
        "StudyDescription": "Chest",
        "PatientOrientation": ["L", "F"],
        "ImagerPixelSpacing": ["0.143", "0.143"],
        "InstanceNumber": 1,
    }
    with pydicom.config.disable_value_validation():  # strange values are what these films are for
        return film(PIXELS, **{**full, **attributes})


def write(path: Path, dataset: FileDataset) -> Path:
    """Write a film as the spool would hold it."""
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    with pydicom.config.disable_value_validation():
        path.write_bytes(to_bytes(dataset))
    return path


def reading(source_uid: str, probability: float = 0.87, **changes: object) -> StoredReading:
    """A reading of one finding, on the film of `source_uid`."""
    y, x = np.mgrid[0:56, 0:48]
    heatmap = (255 * np.exp(-(((y - 30) / 10) ** 2) - ((x - 16) / 8) ** 2)).astype(np.uint8)[None]
    made = StoredReading(
        pipeline="chest_xray",
        arm="stable",
        release=3,
        algorithm="Test algorithm",
        manufacturer="Wetread",
        read_at=READ_AT,
        findings=(StoredFinding("pneumothorax", CODES, probability, probability > 0.7, 0.7, source_uid),),
        novelty=0.4,
        intended_statement="For tests only.",
        intended_modalities=("CR", "DX", "RG"),
        intended_views=("AP", "PA"),
        intended_age_years=(1, 5),
        heatmap=zlib.compress(heatmap.tobytes()),
        heatmap_shape=heatmap.shape,
        heatmap_source_uid=source_uid,
    )
    return replace(made, **changes)


def order(sources: list[Source], read: StoredReading | None = None, **changes: object) -> ReportOrder:
    """An order of everything for a first reading."""
    made = ReportOrder(
        kind=WorkKind.READ,
        number=1,
        sources=tuple(sources),
        reading=read or reading(sources[0].uid),
        expected=None,
        completeness="single",
        predecessors=(),
        unknown_age_is_inside=False,
        wanted=EVERYTHING,
        study_uid=sources[0].study_instance_uid,
    )
    return replace(made, **changes)


def references(built: tuple[BuiltObject, ...]) -> tuple[ObjectReference, ...]:
    """The objects as what a later order replaces."""
    return tuple(
        ObjectReference(thing.sop_class_uid, thing.sop_instance_uid, thing.study_instance_uid, thing.kind)
        for thing in built
        if thing.sop_class_uid
    )


def parsed(thing: BuiltObject) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(thing.data))


def of_kind(built: tuple[BuiltObject, ...], kind: ObjectKind) -> BuiltObject:
    return next(thing for thing in built if thing.kind is kind)


@dataclass(frozen=True)
class Case:
    """A film's strangeness (attributes of `chest_film`) and what is strange about its reading and order."""

    attributes: dict[str, object] = field(default_factory=dict)
    probability: float = 0.87
    reading: dict[str, object] = field(default_factory=dict)
    order: dict[str, object] = field(default_factory=dict)
    images: int = 1
    succeeds: bool = False
    """Whether the case follows a reading of the same sources, whose objects it replaces or withdraws."""

    def make(self, folder: Path) -> tuple[ReportOrder, Path]:
        """Write the case's films; give its order and the film that the capture shows."""
        files = []
        for place in range(self.images):
            uid = UID(f"{STUDY}.1.{place + 1}")
            path = folder / f"{place}.dcm"
            files.append(
                write(path, chest_film(**{"SOPInstanceUID": uid, "InstanceNumber": place + 1, **self.attributes}))
            )
        sources = [Source.of_file(file) for file in files]
        made = order(sources, reading(sources[0].uid, self.probability, **self.reading), **self.order)
        if self.succeeds:
            first = Reporter().build(order(sources), files[0])
            made = replace(made, predecessors=references(first), number=2)
        return made, files[0]


_SLICE = {
    "SOPClassUID": CTImageStorage,
    "Modality": "CT",
    "FrameOfReferenceUID": f"{STUDY}.9",
    "PixelSpacing": ["0.7", "0.7"],
    "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
    "ImagePositionPatient": ["-10.5", "3", "40.25"],
    "SliceThickness": "2.5",
    "PatientOrientation": None,
    "ImagerPixelSpacing": None,
}
_OF_CT = {"intended_modalities": ("CT",), "intended_views": (), "heatmap": None}
_LEAN = {"novelty": None, "heatmap": None, "heatmap_shape": None, "heatmap_source_uid": ""}
_REQUEST = item(RequestedProcedureID="RP7", RequestedProcedureDescription="Thorax", ScheduledProcedureStepID="SP7")
_TWO = (
    StoredFinding("pneumothorax", CODES, 0.91, True, 0.5, f"{STUDY}.1.1"),
    StoredFinding("effusion", OTHER_CODES, 0.08, False, 0.5, f"{STUDY}.1.1"),
)
_REFUSED = {"findings": (), "refusal": Refusal("UnsupportedImage", "a lateral view"), "heatmap": None}
_OPTIONAL = """PatientName PatientID PatientBirthDate PatientSex PatientAge StudyDate StudyTime AccessionNumber StudyID
ReferringPhysicianName StudyDescription ViewPosition InstanceNumber PatientOrientation ImagerPixelSpacing"""

CASES = {
    "positive": Case(),
    "negative": Case(probability=0.11),
    "certain": Case(probability=1.0),
    "two findings": Case(reading={"findings": _TWO}),
    "a warning": Case(reading={"warnings": ("the photometric interpretation was not stated",)}),
    "an adult": Case({"PatientAge": "054Y"}),
    "unknown age": Case({"PatientAge": None, "PatientBirthDate": ""}),
    "unknown age allowed": Case({"PatientAge": None, "PatientBirthDate": ""}, order={"unknown_age_is_inside": True}),
    "lateral": Case({"ViewPosition": "LL"}),
    "wrong modality": Case({"Modality": "OT"}),
    "novel": Case(reading={"novelty": 1.7}),
    "no heatmap and no novelty": Case(reading=_LEAN),
    "the candidate arm": Case(reading={"arm": "candidate", "release": 4}),
    "refused": Case(
        reading={"findings": (), "refusal": Refusal("UnsupportedImage", "a lateral view"), "heatmap": None}
    ),
    "read again": Case(succeeds=True),
    "reused": Case({"PatientID": "OTHER", "PatientName": "Other^Name"}, order={"kind": WorkKind.REUSE}, succeeds=True),
    "withdrawn": Case(order={"kind": WorkKind.WITHDRAW, "made_at": READ_AT + 3600}, succeeds=True),
    "a request": Case({"RequestAttributesSequence": [_REQUEST], "PlacerOrderNumberImagingServiceRequest": "P1"}),
    "computed radiography": Case({"SOPClassUID": ComputedRadiographyImageStorage, "Modality": "CR"}),
    "a zone": Case({"TimezoneOffsetFromUTC": "-0330"}),
    "no geometry": Case({"PatientOrientation": None, "ImagerPixelSpacing": None}),
    "a whole series": Case(_SLICE, reading=_OF_CT, images=3, order={"expected": 3, "completeness": "confirmed"}),
    "missing slices": Case(_SLICE, reading=_OF_CT, images=3, order={"expected": 5, "completeness": "unconfirmed"}),
    "nothing optional": Case(dict.fromkeys(_OPTIONAL.split())),
    "wrong values": Case(
        {"PatientSex": "f", "PatientBirthDate": "1960", "StudyTime": "10:11:12", "StudyDate": "2025-06-15"}
    ),
    "long names": Case(
        {"PatientName": "Ümläut" * 12 + "^X", "PatientID": "9" * 70, "SpecificCharacterSet": "ISO_IR 100"}
    ),
    "three groups": Case(
        {"PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう", "SpecificCharacterSet": ["", "ISO 2022 IR 87"]}
    ),
    "cyrillic": Case({"PatientName": "Люкceмбypг", "SpecificCharacterSet": "ISO_IR 144"}),  # noqa: RUF001 Cyrillic
    "unicode": Case({"PatientName": "Wang^XiaoDong=王^小东", "SpecificCharacterSet": "ISO_IR 192"}),
    "chinese": Case({"PatientName": "Wang^XiaoDong=王^小东", "SpecificCharacterSet": "GB18030"}),
}
