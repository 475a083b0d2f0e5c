"""The tree of TID 1500 that highdicom makes of a report's facts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

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
    ReferencedSegment,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.sr.codedict import codes
from pydicom.uid import SegmentationStorage

from wetread_gateway.results import codes as ours
from wetread_gateway.results.content import DEVICE_NAME, MANUFACTURER
from wetread_gateway.results.uids import DEVICE_UID

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.sr.coding import Code

    from wetread_gateway.results.content import ContentFacts, FindingFacts
    from wetread_gateway.results.segments import SegmentFacts

_Group: TypeAlias = "MeasurementsAndQualitativeEvaluations | VolumetricROIMeasurementsAndQualitativeEvaluations"


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


def _group(facts: ContentFacts, finding: FindingFacts) -> _Group:
    if finding.segment is not None:
        return _segment_group(facts, finding, finding.segment)
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=finding.tracking_uid, identifier=finding.tracking_id),
        algorithm_id=_algorithm(facts),
        measurements=None
        if finding.probability is None
        else [Measurement(name=ours.PROBABILITY, value=finding.probability, unit=ours.NO_UNITS)],
        qualitative_evaluations=[QualitativeEvaluation(name=finding.name, value=finding.value)],
        source_images=_images(facts, finding),
    )


def _segment_group(facts: ContentFacts, finding: FindingFacts, segment: SegmentFacts) -> _Group:
    """TID 1411 where the Segmentation shows the segment, TID 1501 where it is not there or nothing may be told."""
    common: dict[str, Any] = {
        "tracking_identifier": TrackingIdentifier(uid=finding.tracking_uid, identifier=finding.tracking_id),
        "finding_type": finding.name,
        "finding_category": segment.category,
        "algorithm_id": _algorithm(facts),
        "measurements": None
        if segment.volume_ml is None
        else [Measurement(name=ours.VOLUME, value=segment.volume_ml, unit=ours.MILLILITRE)],
        "qualitative_evaluations": [QualitativeEvaluation(name=finding.name, value=finding.value)],
    }
    if facts.segmentation is None or not segment.is_stored:
        return MeasurementsAndQualitativeEvaluations(**common, source_images=_images(facts, finding))
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        **common,
        referenced_segment=ReferencedSegment(
            sop_class_uid=SegmentationStorage,
            sop_instance_uid=facts.segmentation.sop_instance_uid,
            segment_number=segment.number,
            source_series=SourceSeriesForSegmentation(facts.segmentation.source_series_uid),
        ),
    )


def _images(facts: ContentFacts, finding: FindingFacts) -> list[SourceImageForMeasurementGroup]:
    return [
        SourceImageForMeasurementGroup(
            referenced_sop_class_uid=facts.images[place].sop_class_uid,
            referenced_sop_instance_uid=facts.images[place].sop_instance_uid,
        )
        for place in finding.images
    ]


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
