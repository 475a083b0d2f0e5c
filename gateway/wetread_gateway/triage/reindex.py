"""Builds the state store anew from the spool's folders, which are the truth.

What the folders do not hold is lost with the store: timelines, and readings that were not reported yet, which are read
again. Results that are there are not built again: their UIDs follow from their sources, so they are found by name, and
those of unfinished work are sent again under the same UIDs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import insert, select, update

from wetread_gateway.audit import AuditEvent
from wetread_gateway.rules import match
from wetread_gateway.spool.spool import SORTED
from wetread_gateway.state.homes import take_turn
from wetread_gateway.state.tables import (
    INSTANCES,
    STUDIES,
    InstanceState,
)
from wetread_gateway.triage.arms import STABLE
from wetread_gateway.triage.placement import Arrived, Placement, arrived, row_of
from wetread_gateway.triage.reindex_works import WHY, Group, make_works
from wetread_gateway.triage.works import digest_of

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.engine import Connection

    from wetread_gateway.context import Context
    from wetread_gateway.spool.spool import Sorted

_STATES: dict[Sorted, InstanceState] = {
    "studies": InstanceState.SORTED,
    "done": InstanceState.SORTED,
    "dead": InstanceState.SORTED,
    "unmatched": InstanceState.UNMATCHED,
    "ignored": InstanceState.IGNORED,
    "quarantine": InstanceState.QUARANTINED,
}


@dataclass(frozen=True, slots=True)
class Reindexed:
    """How much was found."""

    instances: int
    works: int
    results: int


def reindex(context: Context) -> Reindexed:
    """Build the tables from the spool; what has its row already is left alone. The gateway must not run meanwhile."""
    context.audit.record(AuditEvent("operate", "ok", context.slot, detail={"reindex": True}))
    studies: dict[str, list[tuple[Sorted, Path]]] = {}
    for folder in SORTED:
        for path in sorted((context.spool.root / folder).glob("*/*.dcm")):
            studies.setdefault(path.parent.name, []).append((folder, path))
    counts = [_study(context, files) for files in studies.values()]
    for stage in ("triage", "read", "deliver"):
        context.ring(stage)
    return Reindexed(*(sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0, 0))


def _study(context: Context, files: list[tuple[Sorted, Path]]) -> tuple[int, int, int]:
    """Index one study's files, in the order in which they came."""
    files.sort(key=lambda one: one[1].name.partition("-")[2])
    with context.store.write() as connection:
        if context.home:
            take_turn(connection)
        names = [path.name for _, path in files]
        ours = (INSTANCES.c.home == context.home) & INSTANCES.c.arrival.in_(names)
        known = set(connection.scalars(select(INSTANCES.c.arrival).where(ours)))
        new = [(folder, arrived(context.spool, path)) for folder, path in files if path.name not in known]
        groups: dict[tuple[str, ...], Group] = {}
        placed: dict[tuple[str, str], int] = {}
        for folder, item in new:
            placement = _placement(context, folder, item)
            row = row_of(placement, context.spool, context.home)
            row |= {"path": str(item.path.relative_to(context.spool.root))}
            row_id = connection.execute(insert(INSTANCES).values(**row).returning(INSTANCES.c.id)).scalar_one()
            if placement.state is not InstanceState.SORTED:
                continue
            _note_study(connection, item)
            _correct_earlier(connection, placed, item, row_id)
            key = _key(context, item)
            images = (*(groups[key].images if key in groups else ()), (row_id, placement))
            groups[key] = Group(images, folder)
        alike: dict[str, list[Group]] = {}
        for group in groups.values():
            alike.setdefault(digest_of(placement.item.sop_uid for _, placement in group.images), []).append(group)
        found = [make_works(context, connection, same) for same in alike.values()]
    return len(new), len(groups), sum(found)


def _placement(context: Context, folder: Sorted, item: Arrived) -> Placement:
    state = _STATES[folder]
    if item.sighting is None:
        return Placement(item, InstanceState.QUARANTINED, item.unreadable)
    rule = match(context.settings, item.facts, item.arrival).rule
    return Placement(item, state, "" if state is InstanceState.SORTED else WHY, rule)


def _note_study(connection: Connection, item: Arrived) -> None:
    facts = item.facts
    query = select(STUDIES.c.study_uid).where(STUDIES.c.study_uid == facts.study_instance_uid)
    if connection.execute(query).first() is None:
        values = {"study_uid": facts.study_instance_uid, "patient_digest": facts.patient_digest}
        connection.execute(insert(STUDIES).values(**values, arm=STABLE, received_at=item.arrival.received_at))


def _correct_earlier(connection: Connection, placed: dict[tuple[str, str], int], item: Arrived, row_id: int) -> None:
    """Of two instances of one UID in a study the later one counts: a correction."""
    key = (item.facts.study_instance_uid, item.sop_uid)
    if (earlier := placed.get(key)) is not None:
        query = update(INSTANCES).where(INSTANCES.c.id == earlier)
        connection.execute(query.values(state=InstanceState.CORRECTED, reason=WHY))
    placed[key] = row_id


def _key(context: Context, item: Arrived) -> tuple[str, ...]:
    facts = item.facts
    if facts.modality in context.settings.completeness.single_image_modalities:
        return (item.name,)
    return (facts.series_instance_uid, facts.patient_digest)
