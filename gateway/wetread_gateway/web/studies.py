"""Looks up what became of a study, or of the instances of one request."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from sqlalchemy import select

from wetread_gateway.errors import CannotReport, SiblingAway, SourceMissing
from wetread_gateway.priority import Priority
from wetread_gateway.reading.segmentation import StoredSegmentation
from wetread_gateway.reading.stored import StoredReading
from wetread_gateway.results.intended_use import judge
from wetread_gateway.results.source import Source
from wetread_gateway.siblings import Held
from wetread_gateway.state.tables import DELIVERIES, EVENTS, INSTANCES, READINGS, SEGMENTATIONS, WORKS
from wetread_gateway.web.models import (
    CodeAnswer,
    DeliveryAnswer,
    EventAnswer,
    FindingAnswer,
    ReadingAnswer,
    RefusalAnswer,
    SegmentAnswer,
    StudyAnswer,
    WorkAnswer,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.engine import Connection
    from wetread_client.card import Code

    from wetread_gateway.context import Context
    from wetread_gateway.state.store import AnyRow

_MOST_EVENTS = 1000


def study(context: Context, study_uid: str) -> StudyAnswer | None:
    """Give what is known of a study, None when nothing is."""
    with context.store.read() as connection:
        instances = instances_of(connection, study_uid)
        works = works_of(connection, study_uid)
        ids = [work.id for work in works]
        readings = readings_of(connection, ids)
        deliveries = connection.execute(
            select(DELIVERIES).where(DELIVERIES.c.work_id.in_(ids)).order_by(DELIVERIES.c.id)
        ).all()
        events = connection.execute(
            select(EVENTS).where(EVENTS.c.study_uid == study_uid).order_by(EVENTS.c.id.desc()).limit(_MOST_EVENTS)
        ).all()
    if not instances and not works and not events:
        return None
    by_id = {row.id: row for row in instances}
    return StudyAnswer(
        study_uid=study_uid,
        instances=dict(Counter(row.state for row in instances)),
        works=[work_answer(context, work, by_id, readings.get(work.id)) for work in works],
        deliveries=[_delivery(row) for row in deliveries],
        timeline=[EventAnswer(row.at, row.stage, row.message, row.detail) for row in reversed(events)],
    )


def instances_of(connection: Connection, study_uid: str) -> Sequence[AnyRow]:
    """Give a study's instances."""
    return connection.execute(
        select(INSTANCES).where(INSTANCES.c.study_uid == study_uid).order_by(INSTANCES.c.id)
    ).all()


def works_of(connection: Connection, study_uid: str) -> Sequence[AnyRow]:
    """Give a study's works."""
    return connection.execute(select(WORKS).where(WORKS.c.study_uid == study_uid).order_by(WORKS.c.id)).all()


def readings_of(connection: Connection, works: Sequence[int]) -> dict[int, StoredReading]:
    """Give the readings that these works have."""
    # Heatmaps and labels are large, and nobody here shows them.
    columns = (READINGS.c.work_id, READINGS.c.document, SEGMENTATIONS.c.document.label("segmentation"))
    both = READINGS.outerjoin(SEGMENTATIONS, SEGMENTATIONS.c.work_id == READINGS.c.work_id)
    rows = connection.execute(select(*columns).select_from(both).where(READINGS.c.work_id.in_(works))).all()
    return {row.work_id: StoredReading.parse(row.document, None, _segmentation(row)) for row in rows}


def _segmentation(row: AnyRow) -> StoredSegmentation | None:
    return None if row.segmentation is None else StoredSegmentation.parse(row.segmentation, b"")


def work_answer(
    context: Context, work: AnyRow, instances: Mapping[int, AnyRow], reading: StoredReading | None
) -> WorkAnswer:
    """Tell of one work; `instances`: those of its study by id."""
    sources = [instances[source] for source in work.sources if source in instances]
    return WorkAnswer(
        id=work.id,
        kind=work.kind,
        state=work.state,
        pipeline=work.pipeline,
        rule=work.rule,
        priority=Priority(work.priority).name.lower(),
        number=work.number,
        study_uid=work.study_uid,
        instance_uids=[row.sop_uid for row in sources],
        completeness=work.completeness,
        expected=work.expected,
        reason=work.reason,
        reading=None if reading is None else _reading(reading, _reasons(context, work, sources, reading)),
    )


def _reasons(context: Context, work: AnyRow, sources: Sequence[AnyRow], reading: StoredReading) -> tuple[str, ...]:
    """Say why nothing may be called present or absent, by the rule that the reports go by."""
    if not reading.findings and reading.segmentation is None:
        return ()
    try:
        first = sources[0]
        with context.siblings.borrowed([Held(first.home, first.path, first.study_uid)]) as (file,):
            source = Source.of_file(file)
    except (CannotReport, FileNotFoundError, SourceMissing, SiblingAway, IndexError):
        return ("the source image can no longer be looked at",)
    return judge(source, reading, bool(work.options.get("unknown_age_is_inside")))


def _reading(reading: StoredReading, undetermined: tuple[str, ...]) -> ReadingAnswer:
    refusal = reading.refusal
    return ReadingAnswer(
        pipeline=reading.pipeline,
        release=reading.release,
        arm=reading.arm,
        algorithm=reading.algorithm,
        read_at=reading.read_at,
        findings=[
            FindingAnswer(
                label=finding.label,
                codes=_codes(finding.codes),
                probability=None if undetermined else finding.probability,
                positive=None if undetermined else finding.positive,
                threshold=finding.threshold,
                source_uid=finding.source_uid,
            )
            for finding in reading.findings
        ],
        segments=[
            SegmentAnswer(segment.label, _codes(segment.codes), None if undetermined else segment.volume_ml)
            for segment in (reading.segmentation.segments if reading.segmentation else ())
        ],
        undetermined=list(undetermined),
        novelty=None if reading.novelty is None or not math.isfinite(reading.novelty) else reading.novelty,
        warnings=list(reading.warnings),
        refusal=None if refusal is None else RefusalAnswer(refusal.code, refusal.reason),
    )


def _codes(codes: Sequence[Code]) -> list[CodeAnswer]:
    return [CodeAnswer(code.scheme, code.value, code.meaning) for code in codes]


def _delivery(row: AnyRow) -> DeliveryAnswer:
    return DeliveryAnswer(
        work=row.work_id,
        destination=row.destination,
        state=row.state,
        objects=row.objects,
        attempts=row.attempts,
        confirmed_by=row.confirmed_by,
        reason=row.reason,
        created_at=row.created_at,
        stored_at=row.stored_at,
        delivered_at=row.delivered_at,
    )
