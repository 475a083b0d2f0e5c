"""Triage: what got Success becomes work, or goes where it can be seen, with the reason."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, SQLAlchemyError

from wetread_gateway.errors import GatewayError
from wetread_gateway.instance import study_key
from wetread_gateway.metrics import ALERTS, ITEMS, SECONDS
from wetread_gateway.right_of_way import LOOK_S as STAT_LOOK_S
from wetread_gateway.spool.spool import SORTED, is_stat
from wetread_gateway.state.homes import take_turn
from wetread_gateway.state.tables import InstanceState
from wetread_gateway.triage.decide import Decider, Seen, look_up, still_true
from wetread_gateway.triage.filing import Filing, audit_of
from wetread_gateway.triage.placement import FOLDERS, Arrived, Placement, arrived
from wetread_gateway.triage.presence import Presence
from wetread_gateway.triage.retention import Janitor
from wetread_gateway.triage.series import SeriesWatch
from wetread_gateway.triage.twins import Twins

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from sqlalchemy import Row

    from wetread_gateway.context import Context

LOG = logging.getLogger(__name__)

BATCH = 64
LOOK_S = 0.02
"""Seconds of looking at files after which a batch is written down, however small."""
ATTEMPTS = 3


def run(context: Context) -> None:
    """Sort what arrives until told to stop."""
    stage = Triage(context)
    bell = context.bell("triage")
    janitor = Janitor(context)
    purging = threading.Thread(target=janitor.run, name="janitor", daemon=True)
    purging.start()
    try:
        while not context.stop.is_set():
            if not stage.step():
                bell.wait(0.25)
    finally:
        janitor.close()
        stage.close()
        purging.join(timeout=5)
        bell.close()


class Triage:
    """Takes batches of the spool's arrivals. `clock`: seconds since 1970."""

    def __init__(self, context: Context, clock: Callable[[], float] = time.time, twins: Twins | None = None) -> None:
        self._context = context
        self._clock = clock
        self.twins = twins or Twins(lambda: context.ring("triage"), siblings=context.siblings)
        self._decider = Decider(context, self.twins)
        self.series = SeriesWatch(context, clock)
        self._presence = Presence(context, clock)
        self._failed: dict[str, int] = {}
        self._way = context.right_of_way()

    def close(self) -> None:
        """Stop what runs beside."""
        with suppress(SQLAlchemyError):
            self._presence.leave()
        self.twins.close()
        self.series.close()

    def step(self) -> bool:
        """Take one batch; when that was all that came look at the series that wait. False when nothing was done."""
        moment = self._presence.moment()
        pending = self.twins.pending
        limit = BATCH + len(pending)
        paths = self._context.spool.arrivals(limit)
        if paths and not is_stat(paths[0]) and self._way.must_yield():
            self._context.stop.wait(STAT_LOOK_S)
            return True
        fresh = [path for path in paths if path.name not in pending][:BATCH]
        settled = self._batch(fresh) if fresh else 0
        # A slice that is still in `received` belongs to its series: nobody counts before it is sorted.
        all_sorted = settled == len(fresh) and len(paths) < limit
        self._presence.say(moment, len(paths) - settled, all_sorted=all_sorted)
        whole = self.series.check() if all_sorted else False
        return settled > 0 or whole

    def _batch(self, paths: Sequence[Path]) -> int:
        started = time.perf_counter()
        items: list[Arrived] = []
        for path in paths:
            with suppress(FileNotFoundError):
                items.append(arrived(self._context.spool, path))
            # STAT on its way: what has been looked at is written down, the rest waits.
            if time.perf_counter() - started > LOOK_S or (not is_stat(path) and self._way.must_yield()):
                break
        with self._context.store.read() as connection:
            seen = look_up(connection, items, self._context.home)
        for item in items:
            if item.name in seen.done:
                self._move_again(item.name, seen.done[item.name])
        placements = self._placements([item for item in items if item.name not in seen.done], seen)
        written = self._write(placements, seen)
        for _ in range(written):
            SECONDS.labels("triage").observe((time.perf_counter() - started) / written)
        return written + len(seen.done)

    def _move_again(self, name: str, row: Row[Any]) -> None:
        """Bring a file to where its row says it is: a crash came between the two, or undid the move."""
        folder = next((folder for folder in SORTED if row.path.startswith(f"{folder}/")), None)
        with suppress(FileNotFoundError):
            if folder is None:  # purged
                self._context.spool.remove(name, row.study_uid)
            else:
                self._context.spool.move(name, row.study_uid, folder)

    def _placements(self, items: Iterable[Arrived], seen: Seen) -> list[Placement]:
        placements = []
        uids = set()
        for item in items:
            if item.sighting and item.sop_uid in uids:
                continue  # its twin is in this batch: it is looked at when that has its row
            try:
                placement = self._decider.decide(item, seen)
            except Exception as error:  # the outermost loop of one instance: its neighbours are sorted all the same
                LOG.exception("an instance could not be sorted")
                placement = Placement(item, InstanceState.QUARANTINED, f"triage failed: {type(error).__name__}")
            uids.add(item.sop_uid)
            if placement is not None:
                placements.append(placement)
        return placements

    def _write(self, placements: Sequence[Placement], seen: Seen) -> int:
        """Write a batch down; one by one where that fails, so that one cannot stop the others."""
        if not placements:
            return 0
        try:
            placements = self._file(placements, seen)
        except OperationalError:  # the store is down or busy: nobody is at fault, everything stays
            LOG.exception("the state store does not answer")
            self._context.stop.wait(1.0)
            return 0
        except (DBAPIError, GatewayError, ValueError):
            LOG.exception("a batch could not be filed", extra={"count": len(placements)})
            if len(placements) == 1:
                return self._give_up(placements[0], seen)
            return sum(self._write([placement], seen) for placement in placements)
        return len(placements)

    def _give_up(self, placement: Placement, seen: Seen) -> int:
        name = placement.item.name
        self._failed[name] = self._failed.get(name, 0) + 1
        if self._failed[name] < ATTEMPTS:  # another gateway may have filed its study in the same moment
            return 0
        item = placement.item
        bare = Arrived(item.path, item.arrival, None, sop_uid=item.sop_uid, sop_class=item.sop_class)
        with suppress(IntegrityError):
            self._file([Placement(bare, InstanceState.QUARANTINED, "it could not be filed")], seen)
        return 1

    def _file(self, placements: Sequence[Placement], seen: Seen) -> Sequence[Placement]:
        """Write them down and give them, without those whose twin another intake has filed since they were decided."""
        context = self._context
        if not context.home:
            context.audit.record(*audit_of(placements, context.slot))
        with context.store.write() as connection:
            if context.home:
                take_turn(connection)
                placements = still_true(connection, placements, seen)
                if not placements:
                    return placements
                context.audit.record(*audit_of(placements, context.slot))
            made = Filing(connection, context.settings, context.spool, context.rollouts, self._clock()).file(placements)
        for placement in placements:
            name = placement.item.name
            self.twins.forget(name)
            self._failed.pop(name, None)
            with suppress(FileNotFoundError):
                context.spool.move(name, placement.study_uid, FOLDERS[placement.state])
            self._count(placement)
        made.count()
        for stage in made.rings:
            context.ring(stage)
        return placements

    def _count(self, placement: Placement) -> None:
        bad = placement.state is InstanceState.QUARANTINED
        ITEMS.labels("triage", "failed" if bad else "ok").inc()
        if bad:
            ALERTS.labels("quarantine").inc()
            LOG.error(
                "an instance was quarantined",
                extra={"study": study_key(placement.study_uid), "reason": placement.reason},
            )
