"""The attributes around a report's tree, or around a capture's pixels, the quick way: most are the same every time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset, FileMetaDataset

from wetread_gateway.results.inherited import INHERITED
from wetread_gateway.results.report import completion_of, evidence_of, put, references, request_item
from wetread_gateway.results.uids import series_uid

if TYPE_CHECKING:
    from wetread_gateway.results.order import ObjectKind, ReportOrder
    from wetread_gateway.results.source import Source

_INHERITED = {row.keyword for row in INHERITED}
_PER_FILM = _INHERITED | {
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "InstanceCreationDate",
    "InstanceCreationTime",
    "ContentDate",
    "ContentTime",
    "TimezoneOffsetFromUTC",
    "CurrentRequestedProcedureEvidenceSequence",
    "ReferencedRequestSequence",
    "PredecessorDocumentsSequence",
    "CompletionFlagDescription",
    "ContentSequence",
}
# A source with every attribute that can be inherited: what its object takes over tells which ones the class has.
_COMPLETE = {"DA": "20000101", "TM": "000000", "AS": "001Y", "DS": "1", "CS": "O"}


def complete(source: Source) -> Source:
    """Give a source of the same kind that has all attributes."""
    return replace(
        source, attributes=tuple((row.keyword, row.vr, _COMPLETE.get(row.vr, "X")) for row in INHERITED), requests=()
    )


class HeadSkeleton:
    """The attributes of all objects of one kind, release and kind of source, but for those of the film."""

    def __init__(self, built: Dataset) -> None:
        """`built`: such an object, built in full of a `complete` source."""
        self._static = [element for element in built if element.keyword not in _PER_FILM]
        self._kept = {element.keyword for element in built} & _INHERITED
        self._dated = "ContentDate" in built
        self._meta = built.file_meta

    def start(self, order: ReportOrder, kind: ObjectKind, source: Source) -> Dataset:
        """Begin an object of `source`'s patient and study."""
        uid = order.uid(kind)
        at = order.moment
        date, time = f"{at:%Y%m%d}", f"{at:%H%M%S.%f}"
        made = Dataset()
        for element in self._static:
            made[element.tag] = element
        for keyword, vr, value in source.attributes:
            if keyword in self._kept:
                put(made, keyword, vr, value)
        put(made, "StudyInstanceUID", "UI", source.study_instance_uid)
        put(made, "SeriesInstanceUID", "UI", series_uid(uid))
        put(made, "SOPInstanceUID", "UI", uid)
        put(made, "InstanceCreationDate", "DA", date)
        put(made, "InstanceCreationTime", "TM", time)
        if self._dated:
            put(made, "ContentDate", "DA", date)
            put(made, "ContentTime", "TM", time)
        put(made, "TimezoneOffsetFromUTC", "SH", f"{at:%z}")
        made.file_meta = FileMetaDataset()
        made.file_meta.update(self._meta)
        made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
        return made


def report_head(skeleton: HeadSkeleton, order: ReportOrder, kind: ObjectKind) -> Dataset:
    """Give a report without its tree."""
    made = skeleton.start(order, kind, order.sources[0])
    put(made, "CurrentRequestedProcedureEvidenceSequence", "SQ", evidence_of(order))
    if order.sources[0].requests:
        put(made, "ReferencedRequestSequence", "SQ", [request_item(request) for request in order.sources[0].requests])
    before = references(
        (o.study_instance_uid, o.series_instance_uid, o.sop_class_uid, o.sop_instance_uid)
        for o in order.predecessors
        if o.kind.is_report
    )
    if before:
        put(made, "PredecessorDocumentsSequence", "SQ", before)
    put(made, "CompletionFlagDescription", "LO", completion_of(order))
    return made
