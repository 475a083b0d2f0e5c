"""The reading as FHIR R4: a Bundle of DiagnosticReport, Observation and Device, in JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from wetread_gateway.results import codes as ours
from wetread_gateway.results.content import MANUFACTURER
from wetread_gateway.results.order import ObjectKind
from wetread_gateway.results.uids import DEVICE_UID, uuid_of
from wetread_gateway.state.tables import WorkKind

if TYPE_CHECKING:
    from pydicom.sr.coding import Code
    from wetread_client.card import Code as CardCode

    from wetread_gateway.results.content import ContentFacts, FindingFacts
    from wetread_gateway.results.order import ReportOrder

Json = dict[str, object]

# Coding schemes of DICOM as FHIR names them (PS3.16, table 8-1).
_SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "RADLEX": "http://www.radlex.org",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "LN": "http://loinc.org",
    "UCUM": "http://unitsofmeasure.org",
    "UMLS": "http://terminology.hl7.org/CodeSystem/umls",
}
_LOINC_IMAGING = {"system": "http://loinc.org", "code": "18748-4", "display": "Diagnostic imaging study"}
_CATEGORIES = {
    "DiagnosticReport": ("http://terminology.hl7.org/CodeSystem/v2-0074", "RAD", "Radiology"),
    "Observation": ("http://terminology.hl7.org/CodeSystem/observation-category", "imaging", "Imaging"),
}
_IDENTIFIER_TYPES = "http://terminology.hl7.org/CodeSystem/v2-0203"
_DICOM_UID = "urn:dicom:uid"


def bundle(order: ReportOrder, facts: ContentFacts) -> bytes:
    """Give the Bundle of one reading; a withdrawal has status entered-in-error, everything else is preliminary."""
    uid = order.uid(ObjectKind.FHIR)
    device = _entry(_device(order), uid, "device")
    observations = [
        _entry(_observation(order, facts, place, str(device["fullUrl"])), uid, f"observation-{place}")
        for place in range(len(facts.findings))
    ]
    report = _entry(_report(order, facts, uid, observations), uid, "report")
    made = {
        "resourceType": "Bundle",
        "type": "collection",
        "identifier": _dicom_identifier(uid),
        "timestamp": order.moment.isoformat(timespec="milliseconds"),
        "entry": [report, *observations, device],
    }
    return json.dumps(made, ensure_ascii=False, separators=(",", ":")).encode()


def _entry(resource: Json, uid: str, part: str) -> Json:
    return {"fullUrl": f"urn:uuid:{uuid_of('fhir', uid, part)}", "resource": resource}


def _report(order: ReportOrder, facts: ContentFacts, uid: str, observations: list[Json]) -> Json:
    source = order.sources[0]
    made: Json = {
        "resourceType": "DiagnosticReport",
        "identifier": [_dicom_identifier(uid)],
        "status": "entered-in-error" if order.kind is WorkKind.WITHDRAW else "preliminary",
        "category": [_category("DiagnosticReport")],
        "code": {"coding": [_LOINC_IMAGING]},
        "subject": _subject(order),
        "issued": order.moment.isoformat(timespec="milliseconds"),
        "imagingStudy": [{"type": "ImagingStudy", "identifier": _dicom_identifier(source.study_instance_uid)}],
        "conclusion": "\n".join(facts.comments),
    }
    accession = source.by_keyword["AccessionNumber"]
    if accession:
        identifier = {"type": {"coding": [{"system": _IDENTIFIER_TYPES, "code": "ACSN"}]}, "value": accession}
        made["basedOn"] = [{"type": "ServiceRequest", "identifier": identifier}]
    if observations:
        made["result"] = [{"reference": entry["fullUrl"]} for entry in observations]
    return made


def _observation(order: ReportOrder, facts: ContentFacts, place: int, device: str) -> Json:
    finding: FindingFacts = facts.findings[place]
    made: Json = {
        "resourceType": "Observation",
        "identifier": [_dicom_identifier(finding.tracking_uid)],
        "status": "preliminary",
        "category": [_category("Observation")],
        "code": {"coding": [_coding(code.scheme, code.value, code.meaning) for code in _codes(order, finding, place)]},
        "subject": _subject(order),
        "effectiveDateTime": order.moment.isoformat(timespec="seconds"),
        "valueCodeableConcept": {
            "coding": [_coding(finding.value.scheme_designator, finding.value.value, finding.value.meaning)]
        },
        "device": {"reference": device},
        "derivedFrom": [
            {"type": "ImagingStudy", "identifier": _dicom_identifier(order.sources[0].study_instance_uid)},
        ],
    }
    reasons = facts.comments[: len(facts.comments) - facts.circumstances]
    if finding.probability is not None:
        made["component"] = [_component(ours.PROBABILITY, finding.probability, ours.NO_UNITS)]
    elif finding.segment is not None and finding.segment.volume_ml is not None:
        made["component"] = [_component(ours.VOLUME, finding.segment.volume_ml, ours.MILLILITRE)]
    else:
        made["note"] = [{"text": reason} for reason in reasons]
    return made


def _codes(order: ReportOrder, finding: FindingFacts, place: int) -> tuple[CardCode, ...]:
    if finding.segment is None or order.reading.segmentation is None:
        return order.reading.findings[place].codes
    return order.reading.segmentation.segments[finding.segment.number - 1].codes


def _component(name: Code, value: float, unit: Code) -> Json:
    return {
        "code": {"coding": [_coding(name.scheme_designator, name.value, name.meaning)]},
        "valueQuantity": {"value": value, "system": _SYSTEMS["UCUM"], "code": unit.value},
    }


def _device(order: ReportOrder) -> Json:
    family = ours.ARTIFICIAL_INTELLIGENCE
    return {
        "resourceType": "Device",
        "identifier": [_dicom_identifier(DEVICE_UID)],
        "status": "active",
        "manufacturer": order.reading.manufacturer or MANUFACTURER,
        "deviceName": [{"name": order.reading.algorithm, "type": "model-name"}],
        "type": {"coding": [_coding(family.scheme_designator, family.value, family.meaning)]},
        "version": [{"value": str(order.reading.release)}],
    }


def _subject(order: ReportOrder) -> Json:
    own = order.sources[0].by_keyword
    identifier: Json = {"type": {"coding": [{"system": _IDENTIFIER_TYPES, "code": "MR"}]}}
    if own["PatientID"]:
        identifier["value"] = own["PatientID"]
    if own.get("IssuerOfPatientID"):
        identifier["assigner"] = {"display": own["IssuerOfPatientID"]}
    return {"type": "Patient", "identifier": identifier}


def _category(resource: str) -> Json:
    system, code, display = _CATEGORIES[resource]
    return {"coding": [{"system": system, "code": code, "display": display}]}


def _coding(scheme: str, value: str, meaning: str) -> Json:
    return {"system": _SYSTEMS.get(scheme, f"urn:dicom:scheme:{scheme}"), "code": value, "display": meaning}


def _dicom_identifier(uid: str) -> Json:
    return {"system": _DICOM_UID, "value": f"urn:oid:{uid}"}
