"""Triage: what got Success becomes work, or goes where it can be seen, with the reason."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from wetread_gateway.errors import GatewayError
from wetread_gateway.instance import study_key
from wetread_gateway.metrics import ALERTS, ITEMS, SECONDS
from wetread_gateway.rules import match
from wetread_gateway.state.tables import INSTANCES, OBJECTS, InstanceState
from wetread_gateway.triage.filing import Filing, audit_of
from wetread_gateway.triage.placement import FOLDERS, Arrived, Placement, arrived
from wetread_gateway.triage.series import SeriesWatch
from wetread_gateway.triage.sop_classes import not_read
from wetread_gateway.triage.twins import Known, Likeness, Twins

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from sqlalchemy import Row

    from wetread_gateway.context import Context

LOG = logging.getLogger(__name__)

BATCH = 64
LOOK_S = 0.02
"""Seconds of looking at files after which a batch is written down, however small."""
TWINS = 256
"""Twins that may wait for a comparison at once; more stay in `received`, unlooked at."""
ATTEMPTS = 3


def run(context: Context) -> None:
    """Sort what arrives until told to stop."""
    stage = Triage(context)
    bell = context.bell("triage")
    try:
        while not context.stop.is_set():
            if not stage.step():
                bell.wait(0.25)
    finally:
        stage.close()
        bell.close()


@dataclass(slots=True)
class _Seen:
    """What the state store knows of a batch."""

    done: dict[str, Row[Any]] = field(default_factory=dict)
    by_uid: dict[str, list[Row[Any]]] = field(default_factory=dict)
    ours: set[str] = field(default_factory=set)


class Triage:
    """Takes batches of the spool's arrivals. `clock`: seconds since 1970."""

    def __init__(self, context: Context, clock: Callable[[], float] = time.time, twins: Twins | None = None) -> None:
        self._context = context
        self._clock = clock
        self.twins = twins or Twins(lambda: context.ring("triage"))
        self.series = SeriesWatch(context, clock)
        self._failed: dict[str, int] = {}

    def close(self) -> None:
        """Stop what runs beside."""
        self.twins.close()
        self.series.close()

    def step(self) -> bool:
        """Take one batch; when nothing more is there look at the series that wait. False when nothing was done."""
        pending = self.twins.pending
        paths = self._context.spool.arrivals(BATCH + len(pending))
        fresh = [path for path in paths if path.name not in pending][:BATCH]
        settled = self._batch(fresh) if fresh else 0
        if settled:
            return True
        # Only when everything that came has been sorted: a slice still in `received` belongs to its series.
        return self.series.check() if not fresh else False

    def _batch(self, paths: Sequence[Path]) -> int:
        started = time.perf_counter()
        items: list[Arrived] = []
        for path in paths:
            with suppress(FileNotFoundError):
                items.append(arrived(self._context.spool, path))
            if time.perf_counter() - started > LOOK_S:
                break
        seen = self._look_up(items)
        for item in items:
            if item.name in seen.done:
                self._move_again(item.name, seen.done[item.name])
        placements = self._placements([item for item in items if item.name not in seen.done], seen)
        written = self._write(placements)
        for _ in range(written):
            SECONDS.labels("triage").observe((time.perf_counter() - started) / written)
        return written + len(seen.done)

    def _look_up(self, items: Sequence[Arrived]) -> _Seen:
        uids = [item.sop_uid for item in items if item.sighting]
        seen = _Seen()
        with self._context.store.read() as connection:
            query = select(INSTANCES).where(INSTANCES.c.arrival.in_([item.name for item in items]))
            seen.done = {row.arrival: row for row in connection.execute(query)}
            query = select(INSTANCES).where(INSTANCES.c.sop_uid.in_(uids)).order_by(INSTANCES.c.id.desc())
            for row in connection.execute(query):
                seen.by_uid.setdefault(row.sop_uid, []).append(row)
            seen.ours = set(connection.scalars(select(OBJECTS.c.sop_uid).where(OBJECTS.c.sop_uid.in_(uids))))
        return seen

    def _move_again(self, name: str, row: Row[Any]) -> None:
        """Bring a file to where its row says it is: a crash came between the two, or undid the move."""
        state = InstanceState(row.state)
        with suppress(FileNotFoundError):
            if state is InstanceState.PURGED or not row.path:
                self._context.spool.remove(name, row.study_uid)
            else:
                self._context.spool.move(name, row.study_uid, FOLDERS[state])

    def _placements(self, items: Iterable[Arrived], seen: _Seen) -> list[Placement]:
        placements = []
        uids = set()
        for item in items:
            if item.sighting and item.sop_uid in uids:
                continue  # its twin is in this batch: it is looked at when that has its row
            try:
                placement = self._place(item, seen)
            except Exception as error:  # the outermost loop of one instance: its neighbours are sorted all the same
                LOG.exception("an instance could not be sorted")
                placement = Placement(item, InstanceState.QUARANTINED, f"triage failed: {type(error).__name__}")
            uids.add(item.sop_uid)
            if placement is not None:
                placements.append(placement)
        return placements

    def _place(self, item: Arrived, seen: _Seen) -> Placement | None:
        """Decide; None when that has to wait for a comparison."""
        if item.sighting is None:
            return Placement(item, InstanceState.QUARANTINED, item.unreadable)
        facts = item.facts
        if facts.ours or facts.sop_instance_uid in seen.ours:
            return Placement(item, InstanceState.IGNORED, "our own result came back")
        if what := not_read(facts.sop_class_uid):
            return Placement(item, InstanceState.IGNORED, what)
        if not facts.has_pixels:
            return Placement(item, InstanceState.IGNORED, "it has no pixels")
        rule = match(self._context.settings, facts, item.arrival).rule
        twin = self._twin(seen.by_uid.get(facts.sop_instance_uid, ()), item, read=bool(rule and rule.pipeline))
        if isinstance(twin, Placement):
            return twin
        corrects = None
        if twin is not None:
            verdict = self.twins.verdict(item.name)
            if verdict is None:
                self._compare(item, twin)
                return None
            if verdict.likeness is Likeness.DIFFERENT:
                return Placement(item, InstanceState.QUARANTINED, "other pixels under a known SOP Instance UID")
            if verdict.likeness is Likeness.UNKNOWN:
                reason = f"not comparable with the instance of the same UID: {verdict.reason}"
                return Placement(item, InstanceState.QUARANTINED, reason)
            if twin.identity_digest == item.sighting.identity_digest:
                return Placement(item, InstanceState.DUPLICATE, "equal pixels and identity")
            corrects = twin
        if rule is None or not rule.pipeline:
            reason = "no rule matches" if rule is None else f"rule {rule.name!r} has no pipeline"
            return Placement(item, InstanceState.UNMATCHED, reason, rule, corrects)
        return Placement(item, InstanceState.SORTED, "", rule, corrects)

    def _twin(self, rows: Sequence[Row[Any]], item: Arrived, *, read: bool) -> Row[Any] | Placement | None:
        """Give the instance of the same UID that counts now, if any."""
        assert item.sighting is not None
        identity = item.sighting.identity_digest
        if any(row.state == InstanceState.CORRECTED and row.identity_digest == identity for row in rows):
            # A late copy of what was corrected since, more likely than a correction taken back: somebody must look.
            return Placement(item, InstanceState.QUARANTINED, "its identity was corrected since")
        held = (InstanceState.SORTED, InstanceState.PURGED)
        holder = next((row for row in rows if row.state in held), None)
        if holder is None and not read:  # what was unmatched and is wanted now is simply new
            holder = next((row for row in rows if row.state == InstanceState.UNMATCHED and row.path), None)
        return holder

    def _compare(self, item: Arrived, twin: Row[Any]) -> None:
        if len(self.twins.pending) >= TWINS:
            return
        old = Known(None, twin.pixel_digest)
        if twin.state != InstanceState.PURGED:
            with suppress(FileNotFoundError):
                old = Known(self._context.spool.locate(twin.path, twin.study_uid))
        self.twins.compare(item.path, old, stat=item.arrival.stat)

    def _write(self, placements: Sequence[Placement]) -> int:
        """Write a batch down; one by one where that fails, so that one cannot stop the others."""
        if not placements:
            return 0
        try:
            self._file(placements)
        except OperationalError:  # the store is down or busy: nobody is at fault, everything stays
            LOG.exception("the state store does not answer")
            self._context.stop.wait(1.0)
            return 0
        except (DBAPIError, GatewayError, ValueError):
            LOG.exception("a batch could not be filed", extra={"count": len(placements)})
            if len(placements) == 1:
                return self._give_up(placements[0])
            return sum(self._write([placement]) for placement in placements)
        return len(placements)

    def _give_up(self, placement: Placement) -> int:
        name = placement.item.name
        self._failed[name] = self._failed.get(name, 0) + 1
        if self._failed[name] < ATTEMPTS:  # another gateway may have filed its study in the same moment
            return 0
        item = placement.item
        bare = Arrived(item.path, item.arrival, None, sop_uid=item.sop_uid, sop_class=item.sop_class)
        with suppress(IntegrityError):
            self._file([Placement(bare, InstanceState.QUARANTINED, "it could not be filed")])
        return 1

    def _file(self, placements: Sequence[Placement]) -> None:
        context = self._context
        context.audit.record(*audit_of(placements, context.slot))
        with context.store.write() as connection:
            made = Filing(connection, context.settings, context.spool, self._clock()).file(placements)
        for placement in placements:
            name = placement.item.name
            self.twins.forget(name)
            self._failed.pop(name, None)
            with suppress(FileNotFoundError):
                context.spool.move(name, placement.study_uid, FOLDERS[placement.state])
            self._count(placement)
        for kind in made.alerts:
            ALERTS.labels(kind).inc()
        for stage in made.rings:
            context.ring(stage)

    def _count(self, placement: Placement) -> None:
        bad = placement.state is InstanceState.QUARANTINED
        ITEMS.labels("triage", "failed" if bad else "ok").inc()
        if bad:
            ALERTS.labels("quarantine").inc()
            LOG.error(
                "an instance was quarantined",
                extra={"study": study_key(placement.study_uid), "reason": placement.reason},
            )
