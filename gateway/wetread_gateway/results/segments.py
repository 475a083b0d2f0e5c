"""What a report says of the segments of a series, and whether a Segmentation stands beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom.sr.coding import Code

from wetread_gateway.results.order import ObjectKind
from wetread_gateway.state.tables import WorkKind

if TYPE_CHECKING:
    from wetread_client.card import Code as CardCode

    from wetread_gateway.reading.segmentation import StoredSegmentation
    from wetread_gateway.results.order import ReportOrder

_MEANING = 64  # characters that Code Meaning holds


@dataclass(frozen=True, slots=True)
class SegmentFacts:
    """A finding that is a segment. `number`: in the Segmentation, from 1. `volume_ml`: None where nothing may be told.

    `is_stored`: the Segmentation of this report shows it.
    """

    number: int
    category: Code
    volume_ml: float | None
    is_stored: bool


@dataclass(frozen=True, slots=True)
class SegmentationFacts:
    """The Segmentation beside a report: its UID, and the series that it segments."""

    sop_instance_uid: str
    source_series_uid: str


def beside(order: ReportOrder, *, told: bool) -> SegmentationFacts | None:
    """Give the Segmentation that is built with the report; None: there is none."""
    segmentation = order.reading.segmentation
    is_wanted = ObjectKind.SEGMENTATION in order.wanted and order.kind is not WorkKind.WITHDRAW and told
    if segmentation is None or not is_wanted or obstacle(order, segmentation):
        return None
    first = next(source for source in order.sources if source.uid == segmentation.sop_uids[0])
    return SegmentationFacts(order.uid(ObjectKind.SEGMENTATION), first.series_instance_uid)


def obstacle(order: ReportOrder, segmentation: StoredSegmentation) -> str:
    """Say why no Segmentation can be made of a reading; empty: it can."""
    sources = {source.uid: source for source in order.sources}
    used = [sources.get(uid) for uid in dict.fromkeys(segmentation.sop_uids)]
    if segmentation.is_empty:
        return "no pixel belongs to a segment"
    if None in used:
        return "an image that it shows is not among those of this report"
    if not all(source is not None and source.frame_of_reference_uid for source in used):
        return "the images name no Frame of Reference"
    kinds = {(s.series_instance_uid, s.frame_of_reference_uid) for s in used if s is not None}
    if len(kinds) > 1 or (len(used) > 1 and any(segmentation.frames)):
        return "its images are of several series, multi-frame objects or Frames of Reference"
    return ""


def plain(code: CardCode) -> Code:
    """Give a code of a release's card as DICOM has it."""
    return Code(code.value, code.scheme, code.meaning[:_MEANING])
