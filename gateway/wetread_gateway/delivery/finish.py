"""The end of a delivery, and of a work when all its deliveries are over."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sqlalchemy import select, update

from wetread_gateway.audit import AuditEvent
from wetread_gateway.delivery.queue import close
from wetread_gateway.instance import study_key
from wetread_gateway.metrics import ALERTS, DELIVERY_SECONDS, ITEMS, observe_since
from wetread_gateway.state.received import last_received
from wetread_gateway.state.store import note
from wetread_gateway.state.tables import DELIVERIES, INSTANCES, WORKS, DeliveryState, WorkState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.engine import Connection

    from wetread_gateway.context import Context
    from wetread_gateway.delivery.queue import Parcel
    from wetread_gateway.state.store import AnyRow

LOG = logging.getLogger(__name__)

_OVER = (DeliveryState.DELIVERED, DeliveryState.DEAD)


@dataclass(frozen=True, slots=True)
class _Move:
    arrival: str
    study_uid: str
    to: Literal["done", "dead"]


def delivered(context: Context, parcels: Sequence[Parcel], confirmed_by: str, why: str = "") -> None:
    """The destination holds every object of these deliveries, and `confirmed_by` says how that is known.

    `why`: what kept it from being asked as the configuration says.
    """
    _finish(context, parcels, DeliveryState.DELIVERED, confirmed_by=confirmed_by, reason=why)


def dead(context: Context, parcels: Sequence[Parcel], reason: str) -> None:
    """These deliveries are given up: the dead letter, with an alert."""
    _finish(context, parcels, DeliveryState.DEAD, reason=reason)
    for parcel in parcels:
        ALERTS.labels("dead_letter").inc()
        about = {"study": study_key(parcel.study_uid), "destination": parcel.destination, "reason": reason[:200]}
        LOG.error("a delivery went to the dead letter", extra=about)


def _finish(
    context: Context, parcels: Sequence[Parcel], state: DeliveryState, *, confirmed_by: str = "", reason: str = ""
) -> None:
    if not parcels:
        return
    is_good = state is DeliveryState.DELIVERED
    context.audit.record(*(_event(parcel, is_good=is_good, said=confirmed_by or reason) for parcel in parcels))
    with context.store.write() as connection:
        works = _locked(connection, {parcel.work_id for parcel in parcels})
        closed = [
            parcel for parcel in parcels if close(connection, parcel, state, confirmed_by=confirmed_by, reason=reason)
        ]
        moves = [move for work in works for move in _finish_work(context, connection, work)]
        came = [(parcel.priority, last_received(connection, parcel.work_id)) for parcel in closed if is_good]
    for priority, came_at in came:
        observe_since(DELIVERY_SECONDS, priority, came_at)
    ITEMS.labels("confirm", "ok" if is_good else "failed").inc(len(closed))
    for move in moves:
        with suppress(FileNotFoundError):  # purged, or moved by a successor's end
            context.spool.move(move.arrival, move.study_uid, move.to)
    context.ring("door")


def _locked(connection: Connection, ids: Iterable[int]) -> Sequence[AnyRow]:
    # Held until the end of the transaction: of two last deliveries, ended at once, one must see the other.
    query = select(WORKS).where(WORKS.c.id.in_(sorted(ids))).order_by(WORKS.c.id).with_for_update()
    return connection.execute(query).all()


def _finish_work(context: Context, connection: Connection, work: AnyRow) -> list[_Move]:
    columns = (DELIVERIES.c.state, DELIVERIES.c.destination)
    deliveries = connection.execute(select(*columns).where(DELIVERIES.c.work_id == work.id)).all()
    if work.state != WorkState.REPORTED or any(row.state not in _OVER for row in deliveries):
        return []
    missed = [row.destination for row in deliveries if row.state == DeliveryState.DEAD]
    reason = f"not delivered to {', '.join(missed)}" if missed else ""
    connection.execute(
        update(WORKS)
        .where(WORKS.c.id == work.id)
        .values(state=WorkState.FINISHED, reason=reason[:1024], changed_at=time.time())
    )
    note(connection, work.study_uid, "deliver", reason or "finished", {"work": work.id})
    # What lies in another intake's spool is moved by that one, which looks for it.
    ours = INSTANCES.c.id.in_(work.sources) & (INSTANCES.c.home == context.home)
    sources = connection.execute(select(INSTANCES.c.id, INSTANCES.c.arrival, INSTANCES.c.study_uid).where(ours)).all()
    moves = [_Move(row.arrival, row.study_uid, "dead" if missed else "done") for row in sources]
    for row, move in zip(sources, moves, strict=True):  # the index first, the file after: `locate` knows both places
        path = context.spool.path_in(move.arrival, move.study_uid, move.to)
        connection.execute(update(INSTANCES).where(INSTANCES.c.id == row.id).values(path=path))
    return moves


def _event(parcel: Parcel, *, is_good: bool, said: str) -> AuditEvent:
    detail = {
        "delivery": parcel.id,
        "objects": list(parcel.objects),
        "confirmed_by" if is_good else "reason": said[:200],
    }
    return AuditEvent("deliver", "ok" if is_good else "failed", parcel.destination, parcel.study_uid, detail=detail)
