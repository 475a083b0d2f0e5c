"""The Segmentation: the release's labels on the source's own pixels, as DICOM SEG."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from highdicom import (
    AlgorithmIdentificationSequence,
    PixelMeasuresSequence,
    PlaneOrientationSequence,
    PlanePositionSequence,
)
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentDescription
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from wetread_gateway.errors import CannotReport
from wetread_gateway.results import codes as ours
from wetread_gateway.results.content import MANUFACTURER
from wetread_gateway.results.order import ObjectKind
from wetread_gateway.results.report import MODEL, SERIES_NUMBERS, as_it_is, put, source_dataset, stamp
from wetread_gateway.results.segments import plain
from wetread_gateway.results.uids import series_uid, uid_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wetread_gateway.reading.segmentation import StoredSegmentation
    from wetread_gateway.results.content import ContentFacts
    from wetread_gateway.results.order import ReportOrder
    from wetread_gateway.results.source import Source

_LABEL, _DESCRIPTION = "AI_READING", "AI reading, preliminary: segmentation"


def segmentation(order: ReportOrder, facts: ContentFacts) -> Dataset:
    """Build the object with highdicom: BINARY, uncompressed, without empty frames; the same order, the same object.

    Uncompressed since what is compressed with one bit a pixel is read by few.
    """
    kept = order.reading.segmentation
    if kept is None:
        raise CannotReport("the reading has no segmentation")
    uid = order.uid(ObjectKind.SEGMENTATION)
    images = _images(order, kept)
    with as_it_is():
        made: Dataset = Segmentation(
            source_images=images,
            pixel_array=_numbered(kept),
            segmentation_type="BINARY",
            segment_descriptions=list(_descriptions(order, facts, kept)),
            series_instance_uid=series_uid(uid),
            series_number=SERIES_NUMBERS[ObjectKind.SEGMENTATION],
            series_description=_DESCRIPTION,
            sop_instance_uid=uid,
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MODEL,
            software_versions=f"release {order.reading.release}",
            device_serial_number=f"{order.reading.pipeline}-{order.reading.release}"[:64],
            content_label=_LABEL,
            content_description=_DESCRIPTION,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            omit_empty_frames=True,
        )
        made.SpecificCharacterSet = "ISO_IR 192"
        _name_dimensions(made, uid)
        if len(images) < kept.shape[0]:
            _name_frames(made, kept)
        stamp(made, order)
    return made


def _numbered(kept: StoredSegmentation) -> NDArray[np.uint8]:
    """Give the labels as segment numbers, from 1 in the order of the card, as the standard wants them."""
    numbers = np.zeros(256, np.uint8)
    for number, segment in enumerate(kept.segments, 1):
        numbers[segment.value] = number
    labels = kept.pixels()
    return labels if np.array_equal(numbers, _as_they_are(len(kept.segments))) else numbers[labels]


def _as_they_are(count: int) -> NDArray[np.uint8]:
    numbers = np.arange(256, dtype=np.uint8)
    numbers[count + 1 :] = 0
    return numbers


def _descriptions(order: ReportOrder, facts: ContentFacts, kept: StoredSegmentation) -> list[SegmentDescription]:
    findings = [finding for finding in facts.findings if finding.segment is not None]
    algorithm = AlgorithmIdentificationSequence(
        name=order.reading.algorithm[:64],
        family=ours.ARTIFICIAL_INTELLIGENCE,
        version=str(order.reading.release),
    )
    return [
        SegmentDescription(
            segment_number=number,
            segment_label=segment.label[:64],
            segmented_property_category=plain(segment.category),
            segmented_property_type=plain(segment.codes[0]),
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
            tracking_uid=finding.tracking_uid,
            tracking_id=finding.tracking_id,
            display_color=CIELabColor.from_rgb(*segment.colour),
        )
        for number, (segment, finding) in enumerate(zip(kept.segments, findings, strict=True), 1)
    ]


def _images(order: ReportOrder, kept: StoredSegmentation) -> list[Dataset]:
    """Give the images that the labels lie on, in their order, as highdicom wants to know them."""
    sources = {source.uid: source for source in order.sources}
    first = sources[kept.sop_uids[0]]
    thickness = dict(first.descriptors).get("SliceThickness", (f"{_step_mm(kept):.6g}",))[0]
    measures = PixelMeasuresSequence(pixel_spacing=kept.pixel_spacing_mm, slice_thickness=float(thickness))
    whole = source_dataset(first)  # patient and study are taken from it
    if len(set(kept.sop_uids)) < kept.shape[0]:
        return [_multiframe(whole, first, kept, measures)]
    images = [_plane(Dataset(), sources[uid], kept, place) for place, uid in enumerate(kept.sop_uids)]
    images[0] = _plane(whole, first, kept, 0)
    for image in images:
        image.PixelSpacing, image.SliceThickness = measures[0].PixelSpacing, measures[0].SliceThickness
    return images


def _plane(image: Dataset, source: Source, kept: StoredSegmentation, place: int) -> Dataset:
    _identify(image, source, kept)
    image.ImagePositionPatient = _decimals(kept.positions_mm[place])
    image.ImageOrientationPatient = _decimals((*kept.row_direction, *kept.column_direction))
    return image


def _multiframe(image: Dataset, source: Source, kept: StoredSegmentation, measures: PixelMeasuresSequence) -> Dataset:
    """Give a multi-frame image as if it had no other frames than those read, in the order of the slices."""
    _identify(image, source, kept)
    image.NumberOfFrames = kept.shape[0]
    shared = Dataset()
    directions = (*kept.row_direction, *kept.column_direction)
    shared.PlaneOrientationSequence = PlaneOrientationSequence("PATIENT", directions)
    shared.PixelMeasuresSequence = measures
    image.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for position in kept.positions_mm:
        frame = Dataset()
        frame.PlanePositionSequence = PlanePositionSequence("PATIENT", position)
        frames.append(frame)
    image.PerFrameFunctionalGroupsSequence = frames
    return image


def _identify(image: Dataset, source: Source, kept: StoredSegmentation) -> None:
    image.SOPClassUID, image.SOPInstanceUID = source.sop_class_uid, source.sop_instance_uid
    image.StudyInstanceUID, image.SeriesInstanceUID = source.study_instance_uid, source.series_instance_uid
    image.FrameOfReferenceUID, image.Modality = source.frame_of_reference_uid, source.modality
    image.Rows, image.Columns = kept.shape[1], kept.shape[2]


def _name_frames(made: Dataset, kept: StoredSegmentation) -> None:
    """Name frames as the source numbers them: highdicom has numbered the slices."""
    items = {
        id(source): source  # segments of one slice share theirs
        for frame in made.PerFrameFunctionalGroupsSequence
        for derivation in frame.DerivationImageSequence
        for source in derivation.SourceImageSequence
    }
    for item in items.values():
        item.ReferencedFrameNumber = kept.frames[int(item.ReferencedFrameNumber) - 1] + 1


def _name_dimensions(made: Dataset, uid: str) -> None:
    """Give the dimension organization a UID that follows from the object's: highdicom draws one."""
    named = uid_of("dimensions", uid)
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        put(item, "DimensionOrganizationUID", "UI", named)


def _decimals(values: tuple[float, ...]) -> list[str]:
    """Write numbers as decimal strings of at most 16 characters."""
    return [next(text for digits in range(16, 3, -1) if len(text := f"{value:.{digits}g}") <= 16) for value in values]


def _step_mm(kept: StoredSegmentation) -> float:
    """Give the usual distance between two slices."""
    normal = np.cross(kept.row_direction, kept.column_direction)
    distances = np.diff(np.array(kept.positions_mm) @ normal)
    return float(np.median(np.abs(distances))) if len(distances) else 0.0
