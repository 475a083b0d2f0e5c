"""Decides what becomes of one instance: read, ignored, a duplicate, a correction, or something to look at."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, or_, select

from wetread_gateway.rules import match
from wetread_gateway.siblings import Held
from wetread_gateway.state.tables import INSTANCES, OBJECTS, InstanceState
from wetread_gateway.triage.placement import Placement
from wetread_gateway.triage.sop_classes import not_read
from wetread_gateway.triage.twins import Known, Likeness

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import BindParameter, Row
    from sqlalchemy.engine import Connection

    from wetread_gateway.context import Context
    from wetread_gateway.triage.placement import Arrived
    from wetread_gateway.triage.twins import Twins

MOST_TWINS = 256
"""Twins that may wait for a comparison at once; more stay in `received`, unlooked at."""
# Made once: a batch is often one instance, and then making a statement costs as much as asking it.
_UIDS: BindParameter[list[str]] = bindparam("uids", expanding=True)
_KNOWN = (
    select(INSTANCES)
    .where(or_(INSTANCES.c.arrival.in_(bindparam("names", expanding=True)), INSTANCES.c.sop_uid.in_(_UIDS)))
    .order_by(INSTANCES.c.id.desc())
)
_NEWER = select(INSTANCES.c.id, INSTANCES.c.sop_uid, INSTANCES.c.state).where(INSTANCES.c.sop_uid.in_(_UIDS))
_OURS = select(OBJECTS.c.sop_uid).where(OBJECTS.c.sop_uid.in_(_UIDS))
_HELD = (InstanceState.SORTED, InstanceState.PURGED)


@dataclass(slots=True)
class Seen:
    """What the state store knows of a batch: what of it is sorted already, its twins, and which of it we made."""

    done: dict[str, Row[Any]] = field(default_factory=dict)
    by_uid: dict[str, list[Row[Any]]] = field(default_factory=dict)
    ours: set[str] = field(default_factory=set)


class NotYet(Exception):
    """The decision waits for a comparison of twins."""


def look_up(connection: Connection, items: Sequence[Arrived], home: str = "") -> Seen:
    """Ask the state store about a batch; `home`: the intake that it came to."""
    uids = [item.sop_uid for item in items if item.sighting]
    seen = Seen()
    names = {item.name for item in items}
    for row in connection.execute(_KNOWN, {"names": list(names), "uids": uids}):
        if row.arrival in names and row.home == home:
            seen.done[row.arrival] = row
        seen.by_uid.setdefault(row.sop_uid, []).append(row)
    seen.ours = set(connection.scalars(_OURS, {"uids": uids}))
    return seen


def still_true(connection: Connection, placements: Sequence[Placement], seen: Seen) -> list[Placement]:
    """Give the placements of whose instances no more is known than when they were decided."""
    uids = [placement.item.sop_uid for placement in placements]
    found: dict[str, dict[int, str]] = {}
    for row in connection.execute(_NEWER, {"uids": uids}):
        found.setdefault(row.sop_uid, {})[row.id] = row.state
    return [
        placement
        for placement in placements
        if placement.item.sighting is None
        or found.get(placement.item.sop_uid, {})
        == {row.id: row.state for row in seen.by_uid.get(placement.item.sop_uid, ())}
    ]


class Decider:
    """Decides by the settings as they are now."""

    def __init__(self, context: Context, twins: Twins) -> None:
        self._context = context
        self._twins = twins

    def decide(self, item: Arrived, seen: Seen) -> Placement | None:
        """Give where the instance goes; None when that has to wait for a comparison."""
        if item.sighting is None:
            return Placement(item, InstanceState.QUARANTINED, item.unreadable)
        if what := _nothing_to_read(item, seen):
            return Placement(item, InstanceState.IGNORED, what)
        rule = match(self._context.settings, item.facts, item.arrival).rule
        is_read = rule is not None and bool(rule.pipeline)
        corrects = _holder(seen.by_uid.get(item.sop_uid, []), is_read=is_read)
        try:
            if placement := self._as_twin(item, corrects, seen):
                return placement
        except NotYet:
            return None
        if rule is None or not is_read:
            reason = "no rule matches" if rule is None else f"rule {rule.name!r} has no pipeline"
            return Placement(item, InstanceState.UNMATCHED, reason, rule, corrects)
        return Placement(item, InstanceState.SORTED, "", rule, corrects)

    def _as_twin(self, item: Arrived, holder: Row[Any] | None, seen: Seen) -> Placement | None:
        """Decide on a twin; None when there is none or it corrects `holder`. NotYet while they are not compared."""
        assert item.sighting is not None
        identity = item.sighting.identity_digest
        rows = seen.by_uid.get(item.sop_uid, ())
        if any(row.state == InstanceState.CORRECTED and row.identity_digest == identity for row in rows):
            # A late copy of what was corrected since, more likely than a correction taken back: somebody must look.
            return Placement(item, InstanceState.QUARANTINED, "its identity was corrected since")
        if holder is None:
            return None
        verdict = self._twins.verdict(item.name)
        if verdict is None:
            self._compare(item, holder)
            raise NotYet
        if verdict.likeness is Likeness.DIFFERENT:
            return Placement(item, InstanceState.QUARANTINED, "other pixels under a known SOP Instance UID")
        if verdict.likeness is Likeness.UNKNOWN:
            reason = f"not comparable with the instance of the same UID: {verdict.reason}"
            return Placement(item, InstanceState.QUARANTINED, reason)
        if holder.identity_digest == identity:
            return Placement(item, InstanceState.DUPLICATE, "equal pixels and identity")
        return None

    def _compare(self, item: Arrived, holder: Row[Any]) -> None:
        if len(self._twins.pending) >= MOST_TWINS:
            return
        old = Known(None, holder.pixel_digest)
        if holder.path and holder.state != InstanceState.PURGED:
            if holder.home != self._context.home:
                old = Known(None, elsewhere=Held(holder.home, holder.path, holder.study_uid))
            else:
                with suppress(FileNotFoundError):
                    old = Known(self._context.spool.locate(holder.path, holder.study_uid))
        self._twins.compare(item.path, old, stat=item.arrival.stat)


def _nothing_to_read(item: Arrived, seen: Seen) -> str:
    """Say why an instance is answered and never read, if it is."""
    facts = item.facts
    if facts.ours or facts.sop_instance_uid in seen.ours:
        return "our own result came back"
    return not_read(facts.sop_class_uid) or ("" if facts.has_pixels else "it has no pixels")


def _holder(rows: Sequence[Row[Any]], *, is_read: bool) -> Row[Any] | None:
    """Give the instance of the same UID that counts now, if any; `rows`: the newest first."""
    for row in rows:
        if row.state in _HELD:
            return row
    if is_read:  # what was unmatched and is wanted now is simply new
        return None
    return next((row for row in rows if row.state == InstanceState.UNMATCHED and row.path), None)
