"""What goes over HTTP between the worklist and a reader elsewhere."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import asdict, replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from wetread_client.card import Reference

from wetread_gateway.priority import Priority
from wetread_gateway.reading.segmentation import StoredSegmentation
from wetread_gateway.reading.stored import StoredReading
from wetread_gateway.reading.worklist import Failure, FailureKind, Lease, LeasedSource, Served

_LARGEST = 2**63 - 1
Name = Annotated[str, Field(min_length=1, max_length=48, pattern=r"^[A-Za-z0-9_.:-]+$")]
Model = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_.:-]*$")]
Work = Annotated[int, Field(ge=1, le=_LARGEST)]
_READING = TypeAdapter(StoredReading)
_SEGMENTATION = TypeAdapter(StoredSegmentation)


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServedDocument(_Document):
    """A pipeline's arm."""

    pipeline: Model
    arm: Model


class Wanted(_Document):
    """What a reader wants to lease."""

    owner: Name
    n: int = Field(default=1, ge=1, le=128)
    stat_only: bool = False
    without: list[ServedDocument] = Field(default=[], max_length=256)


class Owner(_Document):
    """A reader's name."""

    owner: Name


class Token(_Document):
    """The token of the lease."""

    token: Work


class SegmentationDocument(_Document):
    """A segmentation without its labels, and those, zlib-compressed, in base64."""

    document: dict[str, Any]
    labels: str

    def parsed(self) -> StoredSegmentation:
        """Give the segmentation; ValueError when it is none."""
        labels = base64.b64decode(self.labels, validate=True)
        segmentation = _SEGMENTATION.validate_python({**self.document, "labels": labels})
        segmentation.pixels()  # that they are as many as it says
        json.dumps(segmentation.document(), allow_nan=False)
        return segmentation


class Completion(Token):
    """A reading without its heatmap, that, zlib-compressed, in base64, and what segmentation it has."""

    reading: dict[str, Any]
    heatmap: str | None = None
    segmentation: SegmentationDocument | None = None
    reference: dict[str, Any] | None = None

    @classmethod
    def of(cls, token: int, reading: StoredReading) -> dict[str, Any]:
        """Give the JSON of a reading."""
        heatmap = None if reading.heatmap is None else base64.b64encode(reading.heatmap).decode()
        content = {"token": token, "reading": reading.document(), "heatmap": heatmap}
        if reading.reference is not None:
            content["reference"] = asdict(reading.reference)
        if (kept := reading.segmentation) is not None:
            content["segmentation"] = {"document": kept.document(), "labels": base64.b64encode(kept.labels).decode()}
        return content

    def parsed(self) -> StoredReading:
        """Give the reading; ValueError when it is none."""
        heatmap = None if self.heatmap is None else base64.b64decode(self.heatmap, validate=True)
        content = {**self.reading, "heatmap": heatmap, "reference": _reference(self.reference)}
        reading = _READING.validate_python(content)
        json.dumps(reading.document(), allow_nan=False)  # no JSON has them, and PostgreSQL takes none
        return reading if self.segmentation is None else replace(reading, segmentation=self.segmentation.parsed())


class FailureDocument(Token):
    """Why a work comes back unread."""

    kind: FailureKind
    code: str = Field(max_length=64)
    reason: str = Field(max_length=1024)
    wait_s: float = Field(default=0.0, ge=0.0, le=3600.0)

    def parsed(self) -> Failure:
        """Give the failure."""
        return Failure(self.kind, self.code, self.reason, self.wait_s)


class LeaseDocument(_Document):
    """A lease; `seconds`: how long it lasts from now, since clocks differ. `sources`: SOP Instance UIDs."""

    work: int
    token: int
    seconds: float
    study_uid: str
    pipeline: str
    arm: str
    priority: int
    any_body_part: bool
    alone: bool
    attempts: int
    sources: list[str]
    has_shadow: bool = False

    @classmethod
    def of(cls, lease: Lease) -> LeaseDocument:
        """Write a lease."""
        return cls(
            work=lease.work,
            token=lease.token,
            seconds=lease.until - time.time(),
            study_uid=lease.study_uid,
            pipeline=lease.served.pipeline,
            arm=lease.served.arm,
            priority=int(lease.priority),
            any_body_part=lease.any_body_part,
            alone=lease.alone,
            attempts=lease.attempts,
            sources=[source.sop_uid for source in lease.sources],
            has_shadow=lease.has_shadow,
        )

    def parsed(self, owner: str) -> Lease:
        """Read a lease of `owner`."""
        return Lease(
            work=self.work,
            token=self.token,
            until=time.time() + self.seconds,
            owner=owner,
            study_uid=self.study_uid,
            served=Served(self.pipeline, self.arm),
            priority=Priority(self.priority),
            any_body_part=self.any_body_part,
            alone=self.alone,
            attempts=self.attempts,
            sources=tuple(LeasedSource(uid) for uid in self.sources),
            has_shadow=self.has_shadow,
        )


class Leases(_Document):
    """Leases, in the order in which they are to be read."""

    leases: list[LeaseDocument]


class GivenBack(_Document):
    """How many works were given back."""

    works: int


def _reference(content: dict[str, Any] | None) -> Reference | None:
    try:
        return None if content is None else Reference.parse(content)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"that is no reference: {error!r}") from error
