"""Checks the AI content of our structured reports, which no validator sees: what IHE AI Results asks of them."""

from collections.abc import Iterator

from pydicom.dataset import Dataset

REPORT_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.88.34",
    "1.2.840.10008.5.1.4.1.1.88.33",
    "1.2.840.10008.5.1.4.1.1.88.22",
}
PRESENT, ABSENT, UNDETERMINED = ("52101004", "SCT"), ("272519000", "SCT"), ("373068000", "SCT")
DEVICE, OBSERVER_TYPE, OBSERVER_UID = ("121007", "DCM"), ("121005", "DCM"), ("121012", "DCM")
PROCEDURE, LIBRARY, MEASUREMENTS = ("121058", "DCM"), ("111028", "DCM"), ("126010", "DCM")
GROUP, TRACKING_ID, TRACKING_UID = ("125007", "DCM"), ("112039", "DCM"), ("112040", "DCM")
ALGORITHM, VERSION, FAMILY, AI = ("111001", "DCM"), ("111003", "DCM"), ("111000", "DCM"), ("123110", "DCM")
PROBABILITY, EVALUATIONS, COMMENT = ("122157", "DCM"), ("C0034375", "UMLS"), ("121106", "DCM")
PROCESSING = ("109102", "DCM")
VOLUME, SEGMENT, SEGMENTATION_CLASS = ("118565006", "SCT"), ("121191", "DCM"), "1.2.840.10008.5.1.4.1.1.66.4"
FINDING, CATEGORY = ("121071", "DCM"), ("276214006", "SCT")  # what a group is about, no evaluation


def problems(report: Dataset) -> list[str]:
    """Give everything that is wrong with the AI content of one report."""
    items = list(report.get("ContentSequence", []))
    return [
        *_document(report),
        *_context(items),
        *_images(report, items),
        *_equipment(report),
        *_conclusion(items),
        *(line for group in _groups(items) for line in _group(report, group)),
    ]


def _document(report: Dataset) -> Iterator[str]:
    if report.get("SOPClassUID") not in REPORT_CLASSES:
        yield "not a report of ours"
    template = report.get("ContentTemplateSequence", [])
    if not template or template[0].TemplateIdentifier != "1500":
        yield "the root template is not TID 1500"
    if report.get("VerificationFlag") != "UNVERIFIED":
        yield "nobody has verified it"
    if report.get("PreliminaryFlag") != "PRELIMINARY":
        yield "it is not preliminary"
    if report.get("CompletionFlag") != "COMPLETE" or not report.get("CompletionFlagDescription"):
        yield "completion is not stated"
    if not report.get("TimezoneOffsetFromUTC"):
        yield "its times have no zone"
    for item in _references(report, "PredecessorDocumentsSequence"):
        if item.ReferencedSOPInstanceUID == report.SOPInstanceUID:
            yield "it is its own predecessor"


def _context(items: list[Dataset]) -> Iterator[str]:
    if DEVICE not in {_code(item.ConceptCodeSequence) for item in _named(items, OBSERVER_TYPE)}:
        yield "no device observer"
    if not any(item.get("UID") for item in _named(items, OBSERVER_UID)):
        yield "no device observer UID"
    if not _named(items, PROCEDURE):
        yield "no procedure reported"


def _images(report: Dataset, items: list[Dataset]) -> Iterator[str]:
    evidence = {
        item.ReferencedSOPInstanceUID for item in _references(report, "CurrentRequestedProcedureEvidenceSequence")
    }
    if any(
        study.StudyInstanceUID != report.StudyInstanceUID
        for study in report.get("CurrentRequestedProcedureEvidenceSequence", [])
    ):
        yield "evidence of another study"
    named = {uid for library in _named(items, LIBRARY) for uid in _image_uids([library])}
    if not named:
        yield "no image library"
    segmentations = {
        item.ReferencedSOPInstanceUID
        for item in _references(report, "CurrentRequestedProcedureEvidenceSequence")
        if item.ReferencedSOPClassUID == SEGMENTATION_CLASS
    }
    if evidence - named - segmentations:
        yield "evidence that is not in the image library"
    if segmentations - set(_image_uids(items)):
        yield "a segmentation that no group refers to"
    if set(_image_uids(items)) - evidence:
        yield "an image that is not in the evidence"


def _equipment(report: Dataset) -> Iterator[str]:
    ours = [
        item
        for item in report.get("ContributingEquipmentSequence", [])
        if _code(item.PurposeOfReferenceCodeSequence) == PROCESSING and item.get("Manufacturer") == "Wetread"
    ]
    if not ours or not ours[0].get("SoftwareVersions"):
        yield "no contributing equipment with a release"


def _conclusion(items: list[Dataset]) -> Iterator[str]:
    groups = _groups(items)
    said = [child for container in _named(items, EVALUATIONS) for child in container.get("ContentSequence", [])]
    if not groups and not any(child.ValueType == "CODE" for child in said):
        yield "neither findings nor a coded reason for their absence"
    uids = [child.UID for group in groups for child in _named(group.ContentSequence, TRACKING_UID)]
    if len(set(uids)) != len(uids):
        yield "a tracking UID twice"
    undetermined = any(UNDETERMINED in {value for _, value in _evaluations(group)} for group in groups)
    reasons = [c for c in said if _named([c], COMMENT) and c.TextValue.startswith(("Outside", "Unlike"))]
    if undetermined and not reasons:
        yield "undetermined without a reason"
    if reasons and any({PRESENT, ABSENT} & {value for _, value in _evaluations(group)} for group in groups):
        yield "told although there is a reason not to"


def _group(report: Dataset, group: Dataset) -> Iterator[str]:
    items = list(group.ContentSequence)
    if not any(item.TextValue.strip() for item in _named(items, TRACKING_ID)):
        yield "no tracking identifier"
    if not any(item.get("UID") for item in _named(items, TRACKING_UID)):
        yield "no tracking UID"
    if not any(item.TextValue.strip() for item in _named(items, ALGORITHM)):
        yield "no algorithm name"
    versions = [item.TextValue for item in _named(items, VERSION)]
    equipment = [str(item.get("SoftwareVersions")) for item in report.get("ContributingEquipmentSequence", [])]
    if not versions or not any(text.endswith(f"release {versions[0]}") for text in equipment):
        yield "no algorithm version, or one that is not the release"
    if AI not in {_code(item.ConceptCodeSequence) for item in _named(items, FAMILY)}:
        yield "the algorithm family is not AI"
    if not any(item.ValueType == "IMAGE" for item in items):
        yield "no source image"
    if _named(items, SEGMENT) and not _named(items, ("121232", "DCM")):
        yield "a segment without its source series"
    values = [value for _, value in _evaluations(group)]
    if len(values) != 1 or values[0] not in {PRESENT, ABSENT, UNDETERMINED}:
        yield "not one evaluation as present, absent or undetermined"
    of_segment = bool(_named(items, CATEGORY))
    yield from (_volume if of_segment else _probability)(items, undetermined=UNDETERMINED in values)


def _volume(items: list[Dataset], *, undetermined: bool) -> Iterator[str]:
    numbers = [item for item in items if item.ValueType == "NUM"]
    if undetermined:
        if numbers or _named(items, SEGMENT):
            yield "undetermined with a volume or a segment"
        return
    if len(numbers) != 1 or not _named(numbers, VOLUME) or not numbers[0].get("MeasuredValueSequence"):
        yield "not one volume"
        return
    measured = numbers[0].MeasuredValueSequence[0]
    if _code(measured.MeasurementUnitsCodeSequence) != ("ml", "UCUM") or float(measured.NumericValue) < 0:
        yield "a volume is in millilitres, and none is below 0"


def _probability(items: list[Dataset], *, undetermined: bool) -> Iterator[str]:
    numbers = [item for item in items if item.ValueType == "NUM"]
    if undetermined:
        if numbers:
            yield "undetermined with a probability"
        return
    if len(numbers) != 1 or not _named(numbers, PROBABILITY) or not numbers[0].get("MeasuredValueSequence"):
        yield "not one probability"
        return
    measured = numbers[0].MeasuredValueSequence[0]
    if _code(measured.MeasurementUnitsCodeSequence) != ("1", "UCUM"):
        yield "the unit of a probability is 1"
    if not 0 <= float(measured.NumericValue) <= 1:
        yield "a probability outside 0 to 1"


def _code(sequence: list[Dataset]) -> tuple[str, str]:
    return (sequence[0].CodeValue, sequence[0].CodingSchemeDesignator) if sequence else ("", "")


def _named(items: list[Dataset], name: tuple[str, str]) -> list[Dataset]:
    return [item for item in items if _code(item.get("ConceptNameCodeSequence", [])) == name]


def _groups(items: list[Dataset]) -> list[Dataset]:
    return [
        group
        for container in _named(items, MEASUREMENTS)
        for group in _named(container.get("ContentSequence", []), GROUP)
    ]


def _evaluations(group: Dataset) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    return [
        (_code(item.ConceptNameCodeSequence), _code(item.ConceptCodeSequence))
        for item in group.ContentSequence
        if item.ValueType == "CODE"
        and item.RelationshipType == "CONTAINS"
        and _code(item.ConceptNameCodeSequence) not in (FINDING, CATEGORY)
    ]


def _image_uids(items: list[Dataset]) -> Iterator[str]:
    for item in items:
        if item.ValueType == "IMAGE":
            yield item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        yield from _image_uids(list(item.get("ContentSequence", [])))


def _references(report: Dataset, keyword: str) -> Iterator[Dataset]:
    for study in report.get(keyword, []):
        for series in study.ReferencedSeriesSequence:
            yield from series.ReferencedSOPSequence
