"""What a structured report says: the facts of an order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset

from wetread_gateway.errors import CannotReport
from wetread_gateway.results import codes as ours
from wetread_gateway.results.intended_use import judge
from wetread_gateway.results.segments import SegmentationFacts, SegmentFacts, beside, obstacle, plain
from wetread_gateway.results.uids import uid_of
from wetread_gateway.state.tables import WorkKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydicom.sr.coding import Code

    from wetread_gateway.results.order import ReportOrder
    from wetread_gateway.results.source import Source

DEVICE_NAME = "Wetread gateway"
MANUFACTURER = "Wetread"
LONG = 8
"""Images beyond which a report names what they have in common once."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """One source image, as the image library and the evidence name it."""

    sop_class_uid: str
    sop_instance_uid: str
    modality: str
    """OT where the geometry that the modality's descriptors want is not complete."""
    rows: int
    columns: int
    frame_of_reference_uid: str
    descriptors: tuple[tuple[str, tuple[str, ...]], ...]

    @classmethod
    def of(cls, source: Source) -> ImageFacts:
        """Take what the report says of a source."""
        return cls(
            sop_class_uid=source.sop_class_uid,
            sop_instance_uid=source.sop_instance_uid,
            modality=source.modality if source.descriptors else "OT",
            rows=source.rows,
            columns=source.columns,
            frame_of_reference_uid=source.frame_of_reference_uid,
            descriptors=source.descriptors,
        )

    def dataset(self) -> Dataset:
        """Give what highdicom wants to know of an image."""
        made = Dataset()
        made.SOPClassUID, made.SOPInstanceUID, made.Modality = self.sop_class_uid, self.sop_instance_uid, self.modality
        made.Rows, made.Columns = self.rows, self.columns
        if self.frame_of_reference_uid:
            made.FrameOfReferenceUID = self.frame_of_reference_uid
        for keyword, values in self.descriptors:
            setattr(made, keyword, list(values) if len(values) > 1 else values[0])
        return made


@dataclass(frozen=True, slots=True)
class FindingFacts:
    """One finding: what it is called, whether it is there, how probable that is, and on which images.

    `probability`: None where nothing may be told. `images`: positions among the report's images. `segment`: what more
    there is to say where the finding is a segment.
    """

    tracking_id: str
    tracking_uid: str
    name: Code
    value: Code
    probability: float | None
    images: tuple[int, ...]
    segment: SegmentFacts | None = None


@dataclass(frozen=True, slots=True)
class ContentFacts:
    """All that a report's tree says. `codes`: (concept, value) pairs of the qualitative evaluations' container.

    `segmentation`: the Segmentation that stands beside the report.
    """

    algorithm: str
    version: str
    manufacturer: str
    images: tuple[ImageFacts, ...]
    findings: tuple[FindingFacts, ...]
    codes: tuple[tuple[Code, Code], ...]
    comments: tuple[str, ...]
    circumstances: int
    """How many of the last comments tell of circumstances; those before them tell why nothing is said."""
    segmentation: SegmentationFacts | None = None

    @property
    def is_lean(self) -> bool:
        """Whether the tree names the images' common properties once: that of a film, image by image, grows too long."""
        return len(self.images) > LONG or any(finding.segment is not None for finding in self.findings)


def reasons_of(order: ReportOrder) -> tuple[str, ...]:
    """Give all reasons why nothing may be told of this reading, each once."""
    found = (reason for source in order.sources for reason in judge(source, order.reading, order.unknown_age_is_inside))
    return tuple(dict.fromkeys(found))


def facts_of(order: ReportOrder) -> ContentFacts:
    """Say what the report of `order` says; CannotReport where its reading contradicts itself."""
    reading = order.reading
    reasons = reasons_of(order)
    findings: tuple[FindingFacts, ...] = ()
    segmentation: SegmentationFacts | None = None
    coded: tuple[tuple[Code, Code], ...] = ()
    comments = reasons
    if order.kind is WorkKind.WITHDRAW:
        coded = ((ours.REPORT_STATUS, ours.WITHDRAWN),)
        comments = (
            "An earlier report of these images is withdrawn: it must not be used. "
            "The images have been corrected to another patient or study.",
        )
    elif reading.refusal is not None:
        coded = ((ours.CAD_SUMMARY, ours.NOTHING_SUCCEEDED), (ours.QUALITY, ours.UNUSABLE))
        comments = (f"Not read: {reading.refusal.code}: {reading.refusal.reason}",)
    else:
        segmentation = beside(order, told=not reasons)
        findings = (*_findings(order, told=not reasons), *_segments(order, segmentation, told=not reasons))
        if not findings:
            raise CannotReport("the reading has neither a finding nor a refusal")
    circumstances = _circumstances(order)
    return ContentFacts(
        algorithm=reading.algorithm,
        version=str(reading.release),
        manufacturer=reading.manufacturer,
        images=tuple(map(ImageFacts.of, order.sources)),
        findings=findings,
        codes=coded,
        comments=(*comments, *circumstances),
        circumstances=len(circumstances),
        segmentation=segmentation,
    )


def _findings(order: ReportOrder, *, told: bool) -> tuple[FindingFacts, ...]:
    places = {source.sop_instance_uid: place for place, source in enumerate(order.sources)}
    made = []
    for place, finding in enumerate(order.reading.findings):
        if not (math.isfinite(finding.probability) and 0 <= finding.probability <= 1):
            raise CannotReport(f"the probability of finding {place + 1} is not within 0 and 1")
        if not finding.codes:
            raise CannotReport(f"finding {place + 1} has no code")
        if finding.source_uid and finding.source_uid not in places:
            raise CannotReport(f"finding {place + 1} is of an image that is not among the sources")
        code = finding.codes[0]
        value = ours.UNDETERMINED if not told else ours.PRESENT if finding.positive else ours.ABSENT
        made.append(
            FindingFacts(
                tracking_id=f"{finding.label} {place + 1}",
                tracking_uid=uid_of("finding", *sorted(places), order.kind, order.number, place),
                name=plain(code),
                value=value,
                probability=round(float(finding.probability), 6) if told else None,
                images=(places[finding.source_uid],) if finding.source_uid else tuple(range(len(places))),
            )
        )
    return tuple(made)


def _segments(order: ReportOrder, beside: SegmentationFacts | None, *, told: bool) -> Iterator[FindingFacts]:
    """Give a finding for each segment of the reading: whether any of it is there, and how much."""
    segments = order.reading.segmentation.segments if order.reading.segmentation is not None else ()
    uids = sorted(source.uid for source in order.sources)
    for number, segment in enumerate(segments, 1):
        if not segment.codes:
            raise CannotReport(f"segment {number} has no code")
        place = len(order.reading.findings) + number
        yield FindingFacts(
            tracking_id=f"{segment.label} {place}",
            tracking_uid=uid_of("finding", *uids, order.kind, order.number, place - 1),
            name=plain(segment.codes[0]),
            value=ours.UNDETERMINED if not told else ours.PRESENT if segment.voxels else ours.ABSENT,
            probability=None,
            images=tuple(range(len(uids))),
            segment=SegmentFacts(
                number=number,
                category=plain(segment.category),
                volume_ml=segment.volume_ml if told else None,
                is_stored=beside is not None and segment.voxels > 0,
            ),
        )


def _circumstances(order: ReportOrder) -> tuple[str, ...]:
    """What a reader of the report should know beside its findings."""
    lines = []
    if order.completeness != "single":
        count = len(order.sources)
        lines.append(f"Images read: {count} of {order.expected or 'an unknown number'}")
        if order.completeness != "confirmed":
            lines.append("Completeness of the series is not confirmed")
        elif order.expected is not None and count < order.expected:
            lines.append("The series is not complete")
    lines.extend(f"Note: {warning}" for warning in order.reading.warnings)
    reading = order.reading
    if reading.segmentation is not None and (why := obstacle(order, reading.segmentation)):
        lines.append(f"No Segmentation is stored: {why}")
    which = f"release {reading.release} ({reading.arm} arm)"
    lines.append(f"Wetread {which}, reading {order.number}. Preliminary, not for diagnosis.")
    if order.reading.intended_statement:
        lines.append(f"Intended use: {order.reading.intended_statement}")
    return tuple(lines)
