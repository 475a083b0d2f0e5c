"""The reporter's part of the state store: which works are ready to be reported, and what became of them."""

from __future__ import annotations

import logging
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import and_, exists, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from wetread_gateway.audit import AuditEvent
from wetread_gateway.instance import study_key
from wetread_gateway.metrics import ALERTS
from wetread_gateway.priority import Priority
from wetread_gateway.reading.segmentation_table import keep_segmentation, reading_of
from wetread_gateway.state.store import note
from wetread_gateway.state.tables import (
    DELIVERIES,
    INSTANCES,
    OBJECTS,
    READINGS,
    WORKS,
    DeliveryState,
    WorkKind,
    WorkState,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from wetread_gateway.context import Context
    from wetread_gateway.reading.stored import StoredReading
    from wetread_gateway.results.order import BuiltObject
    from wetread_gateway.state.store import AnyRow

LOG = logging.getLogger(__name__)

BATCH = 8
_OUT = (WorkState.REPORTED, WorkState.FINISHED)


@dataclass(frozen=True, slots=True)
class Report:
    """What was built of one work: objects and their paths, which of them each destination gets, attributes repaired."""

    objects: tuple[tuple[BuiltObject, str], ...]
    parcels: Mapping[str, tuple[str, ...]]
    repairs: tuple[str, ...]


def take(context: Context, share: int, of: int, *, stat_only: bool = False) -> Sequence[AnyRow]:
    """Give works to report and count the attempt, so that one that kills the process is not tried for ever."""
    before = WORKS.alias()
    never_read = exists().where(
        before.c.id == WORKS.c.predecessor, before.c.state.in_((WorkState.DEAD, WorkState.SUPERSEDED))
    )
    is_out = exists().where(before.c.id == WORKS.c.predecessor, before.c.state.in_(_OUT))
    is_due = or_(
        WORKS.c.state == WorkState.READ,
        and_(WORKS.c.state == WorkState.WAITING, WORKS.c.kind.in_((WorkKind.REUSE, WorkKind.WITHDRAW))),
    )
    query = (
        select(WORKS)
        .where(
            WORKS.c.home == context.home,
            WORKS.c.id % of == share,
            is_due,
            or_(WORKS.c.predecessor.is_(None), is_out, never_read),  # a successor names its predecessor's objects
            WORKS.c.not_before <= time.time(),
            WORKS.c.priority <= (Priority.STAT if stat_only else Priority.ROUTINE),
        )
        .order_by(WORKS.c.priority, WORKS.c.id)
        .limit(BATCH)
    )
    with context.store.read() as connection:
        found = connection.execute(query).all()
    if not found:
        return found
    # One under which a process may have died is taken alone, so that its neighbours do not share the blame.
    found = [work for work in found if not work.report_attempts] or found[:1]
    with context.store.write() as connection:
        ids = [work.id for work in found]
        connection.execute(
            update(WORKS)
            .where(WORKS.c.id.in_(ids))
            .values(report_attempts=WORKS.c.report_attempts + 1, not_before=time.time() + 1.0)
        )
    return found


def settle(context: Context, work: AnyRow) -> StoredReading | None:
    """Give the reading to report, durable; None when there is none and the work has been sent on otherwise."""
    with context.store.read() as connection:
        own = reading_of(connection, work.id)
        theirs = None if own or work.predecessor is None else reading_of(connection, work.predecessor)
    if own is not None:
        return own
    if theirs is None:
        without_reading(context, work)
        return None
    # A correction and a withdrawal tell of what was said before; their own date is the work's.
    row = {"work_id": work.id, "document": theirs.document(), "heatmap": theirs.heatmap, "read_at": theirs.read_at}
    with suppress(IntegrityError), context.store.write() as connection:
        connection.execute(insert(READINGS).values(row))
        keep_segmentation(connection, work.id, theirs.segmentation)
    return theirs


def without_reading(context: Context, work: AnyRow) -> None:
    """The predecessor was never read: read its correction, and withdraw nothing."""
    reads = work.kind == WorkKind.REUSE
    values = (
        {"kind": WorkKind.READ, "state": WorkState.WAITING, "report_attempts": 0, "not_before": 0.0}
        if reads
        else {"state": WorkState.FINISHED, "reason": "nothing to withdraw"}
    )
    with context.store.write() as connection:
        connection.execute(update(WORKS).where(WORKS.c.id == work.id).values(changed_at=time.time(), **values))
        message = "read, since its predecessor never was" if reads else "nothing to withdraw: it was never read"
        note(connection, work.study_uid, "report", message, {"work": work.id})
    if reads:
        context.ring("read")


def record(context: Context, work: AnyRow, report: Report, also: Callable[[Connection], None]) -> None:
    """Make the objects known and their deliveries due, in one transaction; `also`: what else is true with it."""
    now = time.time()
    parcels = {name: uids for name, uids in report.parcels.items() if uids}
    state = WorkState.REPORTED if parcels else WorkState.FINISHED
    uids = [thing.sop_instance_uid for thing, _ in report.objects]
    context.audit.record(AuditEvent("report", "ok", context.slot, work.study_uid, detail={"objects": uids}))
    with context.store.write() as connection:
        held = connection.execute(select(WORKS.c.state).where(WORKS.c.id == work.id).with_for_update()).scalar()
        if held in (*_OUT, WorkState.SUPERSEDED):
            return
        for thing, path in report.objects:
            row = {
                "sop_uid": thing.sop_instance_uid,
                "home": context.home,
                "work_id": work.id,
                "kind": thing.kind,
                "sop_class": thing.sop_class_uid,
                "study_uid": thing.study_instance_uid,
                "path": path,
                "created_at": now,
            }
            connection.execute(insert(OBJECTS).values(row))
        for name, objects in parcels.items():
            connection.execute(
                insert(DELIVERIES).values(
                    work_id=work.id,
                    destination=name,
                    objects=list(objects),
                    state=DeliveryState.WAITING,
                    priority=work.priority,
                    created_at=now,
                )
            )
        connection.execute(
            update(WORKS).where(WORKS.c.id == work.id).values(state=state, changed_at=now, not_before=0.0)
        )
        detail = {"work": work.id, "objects": uids, "destinations": list(parcels), "repaired": list(report.repairs)}
        kinds = Counter(thing.kind.value for thing, _ in report.objects)
        made = ", ".join(sorted(kinds)) or "nothing to send"
        note(connection, work.study_uid, "report", f"built {made}", detail)
        also(connection)
    if state is WorkState.FINISHED:
        for source in source_rows(context, work):
            context.spool.move(source.arrival, source.study_uid, "done")


def excuse(context: Context, work: AnyRow, wait_s: float = 1.0) -> None:
    """Take back the attempt: it was not the work that failed. It is tried again in `wait_s`."""
    values = {"report_attempts": WORKS.c.report_attempts - 1, "not_before": time.time() + wait_s}
    with context.store.write() as connection:
        connection.execute(update(WORKS).where(WORKS.c.id == work.id).values(values))


def bury(context: Context, work: AnyRow, reason: str) -> None:
    """Put a work into the dead letter with its reason."""
    context.audit.record(AuditEvent("report", "failed", context.slot, work.study_uid, detail={"reason": reason[:200]}))
    with context.store.write() as connection:
        connection.execute(
            update(WORKS)
            .where(WORKS.c.id == work.id)
            .values(state=WorkState.DEAD, reason=reason[:1024], changed_at=time.time())
        )
        note(connection, work.study_uid, "alert", reason[:1024], {"work": work.id})
    ALERTS.labels("dead_letter").inc()
    LOG.error("a work went to the dead letter", extra={"study": study_key(work.study_uid), "reason": reason[:200]})
    for row in source_rows(context, work):
        with suppress(FileNotFoundError):
            context.spool.move(row.arrival, row.study_uid, "dead")


def source_rows(context: Context, work: AnyRow) -> Sequence[AnyRow]:
    """Give the arrival and study of a work's source instances that lie in our spool."""
    with context.store.read() as connection:
        columns = (INSTANCES.c.arrival, INSTANCES.c.study_uid)
        ours = INSTANCES.c.id.in_(work.sources) & (INSTANCES.c.home == context.home)
        return connection.execute(select(*columns).where(ours)).all()
