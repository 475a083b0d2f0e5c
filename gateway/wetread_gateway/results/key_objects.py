"""The Key Object Selection beside a withdrawal: it names the objects that must not be used (IHE IOCM)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from highdicom.sr import CodedConcept, DeviceObserverIdentifyingAttributes, ObserverContext
from pydicom.sr.codedict import codes

from wetread_gateway.results import codes as ours
from wetread_gateway.results.content import DEVICE_NAME, MANUFACTURER
from wetread_gateway.results.order import ObjectKind
from wetread_gateway.results.report import (
    MODEL,
    SERIES_NUMBERS,
    as_it_is,
    reference_dataset,
    request_item,
    source_dataset,
    stamp,
)
from wetread_gateway.results.uids import DEVICE_UID, series_uid

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from wetread_gateway.results.order import ReportOrder

_DESCRIPTION = "Withdrawn: the images have been corrected to another patient or study"


def key_objects(order: ReportOrder) -> Dataset:
    """Build the document that rejects all predecessors of a withdrawal."""
    uid = order.uid(ObjectKind.KEY_OBJECTS)
    reference = source_dataset(order.sources[0])
    with as_it_is():
        evidence = [_evidence(order, place, reference) for place in range(len(order.predecessors))]
        made: Dataset = KeyObjectSelectionDocument(
            evidence=evidence,
            content=_content(evidence),
            series_instance_uid=series_uid(uid),
            series_number=SERIES_NUMBERS[ObjectKind.KEY_OBJECTS],
            series_description="AI reading, withdrawn",
            sop_instance_uid=uid,
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MODEL,
            requested_procedures=[request_item(request) for request in order.sources[0].requests] or None,
        )
        for item in made.ContentSequence:
            if item.ValueType in {"COMPOSITE", "IMAGE"}:  # TID 2010 gives its references no concept name
                del item.ConceptNameCodeSequence
        made.copy_patient_and_study_information(reference)
        made.SpecificCharacterSet = "ISO_IR 192"
        stamp(made, order)
    return made


def _evidence(order: ReportOrder, place: int, reference: Dataset) -> Dataset:
    """Give a withdrawn object with its patient and study, as highdicom wants it."""
    one = order.predecessors[place]
    made = reference_dataset(one)
    for element in reference:
        if element.keyword not in made and element.keyword not in {"Rows", "Columns"}:
            made.add(element)
    if one.kind in (ObjectKind.CAPTURE, ObjectKind.SEGMENTATION):
        made.Rows = made.Columns = 1  # by which highdicom knows an image
    return made


def _content(evidence: list[Dataset]) -> KeyObjectSelection:
    title = ours.PATIENT_SAFETY
    return KeyObjectSelection(
        document_title=CodedConcept(title.value, title.scheme_designator, title.meaning),
        referenced_objects=evidence,
        observer_device_context=ObserverContext(
            observer_type=codes.DCM.Device,
            observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
                uid=DEVICE_UID, name=DEVICE_NAME, manufacturer_name=MANUFACTURER
            ),
        ),
        description=_DESCRIPTION,
    )
