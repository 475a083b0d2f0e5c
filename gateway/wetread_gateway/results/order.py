"""What is asked of the reporter, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from wetread_gateway.results.source import Source
from wetread_gateway.results.uids import moment, object_uid, series_uid

if TYPE_CHECKING:
    from datetime import datetime

    from wetread_gateway.reading.stored import StoredReading
    from wetread_gateway.state.tables import WorkKind

__all__ = ["BuiltObject", "ObjectKind", "ObjectReference", "ReportOrder", "Source"]


class ObjectKind(StrEnum):
    """What the reporter can make."""

    SEGMENTATION = "segmentation"  # first, since the report names it: objects are sent in this order
    SR_COMPREHENSIVE_3D = "sr-comprehensive-3d"
    SR_COMPREHENSIVE = "sr-comprehensive"
    SR_ENHANCED = "sr-enhanced"
    CAPTURE = "capture"
    KEY_OBJECTS = "key-objects"
    FHIR = "fhir"

    @property
    def is_report(self) -> bool:
        """Whether it is a structured report."""
        return self in REPORT_KINDS


REPORT_KINDS = (ObjectKind.SR_COMPREHENSIVE_3D, ObjectKind.SR_COMPREHENSIVE, ObjectKind.SR_ENHANCED)


@dataclass(frozen=True, slots=True)
class ObjectReference:
    """An object of ours that was made before: one to be replaced or withdrawn."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    kind: ObjectKind

    @property
    def series_instance_uid(self) -> str:
        """Its series, which follows from its UID."""
        return series_uid(self.sop_instance_uid)


@dataclass(frozen=True, slots=True)
class BuiltObject:
    """One result, ready to be stored: a Part-10 file, or JSON for FHIR (which has no SOP class)."""

    kind: ObjectKind
    sop_instance_uid: str
    sop_class_uid: str
    study_instance_uid: str
    data: bytes


@dataclass(frozen=True, slots=True)
class ReportOrder:
    """Everything that the objects of one piece of work are made of.

    `number`: of the reading of these sources, from 1. `expected`: images that the series should have; None: not told.
    `completeness`: "confirmed", "unconfirmed", "single". `predecessors`: the objects that these replace or withdraw.
    `made_at`: seconds since 1970, when a REUSE or WITHDRAW was decided; None: the reading's own time.
    """

    kind: WorkKind
    number: int
    sources: tuple[Source, ...]
    reading: StoredReading
    expected: int | None
    completeness: str
    predecessors: tuple[ObjectReference, ...]
    unknown_age_is_inside: bool
    wanted: frozenset[ObjectKind]
    study_uid: str
    made_at: float | None = None

    @property
    def at(self) -> float:
        """The time that every date of the objects comes from."""
        return self.reading.read_at if self.made_at is None else self.made_at

    @property
    def moment(self) -> datetime:
        """That time, in the time zone of the images, or of this machine where they name none."""
        return moment(self.at, self.sources[0].timezone)

    def uid(self, kind: ObjectKind) -> str:
        """Give the SOP Instance UID of one of its objects."""
        return object_uid((source.sop_instance_uid for source in self.sources), self.kind, kind, self.number)
