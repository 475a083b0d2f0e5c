"""Turns readings into objects: each is durable before a delivery of it exists, and built again it is the same."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

from sqlalchemy import select

from wetread_gateway.drift.counting import Counting
from wetread_gateway.errors import CannotReport, NotStored, SiblingAway, SourceMissing
from wetread_gateway.instance import study_key
from wetread_gateway.metrics import timed
from wetread_gateway.priority import Priority
from wetread_gateway.report_queue import Report, bury, excuse, record, settle, take
from wetread_gateway.results.order import ObjectKind, ObjectReference, ReportOrder
from wetread_gateway.results.reporter import Reporter
from wetread_gateway.results.sources import sources_of
from wetread_gateway.siblings import Held
from wetread_gateway.state.tables import INSTANCES, OBJECTS, WORKS, WorkKind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from wetread_gateway.config.settings import Destination
    from wetread_gateway.context import Context
    from wetread_gateway.reading.stored import StoredReading
    from wetread_gateway.state.store import AnyRow

LOG = logging.getLogger(__name__)

ATTEMPTS = 3
STAT_LOOK_S = 0.01
SIBLING_WAIT_S = 3.0
"""Seconds that a report waits for an intake that did not give its films."""
ROOM = 32 << 20  # bytes

_SR = {
    "comprehensive3d": ObjectKind.SR_COMPREHENSIVE_3D,
    "comprehensive": ObjectKind.SR_COMPREHENSIVE,
    "enhanced": ObjectKind.SR_ENHANCED,
}


def run(context: Context) -> None:
    """Build reports until told to stop. Reporters share the work by its number: `reporter-I-of-N`."""
    words = context.slot.split("-")
    share, of = int(words[1]), int(words[3])
    stage = ReporterStage(context, share, of)
    bell = context.bell("report")
    while not context.stop.is_set():
        if not stage.step():
            bell.wait(0.25)
    bell.close()


class ReporterStage:
    """Builds the reports of every `of`-th work."""

    def __init__(self, context: Context, share: int = 0, of: int = 1) -> None:
        self._context = context
        self._share = share
        self._of = of
        self._reporter = Reporter()
        self._counting = Counting(context)
        self._way = context.right_of_way()

    def step(self) -> int:
        """Take the most urgent works that can be reported now; give how many there were."""
        if self._context.spool.free_bytes() < ROOM:  # on a full disk every report would fail, for no fault of its own
            LOG.error("no room for results: reports wait", extra={"reason": "disk full"})
            return 0
        ready = deque(take(self._context, self._share, self._of))
        done = 0
        while ready:
            if ready[0].priority > Priority.STAT:
                ready.extendleft(reversed(self._stat()))
            work = ready.popleft()
            with timed("report"):
                self._report(work)
            self._context.ring("deliver")
            done += 1
        return done

    def _stat(self) -> Sequence[AnyRow]:
        """Give the STAT works whose turn has come meanwhile; while one is under way nothing routine is begun."""
        while self._way.must_yield() and not self._context.stop.is_set():
            if found := take(self._context, self._share, self._of, stat_only=True):
                return found
            self._context.stop.wait(STAT_LOOK_S)
        return ()

    def _report(self, work: AnyRow) -> None:
        context = self._context
        if work.report_attempts >= ATTEMPTS:
            bury(context, work, f"its report failed {ATTEMPTS} times, or the process died of it; see the log")
            return
        try:
            settled = settle(context, work)
            if settled is None:
                return
            report = self._build(work, settled)
        except CannotReport as error:
            bury(context, work, f"no report can be made: {error}")
        except (FileNotFoundError, SourceMissing):
            bury(context, work, "the source images are no longer in the spool")
        except SiblingAway as error:
            LOG.warning("a report waits for an intake: %s", error, extra={"work": work.id})
            excuse(context, work, SIBLING_WAIT_S)
        except NotStored as error:
            LOG.error("a report was not stored: %s", error, extra={"work": work.id})
            excuse(context, work)
        except Exception:  # outermost loop of one work: its neighbours go on, and it is tried again
            LOG.exception("a report failed", extra={"study": study_key(work.study_uid), "work": work.id})
        else:
            record(context, work, report, lambda connection: self._counting.count(connection, work, settled))

    def _build(self, work: AnyRow, reading: StoredReading) -> Report:
        context = self._context
        wanted = _wanted(context, work, reading)
        if not any(wanted.values()):
            return Report((), {}, ())
        with context.siblings.borrowed(_films(context, work)) as files:
            return self._built(work, reading, wanted, files)

    def _built(
        self, work: AnyRow, reading: StoredReading, wanted: dict[str, frozenset[ObjectKind]], files: list[Path]
    ) -> Report:
        context = self._context
        sources = sources_of(files)
        order = ReportOrder(
            kind=WorkKind(work.kind),
            number=work.number,
            sources=sources,
            reading=reading,
            expected=work.expected,
            completeness=work.completeness,
            predecessors=_predecessors(context, work),
            unknown_age_is_inside=bool(work.options.get("unknown_age_is_inside")),
            wanted=frozenset().union(*wanted.values()),
            study_uid=work.study_uid,
            made_at=None if work.kind == WorkKind.READ else work.created_at,
        )
        shown = next(
            (f for f, s in zip(files, sources, strict=True) if s.sop_instance_uid == reading.heatmap_source_uid),
            files[0],
        )
        built = self._reporter.build(order, shown)
        objects = []
        for thing in built:
            suffix = ".json" if thing.kind is ObjectKind.FHIR else ".dcm"
            path = context.spool.put_result(work.study_uid, thing.sop_instance_uid, thing.data, suffix)
            objects.append((thing, path))
        parcels = {
            name: tuple(thing.sop_instance_uid for thing in built if thing.kind in kinds and thing.sop_class_uid)
            for name, kinds in wanted.items()
        }
        return Report(tuple(objects), parcels, tuple(sorted({repair for s in sources for repair in s.repairs})))


def _wanted(context: Context, work: AnyRow, reading: StoredReading) -> dict[str, frozenset[ObjectKind]]:
    """Give what each destination takes of this work."""
    if reading.refusal is not None and not work.options.get("report_refusals", True):
        return {}
    known = {destination.name: destination for destination in context.settings.destination}
    return {
        name: _kinds(known[name], WorkKind(work.kind), refused=reading.refusal is not None)
        for name in work.destinations
        if name in known
    }


def _kinds(destination: Destination, kind: WorkKind, *, refused: bool) -> frozenset[ObjectKind]:
    kinds = {_SR[destination.sr]} if destination.sr != "none" else set()
    if kind is WorkKind.WITHDRAW:
        kinds.add(ObjectKind.KEY_OBJECTS)
    elif destination.capture and (not refused or not kinds):
        kinds.add(ObjectKind.CAPTURE)
    if destination.seg and kind is not WorkKind.WITHDRAW and not refused:
        kinds.add(ObjectKind.SEGMENTATION)  # made where the reading has one
    if destination.fhir:
        kinds.add(ObjectKind.FHIR)
    return frozenset(kinds)


def _films(context: Context, work: AnyRow) -> list[Held]:
    """Give the work's sources, in order."""
    columns = (INSTANCES.c.id, INSTANCES.c.home, INSTANCES.c.path, INSTANCES.c.study_uid)
    with context.store.read() as connection:
        rows = connection.execute(select(*columns).where(INSTANCES.c.id.in_(work.sources))).all()
    by_id = {row.id: Held(row.home, row.path, row.study_uid) for row in rows}
    return [by_id[source] for source in work.sources]


def _predecessors(context: Context, work: AnyRow) -> tuple[ObjectReference, ...]:
    """Give the objects of what this work follows; none when they were never made, or are another patient's.

    A report of one patient must not name another's: after a correction the withdrawal alone follows the old report.
    """
    if work.predecessor is None:
        return ()
    with context.store.read() as connection:
        rows = connection.execute(
            select(OBJECTS)
            .join(WORKS, WORKS.c.id == OBJECTS.c.work_id)
            .where(OBJECTS.c.work_id == work.predecessor, WORKS.c.patient_digest == work.patient_digest)
        ).all()
    return tuple(
        ObjectReference(row.sop_class, row.sop_uid, row.study_uid, ObjectKind(row.kind))
        for row in rows
        if row.sop_class
    )
