"""A structured report built in full by highdicom: the proof of the quick way, and its fallback."""

from __future__ import annotations

import io
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pydicom.config
from highdicom import ContributingEquipment
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import Comprehensive3DSR, ComprehensiveSR, EnhancedSR
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from wetread_gateway.results import codes as ours
from wetread_gateway.results.content import MANUFACTURER, ImageFacts
from wetread_gateway.results.lean import lean, widen
from wetread_gateway.results.order import ObjectKind, ObjectReference
from wetread_gateway.results.tree import tree
from wetread_gateway.results.uids import (
    series_uid,
    uid_of,
)
from wetread_gateway.spool.meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from wetread_gateway.state.tables import WorkKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wetread_gateway.results.content import ContentFacts
    from wetread_gateway.results.order import ReportOrder
    from wetread_gateway.results.segments import SegmentationFacts
    from wetread_gateway.results.source import Request, Source

MODEL = "Wetread gateway"
_CLASSES = {
    ObjectKind.SR_COMPREHENSIVE_3D: Comprehensive3DSR,
    ObjectKind.SR_COMPREHENSIVE: ComprehensiveSR,
    ObjectKind.SR_ENHANCED: EnhancedSR,
}
SOP_CLASSES = {
    ObjectKind.SR_COMPREHENSIVE_3D: Comprehensive3DSRStorage,
    ObjectKind.SR_COMPREHENSIVE: ComprehensiveSRStorage,
    ObjectKind.SR_ENHANCED: EnhancedSRStorage,
    ObjectKind.CAPTURE: SecondaryCaptureImageStorage,
    ObjectKind.KEY_OBJECTS: KeyObjectSelectionDocumentStorage,
    ObjectKind.SEGMENTATION: SegmentationStorage,
}
# Series numbers of ours: far from those of modalities, told apart by kind.
SERIES_NUMBERS = {
    ObjectKind.SR_COMPREHENSIVE_3D: 9001,
    ObjectKind.SR_COMPREHENSIVE: 9002,
    ObjectKind.SR_ENHANCED: 9003,
    ObjectKind.CAPTURE: 9004,
    ObjectKind.KEY_OBJECTS: 9005,
    ObjectKind.SEGMENTATION: 9006,
}


@contextmanager
def as_it_is() -> Iterator[None]:
    """Let values of a source stand that pydicom would warn of: names and identifiers must match their study."""
    with pydicom.config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def put(dataset: Dataset, keyword: str, vr: str, value: object) -> None:
    """Set an attribute as it is, unchecked: names and identifiers of a source must match their study."""
    tag = tag_for_keyword(keyword)
    assert tag is not None
    dataset.add(DataElement(tag, vr, value, validation_mode=pydicom.config.IGNORE))


def equipment(order: ReportOrder) -> ContributingEquipment:
    """Give the Contributing Equipment item by which our objects are known, with the release."""
    reading = order.reading
    which = f"{reading.pipeline}, release {reading.release} ({reading.arm} arm)"
    return ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=ours.PROCESSING_EQUIPMENT,
        manufacturer_model_name=reading.algorithm[:64],
        software_versions=f"release {reading.release}",
        contribution_description=f"{which}: preliminary AI reading",
    )


def source_dataset(source: Source) -> Dataset:
    """Give the decoded, repaired, pixel-free copy of a source that highdicom takes patient and study from."""
    with as_it_is():
        made = ImageFacts.of(source).dataset()
        made.SpecificCharacterSet = "ISO_IR 192"
        made.StudyInstanceUID, made.SeriesInstanceUID = source.study_instance_uid, source.series_instance_uid
    for keyword, vr, value in source.attributes:
        put(made, keyword, vr, value)
    return made


def request_item(request: Request) -> Dataset:
    """Give an item of the Referenced Request Sequence (PS3.3, table C.17-2)."""
    item = Dataset()
    put(item, "AccessionNumber", "SH", request.accession_number)
    put(item, "ReferencedStudySequence", "SQ", [])
    put(item, "StudyInstanceUID", "UI", request.study_instance_uid)
    put(item, "RequestedProcedureDescription", "LO", request.procedure_description)
    put(item, "RequestedProcedureCodeSequence", "SQ", [])
    put(item, "RequestedProcedureID", "SH", request.procedure_id)
    put(item, "PlacerOrderNumberImagingServiceRequest", "LO", request.placer_order)
    put(item, "FillerOrderNumberImagingServiceRequest", "LO", request.filler_order)
    return item


def evidence_of(order: ReportOrder, segmentation: SegmentationFacts | None = None) -> list[Dataset]:
    """Give Current Requested Procedure Evidence: the images of the study, and the Segmentation beside the report."""
    own = order.sources[0].study_instance_uid
    rows = [(s.study_instance_uid, s.series_instance_uid, s.sop_class_uid, s.sop_instance_uid) for s in order.sources]
    if segmentation is not None:
        uid = segmentation.sop_instance_uid
        rows.append((own, series_uid(uid), SegmentationStorage, uid))
    return references(row for row in rows if row[0] == own)


def references(rows: Iterable[tuple[str, str, str, str]]) -> list[Dataset]:
    """Group (study, series, SOP class, SOP instance) into items of a Hierarchical SOP Instance Reference."""
    studies: dict[str, dict[str, list[Dataset]]] = {}
    for study, series, sop_class, sop_instance in rows:
        item = Dataset()
        put(item, "ReferencedSOPClassUID", "UI", sop_class)
        put(item, "ReferencedSOPInstanceUID", "UI", sop_instance)
        studies.setdefault(study, {}).setdefault(series, []).append(item)
    made = []
    for study, of_study in studies.items():
        series_items = []
        for series, items in of_study.items():
            series_item = Dataset()
            put(series_item, "SeriesInstanceUID", "UI", series)
            put(series_item, "ReferencedSOPSequence", "SQ", items)
            series_items.append(series_item)
        study_item = Dataset()
        put(study_item, "StudyInstanceUID", "UI", study)
        put(study_item, "ReferencedSeriesSequence", "SQ", series_items)
        made.append(study_item)
    return made


def reference_dataset(reference: ObjectReference) -> Dataset:
    """Give an object of ours as highdicom wants to know of it."""
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = reference.sop_class_uid, reference.sop_instance_uid
    made.StudyInstanceUID, made.SeriesInstanceUID = reference.study_instance_uid, reference.series_instance_uid
    return made


def build_in_full(order: ReportOrder, kind: ObjectKind, facts: ContentFacts) -> Dataset:
    """Build one report with highdicom; whatever is wrong with it raises what highdicom raises."""
    at = order.moment
    uid = order.uid(kind)
    named = lean(facts) if facts.is_lean else facts
    with as_it_is():
        report: Dataset = _CLASSES[kind](
            evidence=[*map(source_dataset, order.sources[: len(named.images)]), *_segmentation_dataset(order, facts)],
            content=tree(named),
            series_instance_uid=series_uid(uid),
            series_number=SERIES_NUMBERS[kind],
            series_description="AI reading, preliminary",
            sop_instance_uid=uid,
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MODEL,
            device_serial_number=f"{order.reading.pipeline}-{order.reading.release}"[:64],
            software_versions=f"release {order.reading.release}",
            is_complete=True,
            is_final=False,
            is_verified=False,
            requested_procedures=[request_item(request) for request in order.sources[0].requests] or None,
            previous_versions=[reference_dataset(o) for o in order.predecessors if o.kind.is_report] or None,
            content_date=at.date(),
            content_time=at.time().replace(microsecond=at.microsecond),
            coding_schemes=[private_scheme()] if order.kind is WorkKind.WITHDRAW else None,
        )
        if facts.is_lean:
            widen(report, facts)
            put(report, "CurrentRequestedProcedureEvidenceSequence", "SQ", evidence_of(order, facts.segmentation))
        report.CompletionFlagDescription = completion_of(order)
        stamp(report, order)
    return report


def _segmentation_dataset(order: ReportOrder, facts: ContentFacts) -> Iterator[Dataset]:
    if facts.segmentation is not None:
        uid = facts.segmentation.sop_instance_uid
        kind = ObjectKind.SEGMENTATION
        yield reference_dataset(ObjectReference(SOP_CLASSES[kind], uid, order.sources[0].study_instance_uid, kind))


def completion_of(order: ReportOrder) -> str:
    """Give Completion Flag Description (LO, 64 characters)."""
    if order.kind is WorkKind.WITHDRAW:
        return "Withdrawal of an earlier report"
    if order.reading.refusal is not None:
        return "The algorithm refused the images"
    if order.completeness == "single":
        return "All findings of the algorithm on this image"
    return f"Read {len(order.sources)} of {order.expected or 'unknown'} images, {order.completeness}"[:64]


def private_scheme() -> CodingSchemeIdentificationItem:
    """Say what our private codes are (PS3.3, C.12.1.1.1)."""
    return CodingSchemeIdentificationItem(
        designator=ours.PRIVATE_SCHEME,
        name="Codes of the Wetread gateway",
        version="1",
        registry=None,
        uid=uid_of("coding-scheme"),
        external_id=None,
        responsible_organization="Wetread",
    )


def stamp(dataset: Dataset, order: ReportOrder) -> None:
    """Set what highdicom takes from the clock or from itself to what this order says."""
    at = order.moment
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = f"{at:%Y%m%d}", f"{at:%H%M%S.%f}"
    dataset.TimezoneOffsetFromUTC = f"{at:%z}"
    if "ContentDate" in dataset:
        dataset.ContentDate, dataset.ContentTime = f"{at:%Y%m%d}", f"{at:%H%M%S.%f}"
    dataset.ContributingEquipmentSequence = [equipment(order)]  # without highdicom's own item and its wall clock
    dataset.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    dataset.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME


def to_bytes(dataset: Dataset) -> bytes:
    """Write a Part-10 file; sequences of the content tree with undefined lengths, as the quick way has them."""
    if "ContentSequence" in dataset:
        loosen(dataset, "ContentSequence")
    buffer = io.BytesIO()
    with as_it_is():
        dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def loosen(dataset: Dataset, keyword: str) -> None:
    """Give a sequence and all below it undefined lengths: its parts can then be cut and joined."""
    dataset[keyword].is_undefined_length = True
    for item in dataset[keyword].value:
        item.is_undefined_length_sequence_item = True
        for element in item:
            if element.VR == "SQ":
                loosen(item, element.keyword)
