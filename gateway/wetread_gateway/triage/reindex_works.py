"""The works that a spool without its index tells of: by the folder that images are in, and by our results."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select, update

from wetread_gateway.priority import Priority
from wetread_gateway.results.order import ObjectKind
from wetread_gateway.results.uids import object_uid
from wetread_gateway.spool.spool import folder_name
from wetread_gateway.state.store import note
from wetread_gateway.state.tables import (
    DELIVERIES,
    INSTANCES,
    OBJECTS,
    SERIES,
    WORKS,
    DeliveryState,
    InstanceState,
    WorkKind,
    WorkState,
)
from wetread_gateway.triage.arms import FixedArm, fix_arms
from wetread_gateway.triage.placement import fit
from wetread_gateway.triage.works import Made, NewWork, Options, Source, Wanted, digest_of, make

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from wetread_gateway.config.settings import Destination
    from wetread_gateway.context import Context
    from wetread_gateway.triage.placement import Placement

_SR = {
    ObjectKind.SR_COMPREHENSIVE_3D: "comprehensive3d",
    ObjectKind.SR_COMPREHENSIVE: "comprehensive",
    ObjectKind.SR_ENHANCED: "enhanced",
}
# PS3.4, table B.5-1.
_SOP_CLASSES = {
    ObjectKind.SR_COMPREHENSIVE_3D: "1.2.840.10008.5.1.4.1.1.88.34",
    ObjectKind.SR_COMPREHENSIVE: "1.2.840.10008.5.1.4.1.1.88.33",
    ObjectKind.SR_ENHANCED: "1.2.840.10008.5.1.4.1.1.88.22",
    ObjectKind.CAPTURE: "1.2.840.10008.5.1.4.1.1.7",
    ObjectKind.KEY_OBJECTS: "1.2.840.10008.5.1.4.1.1.88.59",
    ObjectKind.SEGMENTATION: "1.2.840.10008.5.1.4.1.1.66.4",
    ObjectKind.FHIR: "",
}
_MOST_READINGS = 32  # of the same sources; results beyond are not found
WHY = "the index was built anew"


@dataclass(frozen=True, slots=True)
class _Result:
    kind: ObjectKind
    sop_uid: str
    path: str


@dataclass(frozen=True, slots=True)
class Group:
    """Instances that one work reads, and the folder that they are in."""

    images: tuple[tuple[int, Placement], ...]
    folder: str


def make_works(context: Context, connection: Connection, groups: Sequence[Group]) -> int:
    """Make the works of groups that read the same images, oldest first; the number of results that were found.

    There are several groups when the images were corrected: each reading belongs to one of them, in their order.
    """
    uids = [placement.item.sop_uid for _, placement in groups[0].images]
    study = groups[0].images[0][1].study_uid
    left, found, holder = list(groups), 0, groups[0]
    for number in range(1, _MOST_READINGS + 1):
        for kind in (WorkKind.WITHDRAW, WorkKind.READ, WorkKind.REUSE):  # a withdrawal is of the reading before
            if not (results := _results(context, study, uids, kind, number)):
                continue
            if kind is not WorkKind.WITHDRAW and left:
                holder = left.pop(0)
            _reported(context, connection, holder, kind, number, results)
            found += len(results)
    for group in left[-1:]:  # those before it were corrected and never read
        _unreported(context, connection, group)
    return found


def _results(context: Context, study: str, uids: Sequence[str], work: WorkKind, number: int) -> list[_Result]:
    found = []
    for kind in ObjectKind:
        uid = object_uid(uids, work, kind, number)
        suffix = ".json" if kind is ObjectKind.FHIR else ".dcm"
        path = context.spool.results / folder_name(study) / f"{folder_name(uid)}{suffix}"
        if path.is_file():
            found.append(_Result(kind, uid, str(path.relative_to(context.spool.root))))
    return found


def _reported(
    context: Context,
    connection: Connection,
    group: Group,
    kind: WorkKind,
    number: int,
    results: Sequence[_Result],
) -> None:
    """Note a work whose results are there, and send them where it is not known that they arrived."""
    state = WorkState.REPORTED if group.folder == "studies" else WorkState.FINISHED
    work = _insert(context, connection, group, kind, number, state)
    now, study = time.time(), group.images[0][1].study_uid
    for result in results:
        row = {"sop_uid": result.sop_uid, "home": context.home, "work_id": work, "kind": result.kind}
        row |= {"path": result.path, "sop_class": _SOP_CLASSES[result.kind], "study_uid": study, "created_at": now}
        connection.execute(insert(OBJECTS).values(**row))
    wanted = _wanted(context, group)
    by_name = {destination.name: destination for destination in context.settings.destination}
    delivery = {"studies": DeliveryState.WAITING, "dead": DeliveryState.DEAD}.get(group.folder)
    parcels = 0
    for name in wanted.destinations if delivery else ():
        objects = [result.sop_uid for result in results if name in by_name and _takes(by_name[name], result.kind)]
        if objects:
            row = {"work_id": work, "destination": name, "objects": objects, "state": delivery, "reason": WHY}
            connection.execute(insert(DELIVERIES).values(**row, priority=wanted.priority, created_at=now))
            parcels += 1
    if state is WorkState.REPORTED and not parcels:
        connection.execute(update(WORKS).where(WORKS.c.id == work).values(state=WorkState.FINISHED))
    note(connection, study, "report", WHY, {"work": work, "objects": [result.sop_uid for result in results]})


def _unreported(context: Context, connection: Connection, group: Group) -> None:
    """Note a work of which no result is there: over, given up, or to be read."""
    if group.folder == "studies":
        if context.home and group.images[0][1].item.facts.modality not in _single(context):
            _open_series(context, connection, group)
            return
        new = _new(context, connection, group)
        if new is not None:
            make(connection, [new], time.time(), Made())
        return
    state = WorkState.FINISHED if group.folder == "done" else WorkState.DEAD
    digest = digest_of(placement.item.sop_uid for _, placement in group.images)
    number = len(connection.execute(select(WORKS.c.id).where(WORKS.c.sources_digest == digest)).all()) + 1
    _insert(context, connection, group, WorkKind.READ, number, state)


def _open_series(context: Context, connection: Connection, group: Group) -> None:
    """Let triage judge a series anew: other intakes may hold more of it."""
    first = group.images[0][1]
    facts = first.item.facts
    values: dict[str, object] = {
        "home": context.home,
        "study_uid": first.study_uid,
        "calling_ae": fit(first.item.arrival.calling_ae, 16),
        "last_at": time.time(),
        "is_open": True,
    }
    if facts.expected_instances:
        values |= {"expected": facts.expected_instances, "expected_from": "sender"}
    key = (SERIES.c.series_uid == facts.series_instance_uid) & (SERIES.c.patient_digest == facts.patient_digest)
    if connection.execute(update(SERIES).where(key).values(values)).rowcount == 0:
        names = {"series_uid": facts.series_instance_uid, "patient_digest": facts.patient_digest}
        connection.execute(insert(SERIES).values(names | values))


def _single(context: Context) -> tuple[str, ...]:
    return context.settings.completeness.single_image_modalities


def _new(context: Context, connection: Connection, group: Group) -> NewWork | None:
    """Give the work to be made; None when no rule wants it any more."""
    first = group.images[0][1]
    facts = first.item.facts
    if first.rule is None or not first.rule.pipeline:
        ids = [row_id for row_id, _ in group.images]
        query = update(INSTANCES).where(INSTANCES.c.id.in_(ids))
        connection.execute(query.values(state=InstanceState.UNMATCHED, reason="no rule matches"))
        return None
    single = facts.modality in _single(context)
    return NewWork(
        study_uid=first.study_uid,
        patient_digest=facts.patient_digest,
        sources=tuple(Source(row_id, placement.item.sop_uid, context.home) for row_id, placement in group.images),
        wanted=_wanted(context, group),
        arm=_arm(context, connection, group),
        completeness="single" if single else "unconfirmed",
        expected=facts.expected_instances,
    )


def _arm(context: Context, connection: Connection, group: Group) -> FixedArm:
    first = group.images[0][1]
    of = (first.study_uid, "" if first.rule is None else first.rule.pipeline)
    return fix_arms(connection, context.rollouts, {of: first.item.facts})[of]


def _wanted(context: Context, group: Group) -> Wanted:
    first = group.images[0][1]
    if first.rule is None:
        return Wanted("", "", Priority.ROUTINE, (), Options(False, False, True))
    return Wanted.by(context.settings, first.rule, stat=any(p.item.arrival.stat for _, p in group.images))


def _insert(
    context: Context, connection: Connection, group: Group, kind: WorkKind, number: int, state: WorkState
) -> int:
    first = group.images[0][1]
    wanted, now = _wanted(context, group), time.time()
    digest = digest_of(placement.item.sop_uid for _, placement in group.images)
    before = select(WORKS.c.id).where(WORKS.c.sources_digest == digest, WORKS.c.number < number)
    single = first.item.facts.modality in _single(context)
    row: dict[str, Any] = {
        "home": context.home,
        "kind": kind,
        "state": state,
        "study_uid": first.study_uid,
        "patient_digest": first.item.facts.patient_digest,
        "sources": [row_id for row_id, _ in group.images],
        "sources_digest": digest,
        "number": number,
        "predecessor": connection.scalars(before.order_by(WORKS.c.number.desc()).limit(1)).first(),
        "pipeline": wanted.pipeline,
        "arm": _arm(context, connection, group).arm,
        "rule": wanted.rule,
        "priority": wanted.priority,
        "destinations": list(wanted.destinations),
        "options": asdict(wanted.options),
        "expected": first.item.facts.expected_instances,
        "completeness": "single" if single else "unconfirmed",
        "reason": WHY if state is WorkState.DEAD else "",
        "created_at": now,
        "changed_at": now,
    }
    made: int = connection.execute(insert(WORKS).values(**row).returning(WORKS.c.id)).scalar_one()
    return made


def _takes(destination: Destination, kind: ObjectKind) -> bool:
    if kind in _SR:
        return destination.sr == _SR[kind]
    if kind is ObjectKind.CAPTURE:
        return destination.capture or destination.sr == "none"
    if kind is ObjectKind.SEGMENTATION:
        return destination.seg
    return kind is ObjectKind.KEY_OBJECTS
