"""The worklist beside the state store: leases as conditional updates, a reading and what tells of it in one commit."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from sqlalchemy import and_, insert, select, update
from wetread_client.errors import Status

from wetread_gateway import metrics
from wetread_gateway.audit import AuditEvent
from wetread_gateway.drift.references import keep_reference
from wetread_gateway.errors import LeaseLost, SiblingAway, SourceMissing
from wetread_gateway.instance import study_key
from wetread_gateway.priority import Priority
from wetread_gateway.reading.leasing import COLUMNS, choose, due, lease_of, sources_of
from wetread_gateway.reading.routes import Routes
from wetread_gateway.reading.segmentation_table import keep_segmentation
from wetread_gateway.reading.shadow_readings import keep_shadow
from wetread_gateway.reading.worklist import Failure, FailureKind, Lease, LeasedSource
from wetread_gateway.siblings import Held
from wetread_gateway.state.homes import Away
from wetread_gateway.state.received import last_received
from wetread_gateway.state.store import note
from wetread_gateway.state.tables import INSTANCES, READINGS, WORKS, WorkState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection

    from wetread_gateway.audit import Action
    from wetread_gateway.context import Context
    from wetread_gateway.reading.stored import StoredReading
    from wetread_gateway.reading.worklist import Served

LOG = logging.getLogger(__name__)
_REASON_LENGTH = 1000
_LONGEST_WAIT_S = 300.0
_SIBLING_WAIT_S = 3.0
_READ = (WorkState.READ, WorkState.REPORTED, WorkState.FINISHED)


class StoreWorklist:
    """Leases works of the context's store; `Worklist` says what each call does."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._away = Away(context.store, context.home)
        self._leasing = threading.Lock()  # two threads of one owner would not see each other's choice

    def lease(
        self, n: int, owner: str, *, stat_only: bool = False, without: frozenset[Served] = frozenset()
    ) -> list[Lease]:
        """Lease works, all in one transaction; what was leased before and has expired is due again."""
        with self._leasing:
            routes = Routes(self._context.rollouts, without)
            may = due(time.time(), routes, stat_only=stat_only, away=self._away.names())
            # Most looks find nothing: they shall not take the writers' lock.
            with self._context.store.read() as connection:
                if not any(connection.execute(select(WORKS.c.id).where(which).limit(1)).first() for which in may):
                    return []
            with self._context.store.write() as connection:
                leases = self._lease(connection, n, owner, may, routes)
        if any(lease.priority is Priority.STAT for lease in leases):
            self._context.right_of_way().claim()
        return leases

    def extend(self, lease: Lease) -> Lease:
        """Keep a work for another `lease_s`."""
        until = time.time() + self._context.settings.triton.lease_s
        with self._context.store.write() as connection:
            _change(connection, lease, lease_until=until)
        return replace(lease, until=until)

    def held(self, work: int, token: int) -> Lease:
        """Give the lease of a work under this token, for who has but these numbers; LeaseLost."""
        return self._known(work, token, (WorkState.LEASED,))

    def completed(self, work: int, token: int) -> Lease:
        """Give the lease under which a work is being read, or was read by nobody else; LeaseLost."""
        return self._known(work, token, (WorkState.LEASED, *_READ))

    def source(self, work: int, token: int, n: int) -> Path | bytes:
        """Give one image to who has but these numbers, as `film`; a series has a thousand of them. LeaseLost."""
        states = (WorkState.LEASED, *_READ)
        with self._context.store.read() as connection:
            known = and_(WORKS.c.id == work, WORKS.c.state.in_(states), WORKS.c.lease_token == token)
            row = connection.execute(select(WORKS.c.study_uid, WORKS.c.sources).where(known)).first()
            if row is None:
                raise LeaseLost(f"work {work} is not leased under token {token} any more")
            one = row.sources[n : n + 1]
            query = select(INSTANCES.c.home, INSTANCES.c.path).where(INSTANCES.c.id.in_(one))
            found = connection.execute(query).first()
        held = Held(found.home, found.path, row.study_uid) if found else Held(self._context.home, "", row.study_uid)
        return self._found(held, n, len(row.sources))

    def _known(self, work: int, token: int, states: Sequence[WorkState]) -> Lease:
        with self._context.store.read() as connection:
            columns = (*COLUMNS, WORKS.c.lease_owner, WORKS.c.lease_until)
            known = and_(WORKS.c.id == work, WORKS.c.state.in_(states), WORKS.c.lease_token == token)
            row = connection.execute(select(*columns).where(known)).first()
            if row is None:
                raise LeaseLost(f"work {work} is not leased under token {token} any more")
            sources = sources_of(connection, [row])
        return lease_of(row, token, row.lease_owner, row.lease_until, sources, Routes(self._context.rollouts))

    def complete(self, lease: Lease, reading: StoredReading) -> None:
        """Write the reading, the work's state and its timeline in one transaction, and the audit before it is done."""
        refusal = reading.refusal
        detail = {"work": lease.work, "pipeline": reading.pipeline, "arm": reading.arm, "release": reading.release}
        who = f"{reading.pipeline} release {reading.release or 'unknown'} ({reading.arm})"
        message = f"read by {who}"
        if refusal is not None:
            message = f"{who} refuses it: {refusal.code}: {refusal.reason}"
            detail["refused"] = refusal.code
        with self._context.store.write() as connection:
            _change(connection, lease, state=WorkState.READ, lease_until=0.0, not_before=0.0, reason="")
            # Between the token's proof and the commit: the trail tells of no reading that did not count.
            self._record(lease, "refuse" if refusal else "read", "ok", detail)
            connection.execute(
                insert(READINGS).values(
                    work_id=lease.work, document=reading.document(), heatmap=reading.heatmap, read_at=reading.read_at
                )
            )
            keep_segmentation(connection, lease.work, reading.segmentation)
            keep_reference(connection, reading)
            came_at = last_received(connection, lease.work)
            note(connection, lease.study_uid, "read", _plain(message), detail)
        metrics.observe_since(metrics.STUDY_SECONDS, lease.priority, came_at)
        if lease.priority is Priority.STAT:
            self._context.right_of_way().end()
        self._context.ring("door")
        self._context.ring("report")

    def shadow(self, lease: Lease, reading: StoredReading) -> None:
        """Keep what a candidate says beside what was reported, with how the two differ."""
        with self._context.store.write() as connection:
            keep_shadow(connection, lease, reading)

    def fail(self, lease: Lease, failure: Failure) -> None:
        """Give a work back; what failed too often alone, or is hopeless, goes to the dead letter."""
        suspect = failure.kind is FailureKind.SUSPECT
        attempts = lease.attempts + (suspect and lease.alone)
        reason = _plain(f"{failure.code}: {failure.reason}")
        spent = suspect and attempts >= self._context.settings.triton.attempts
        if spent or failure.kind is FailureKind.HOPELESS:
            self._bury(lease, failure, attempts, reason)
            return
        with self._context.store.write() as connection:
            _change(
                connection,
                lease,
                state=WorkState.WAITING,
                attempts=attempts,
                alone=lease.alone or suspect,
                not_before=time.time() + max(failure.wait_s, _patience(connection, lease, failure)),
                lease_until=0.0,
                reason=reason,
            )
            if suspect:
                message = f"the server failed under it, it is read again alone: {reason}"
                note(connection, lease.study_uid, "read", _plain(message), {"attempts": attempts})
        if failure.wait_s <= 0:
            self._context.ring("read")

    def abandon(self, owner: str) -> int:
        """Give back what a former process of the same name had leased."""
        mine = and_(WORKS.c.state == WorkState.LEASED, WORKS.c.lease_owner == owner)
        with self._context.store.write() as connection:
            return connection.execute(
                update(WORKS).where(mine).values(state=WorkState.WAITING, lease_until=0.0, changed_at=time.time())
            ).rowcount

    def film(self, lease: Lease, n: int) -> Path | bytes:
        """Give the n-th source: its file, or its bytes where it lies in another intake's spool."""
        source = lease.sources[n] if n < len(lease.sources) else LeasedSource("", "", self._context.home)
        return self._found(Held(source.home, source.hint, lease.study_uid), n, len(lease.sources))

    def _found(self, held: Held, n: int, count: int) -> Path | bytes:
        try:
            return self._context.siblings.film(held)
        except SourceMissing as error:
            raise SourceMissing(f"the file of image {n + 1} of {count} is nowhere in the spool") from error

    def _lease(
        self, connection: Connection, n: int, owner: str, may: Sequence[ColumnElement[bool]], routes: Routes
    ) -> list[Lease]:
        now = time.time()
        held = connection.execute(
            select(WORKS.c.pipeline, WORKS.c.alone).where(
                WORKS.c.state == WorkState.LEASED, WORKS.c.lease_owner == owner, WORKS.c.lease_until > now
            )
        ).all()
        # FOR UPDATE SKIP LOCKED is PostgreSQL's; SQLite has one writer anyhow, and SQLAlchemy leaves it out there.
        wanted = select(*COLUMNS).order_by(WORKS.c.priority, WORKS.c.id).limit(n).with_for_update(skip_locked=True)
        found = [row for which in may for row in connection.execute(wanted.where(which)).all()]
        found = [row for row in found if not routes.waits(row)]
        rows = choose(held, sorted(found, key=lambda row: (row.priority, row.id))[:n])
        if not rows:
            return []
        until = now + self._context.settings.triton.lease_s
        connection.execute(
            update(WORKS)
            .where(WORKS.c.id.in_([row.id for row in rows]))
            .values(
                state=WorkState.LEASED,
                lease_owner=owner,
                lease_token=WORKS.c.lease_token + 1,
                lease_until=until,
                changed_at=now,
            )
        )
        sources = sources_of(connection, rows)
        return [lease_of(row, row.lease_token + 1, owner, until, sources, routes) for row in rows]

    def _bury(self, lease: Lease, failure: Failure, attempts: int, reason: str) -> None:
        suspected = failure.kind is FailureKind.SUSPECT
        text = f"suspected poison film, read alone {attempts} times: {reason}" if suspected else reason
        detail = {"work": lease.work, "attempts": attempts, "code": failure.code}
        with self._context.store.write() as connection:
            _change(connection, lease, state=WorkState.DEAD, attempts=attempts, lease_until=0.0, reason=_plain(text))
            self._record(lease, "refuse", "failed", detail)
            note(connection, lease.study_uid, "alert", _plain(f"to the dead letter: {text}"), detail)
        metrics.ALERTS.labels("poison_film" if suspected else "dead_work").inc()
        LOG.error(
            "a work goes to the dead letter",
            extra={"study": study_key(lease.study_uid), "work": lease.work, "reason": failure.code},
        )
        for source in lease.sources:
            if source.home != self._context.home:
                continue  # its own intake moves it
            try:
                self._context.spool.move(source.hint, lease.study_uid, "dead")
            except FileNotFoundError:
                continue  # it may be what the work died of
        self._context.ring("door")

    def _record(
        self, lease: Lease, action: Action, outcome: Literal["ok", "failed"], detail: dict[str, object]
    ) -> None:
        self._context.audit.record(
            AuditEvent(
                action,
                outcome,
                actor=lease.owner,
                study_uid=lease.study_uid,
                object_uid=lease.sources[0].sop_uid if lease.sources else "",
                detail=detail,
            )
        )


def _patience(connection: Connection, lease: Lease, failure: Failure) -> float:
    """Give the seconds to wait at least: one that runs out of time again and again shall not keep a slot for good."""
    if failure.code == SiblingAway.__name__:
        return _SIBLING_WAIT_S
    if failure.code != Status.DEADLINE_EXCEEDED.value:
        return 0.0
    created_at: float = connection.execute(select(WORKS.c.created_at).where(WORKS.c.id == lease.work)).scalar_one()
    return min((time.time() - created_at) / 4, _LONGEST_WAIT_S)


def _plain(text: str) -> str:
    """Keep a server's words to what a column, a terminal and a log can take (PostgreSQL takes no NUL)."""
    return "".join(c if c.isprintable() else "?" for c in text[:_REASON_LENGTH])


def _change(connection: Connection, lease: Lease, **values: object) -> None:
    """Change the leased work; LeaseLost when it is leased no more, or under another token."""
    mine = and_(WORKS.c.id == lease.work, WORKS.c.state == WorkState.LEASED, WORKS.c.lease_token == lease.token)
    done = connection.execute(update(WORKS).where(mine).values(changed_at=time.time(), **values))
    if done.rowcount != 1:
        raise LeaseLost(f"work {lease.work} is not leased under token {lease.token} any more")
