"""The Secondary Capture: a picture of the reading, in the patient's own study."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from highdicom.sc import SCImage
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

from wetread_gateway.results import codes as ours
from wetread_gateway.results.content import MANUFACTURER
from wetread_gateway.results.order import ObjectKind
from wetread_gateway.results.picture import Heat, Words, draw
from wetread_gateway.results.preview import preview
from wetread_gateway.results.report import MODEL, SERIES_NUMBERS, as_it_is, source_dataset, stamp
from wetread_gateway.results.tint import readable, tinted
from wetread_gateway.results.uids import series_uid
from wetread_gateway.state.tables import WorkKind

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image
    from pydicom.sr.coding import Code

    from wetread_gateway.reading.segmentation import StoredSegmentation
    from wetread_gateway.results.content import ContentFacts, FindingFacts
    from wetread_gateway.results.order import ReportOrder
    from wetread_gateway.results.source import Source

_QUALITY = 88
_PLACEHOLDER = np.zeros((8, 16, 3), np.uint8)


def show(made: Dataset, order: ReportOrder, source: Source, facts: ContentFacts, film: Path | None) -> None:
    """Put the picture into a capture; one whose film cannot be decoded here shows the words alone."""
    image = None if film is None else preview(film)
    if image is not None and (segmentation := _told_segmentation(order, facts)) is not None:
        image = tinted(image, segmentation, source.uid)
    picture = draw(image, words_of(order, facts), _heat(order, facts))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY, subsampling=1)  # 4:2:2, as YBR_FULL_422 says
    _fill(made, order, source, picture, buffer.getvalue())


def shown(order: ReportOrder) -> Source:
    """Give the source that the capture shows."""
    for source in order.sources:
        if source.sop_instance_uid == order.reading.heatmap_source_uid:
            return source
    return order.sources[0]


def words_of(order: ReportOrder, facts: ContentFacts) -> Words:
    """Say in a few lines what the report says; nothing here names a patient."""
    reading = order.reading
    told = all(finding.value != ours.UNDETERMINED for finding in facts.findings)
    warnings = facts.comments[: len(facts.comments) - facts.circumstances]
    if facts.findings and not told:
        warnings = ("No probability and no heatmap are shown:", *warnings)
    if order.kind is WorkKind.WITHDRAW:
        results: tuple[str, ...] = ("WITHDRAWN",)
    elif reading.refusal is not None:
        results = ("NOT READ",)
    else:
        results = tuple(
            f"{finding.name.meaning}: {finding.value.meaning.lower()}"
            + ("" if finding.probability is None else f", probability {finding.probability:.2f}")
            + _amount(finding)
            for finding in facts.findings
        )
    at = order.moment
    release = f"release {reading.release} ({reading.arm} arm)"
    notes = (f"{reading.algorithm}, {release}, reading {order.number}, {at:%Y-%m-%d %H:%M %z}",)
    series = () if order.completeness == "single" else facts.comments[-facts.circumstances :][:2]
    return Words(results, warnings, (*series, *notes), _colours(order, facts))


def _told_segmentation(order: ReportOrder, facts: ContentFacts) -> StoredSegmentation | None:
    """Give the segmentation of a reading that may be told."""
    told = any(finding.segment is not None and finding.segment.volume_ml is not None for finding in facts.findings)
    return order.reading.segmentation if told else None


def _colours(order: ReportOrder, facts: ContentFacts) -> tuple[tuple[int, int, int] | None, ...]:
    segmentation = _told_segmentation(order, facts)
    if segmentation is None:
        return ()
    numbers = [0 if finding.segment is None else finding.segment.number for finding in facts.findings]
    return tuple(readable(segmentation.segments[number - 1].colour) if number else None for number in numbers)


def _amount(finding: FindingFacts) -> str:
    told = finding.segment is not None and finding.segment.volume_ml is not None
    return f", {finding.segment.volume_ml:.1f} ml" if told and finding.segment else ""


def _heat(order: ReportOrder, facts: ContentFacts) -> Heat | None:
    """Give the heatmap of the most probable finding that is told to be there; nobody draws one for a negative."""
    if order.reading.heatmap is None or order.kind is WorkKind.WITHDRAW:
        return None
    present = [
        (finding.probability, -place)
        for place, finding in enumerate(facts.findings)
        if finding.probability is not None and order.reading.findings[place].positive
    ]
    values = order.reading.pixels()
    if not present or values is None:
        return None
    place = -max(present)[1]
    return Heat(values[place], facts.findings[place].name.meaning) if place < len(values) else None


def capture_in_full(order: ReportOrder, source: Source) -> Dataset:
    """Build a capture of nothing with highdicom: the proof of the quick way, and its model."""
    uid = order.uid(ObjectKind.CAPTURE)
    reference = source_dataset(source)
    with as_it_is():
        made: Dataset = SCImage.from_ref_dataset(
            ref_dataset=reference,
            pixel_array=_PLACEHOLDER,
            photometric_interpretation="YBR_FULL_422",
            bits_allocated=8,
            coordinate_system="PATIENT",
            series_instance_uid=series_uid(uid),
            series_number=SERIES_NUMBERS[ObjectKind.CAPTURE],
            series_description="AI reading, preliminary: picture",
            sop_instance_uid=uid,
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MODEL,
            software_versions=f"release {order.reading.release}",
            patient_orientation=("L", "F"),
            transfer_syntax_uid=JPEGBaseline8Bit,
        )
        made.copy_patient_and_study_information(reference)
        made.SpecificCharacterSet = "ISO_IR 192"
        stamp(made, order)
    return made


def _fill(made: Dataset, order: ReportOrder, source: Source, picture: Image.Image, jpeg: bytes) -> None:
    at = order.moment
    made.Rows, made.Columns = picture.height, picture.width
    made.PatientOrientation = list(dict(source.descriptors).get("PatientOrientation", ())) or None
    made.Laterality = None  # type 2C, and not known
    made.PixelData = encapsulate([jpeg])
    made["PixelData"].VR = "OB"
    made.DateOfSecondaryCapture, made.TimeOfSecondaryCapture = f"{at:%Y%m%d}", f"{at:%H%M%S.%f}"
    if source.burned_in:
        made.BurnedInAnnotation = source.burned_in  # as it is: our own words name no patient
    made.LossyImageCompression, made.LossyImageCompressionMethod = "01", "ISO_10918_1"
    made.LossyImageCompressionRatio = f"{picture.height * picture.width * 3 / len(jpeg):.1f}"
    reading = order.reading
    shown = "result with the film" if reading.heatmap is None else "heatmap and result over the film"
    if reading.segmentation is not None:
        shown = "result with the fullest slice and its segments"
    made.DerivationDescription = (
        f"{reading.pipeline}, release {reading.release} ({reading.arm} arm): {shown}. Preliminary, not for diagnosis"
    )
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.sop_class_uid, source.sop_instance_uid
    item.PurposeOfReferenceCodeSequence = [_item(ours.DERIVED_FROM)]
    made.SourceImageSequence = [item]


def _item(code: Code) -> Dataset:
    made = Dataset()
    made.CodeValue, made.CodingSchemeDesignator, made.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return made
