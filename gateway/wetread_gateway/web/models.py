"""What the HTTP door answers with; nothing here names a patient."""

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class CodeAnswer:
    """A coded concept."""

    scheme: str
    value: str
    meaning: str


@dataclass(frozen=True, slots=True)
class FindingAnswer:
    """One finding. `probability` and `positive` are null where nothing may be said: see `undetermined`."""

    label: str
    codes: list[CodeAnswer]
    probability: float | None
    positive: bool | None
    threshold: float
    source_uid: str


@dataclass(frozen=True, slots=True)
class SegmentAnswer:
    """One segment of a series. `volume_ml` is null where nothing may be said: see `undetermined`."""

    label: str
    codes: list[CodeAnswer]
    volume_ml: float | None


@dataclass(frozen=True, slots=True)
class RefusalAnswer:
    """Why the pipeline did not read it."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReadingAnswer:
    """What a release said. `undetermined`: why nothing is called present or absent; empty: the findings hold."""

    pipeline: str
    release: int
    arm: str
    algorithm: str
    read_at: float
    findings: list[FindingAnswer]
    segments: list[SegmentAnswer]
    undetermined: list[str]
    novelty: float | None
    warnings: list[str]
    refusal: RefusalAnswer | None


@dataclass(frozen=True, slots=True)
class WorkAnswer:
    """One piece of work: what was read as one, or is to be."""

    id: int
    kind: str
    state: str
    pipeline: str
    rule: str
    priority: str
    number: int
    study_uid: str
    instance_uids: list[str]
    completeness: str
    expected: int | None
    reason: str
    reading: ReadingAnswer | None


@dataclass(frozen=True, slots=True)
class InstanceAnswer:
    """What became of one instance; `state` is `received` until it has been sorted."""

    sop_uid: str
    state: str
    reason: str
    rule: str


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """The answer to `POST /v1/read`; `failed` says of what was sent but not stored why."""

    study_uid: str
    state: Literal["read", "waiting"]
    works: list[WorkAnswer]
    instances: list[InstanceAnswer]
    failed: list[str]


@dataclass(frozen=True, slots=True)
class DeliveryAnswer:
    """One work's results on their way to one destination."""

    work: int
    destination: str
    state: str
    objects: list[str]
    attempts: int
    confirmed_by: str
    reason: str
    created_at: float
    stored_at: float | None
    delivered_at: float | None


@dataclass(frozen=True, slots=True)
class EventAnswer:
    """A line of the timeline."""

    at: float
    stage: str
    message: str
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StudyAnswer:
    """What became of a study. `instances`: how many are in each state."""

    study_uid: str
    instances: dict[str, int]
    works: list[WorkAnswer]
    deliveries: list[DeliveryAnswer]
    timeline: list[EventAnswer]


@dataclass(frozen=True, slots=True)
class HealthAnswer:
    """Whether the door can serve; `problems` says what stands against it."""

    status: Literal["ok", "not ready"]
    problems: list[str]
