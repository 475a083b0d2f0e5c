"""What a structured report says: facts of an order, and the tree of TID 1500 that highdicom makes of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from highdicom.sr import (
    AlgorithmIdentification,
    CodeContentItem,
    CodedConcept,
    ContainerContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from wetread_gateway.errors import CannotReport
from wetread_gateway.results import codes as ours
from wetread_gateway.results.intended_use import judge
from wetread_gateway.results.uids import DEVICE_UID, uid_of
from wetread_gateway.state.tables import WorkKind

if TYPE_CHECKING:
    from wetread_gateway.results.order import ReportOrder
    from wetread_gateway.results.source import Source

DEVICE_NAME = "Wetread gateway"
MANUFACTURER = "Wetread"
_SOURCE_UID = "ReferencedSOPInstanceUID"


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

    `probability`: None where nothing may be told. `images`: positions among the report's images.
    """

    tracking_id: str
    tracking_uid: str
    name: Code
    value: Code
    probability: float | None
    images: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ContentFacts:
    """All that a report's tree says. `codes`: (concept, value) pairs of the qualitative evaluations' container."""

    algorithm: str
    version: str
    manufacturer: str
    images: tuple[ImageFacts, ...]
    findings: tuple[FindingFacts, ...]
    codes: tuple[tuple[Code, Code], ...]
    comments: tuple[str, ...]
    circumstances: int
    """How many of the last comments tell of circumstances; those before them tell why nothing is said."""


def reasons_of(order: ReportOrder) -> tuple[str, ...]:
    """Give all reasons why nothing may be told of this reading, each once."""
    found = (reason for source in order.sources for reason in judge(source, order.reading, order.unknown_age_is_inside))
    return tuple(dict.fromkeys(found))


def facts_of(order: ReportOrder) -> ContentFacts:
    """Say what the report of `order` says; CannotReport where its reading contradicts itself."""
    reading = order.reading
    reasons = reasons_of(order)
    findings: tuple[FindingFacts, ...] = ()
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
        findings = _findings(order, told=not reasons)
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
                name=Code(code.value, code.scheme, code.meaning[:64]),
                value=value,
                probability=round(float(finding.probability), 6) if told else None,
                images=(places[finding.source_uid],) if finding.source_uid else tuple(range(len(places))),
            )
        )
    if not made:
        raise CannotReport("the reading has neither a finding nor a refusal")
    return tuple(made)


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
    which = f"release {reading.release} ({reading.arm} arm)"
    lines.append(f"Wetread {which}, reading {order.number}. Preliminary, not for diagnosis.")
    if order.reading.intended_statement:
        lines.append(f"Intended use: {order.reading.intended_statement}")
    return tuple(lines)


def tree(facts: ContentFacts) -> Dataset:
    """Build the root container of a report with highdicom (TID 1500)."""
    datasets = [image.dataset() for image in facts.images]
    groups = [_group(facts, finding) for finding in facts.findings]
    root: Dataset = MeasurementReport(
        observation_context=ObservationContext(
            observer_device_context=ObserverContext(
                observer_type=codes.DCM.Device,
                observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
                    uid=DEVICE_UID,
                    name=DEVICE_NAME,
                    manufacturer_name=MANUFACTURER,
                    model_name=facts.algorithm,
                    serial_number=facts.version,
                ),
            )
        ),
        procedure_reported=ours.IMAGING_PROCEDURE,
        # Where there is no finding, highdicom wants a group all the same: it is taken out below.
        imaging_measurements=groups or [MeasurementsAndQualitativeEvaluations(TrackingIdentifier("1.2.3", "none"))],
        referenced_images=datasets,
    )[0]
    if not groups:
        del root.ContentSequence[-1]
    root.ContentSequence.append(_evaluations(facts))
    return root


def _group(facts: ContentFacts, finding: FindingFacts) -> MeasurementsAndQualitativeEvaluations:
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=finding.tracking_uid, identifier=finding.tracking_id),
        algorithm_id=_algorithm(facts),
        measurements=None
        if finding.probability is None
        else [Measurement(name=ours.PROBABILITY, value=finding.probability, unit=ours.NO_UNITS)],
        qualitative_evaluations=[QualitativeEvaluation(name=finding.name, value=finding.value)],
        source_images=[
            SourceImageForMeasurementGroup(
                referenced_sop_class_uid=facts.images[place].sop_class_uid,
                referenced_sop_instance_uid=facts.images[place].sop_instance_uid,
            )
            for place in finding.images
        ],
    )


def _algorithm(facts: ContentFacts) -> AlgorithmIdentification:
    return AlgorithmIdentification(
        name=facts.algorithm,
        version=facts.version,
        family=ours.ARTIFICIAL_INTELLIGENCE,
        manufacturer=facts.manufacturer,
    )


def _evaluations(facts: ContentFacts) -> ContainerContentItem:
    """TID 1500, Qualitative Evaluations: highdicom reads this container, but cannot build it."""
    container = ContainerContentItem(
        name=ours.QUALITATIVE_EVALUATIONS, relationship_type=RelationshipTypeValues.CONTAINS
    )
    container.ContentSequence = ContentSequence()
    contains = RelationshipTypeValues.CONTAINS
    for name, value in facts.codes:
        container.ContentSequence.append(CodeContentItem(_concept(name), _concept(value), contains))
    for line in facts.comments:
        container.ContentSequence.append(TextContentItem(_concept(ours.COMMENT), line, contains))
    return container


def _concept(code: Code) -> CodedConcept:
    return CodedConcept(code.value, code.scheme_designator, code.meaning)
