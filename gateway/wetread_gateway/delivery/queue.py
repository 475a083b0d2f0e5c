"""The deliveries in the state store: what is due, and what becomes of it, one transaction a step."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from wetread_gateway.delivery.outlet import Reference
from wetread_gateway.priority import Priority
from wetread_gateway.state.store import note
from wetread_gateway.state.tables import DELIVERIES, OBJECTS, WORKS, DeliveryState, WorkState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sqlalchemy import Select
    from sqlalchemy.engine import Connection

    from wetread_gateway.state.store import AnyRow, StateStore

REASON = 1024  # characters that `deliveries.reason` holds
_OPEN = (DeliveryState.WAITING, DeliveryState.STORED)


@dataclass(frozen=True, slots=True)
class Parcel:
    """A delivery as it was when it was taken up."""

    id: int
    work_id: int
    study_uid: str
    destination: str
    objects: tuple[str, ...]
    priority: int
    attempts: int
    transaction_uid: str
    reason: str
    created_at: float
    stored_at: float


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object of ours in the spool."""

    reference: Reference
    path: str


def due(
    store: StateStore,
    destination: str,
    state: DeliveryState,
    limit: int,
    *,
    home: str = "",
    without: Collection[int] = (),
    stat_only: bool = False,
) -> list[Parcel]:
    """Give deliveries of a destination that are due at the intake `home`: STAT first, then the oldest."""
    query = (
        _parcels(home)
        .where(
            DELIVERIES.c.state == state, DELIVERIES.c.destination == destination, DELIVERIES.c.not_before <= time.time()
        )
        .order_by(DELIVERIES.c.priority, DELIVERIES.c.id)
        .limit(limit)
    )
    if without:
        query = query.where(DELIVERIES.c.id.not_in(without))
    if stat_only:
        query = query.where(DELIVERIES.c.priority == Priority.STAT)
    return _read(store, query)


def awaiting(store: StateStore, destination: str, home: str = "") -> list[Parcel]:
    """Give the deliveries of a destination that are stored and not confirmed."""
    query = _parcels(home).where(DELIVERIES.c.state == DeliveryState.STORED, DELIVERIES.c.destination == destination)
    return _read(store, query)


def waiting_at(store: StateStore, home: str = "") -> set[tuple[str, DeliveryState]]:
    """Give the destinations that have something due at the intake `home`, and in which state."""
    query = select(DELIVERIES.c.destination, DELIVERIES.c.state)
    if home:
        query = query.join(WORKS, WORKS.c.id == DELIVERIES.c.work_id).where(WORKS.c.home == home)
    query = query.where(DELIVERIES.c.state.in_(_OPEN), DELIVERIES.c.not_before <= time.time()).distinct()
    with store.read() as connection:
        return {(str(row[0]), DeliveryState(row[1])) for row in connection.execute(query)}


def overdue(store: StateStore, destination: str, before: float, home: str = "") -> list[Parcel]:
    """Give the deliveries of a destination made before `before` and still not done."""
    query = _parcels(home).where(
        DELIVERIES.c.state.in_(_OPEN), DELIVERIES.c.destination == destination, DELIVERIES.c.created_at < before
    )
    return _read(store, query)


def objects_of(store: StateStore, parcels: Iterable[Parcel]) -> dict[str, StoredObject]:
    """Give the objects of deliveries, by SOP Instance UID."""
    uids = [uid for parcel in parcels for uid in parcel.objects]
    columns = (OBJECTS.c.sop_uid, OBJECTS.c.sop_class, OBJECTS.c.study_uid, OBJECTS.c.path)
    found: dict[str, StoredObject] = {}
    with store.read() as connection:
        for start in range(0, len(uids), 500):  # a statement takes only so many values
            rows = connection.execute(select(*columns).where(OBJECTS.c.sop_uid.in_(uids[start : start + 500])))
            for row in rows:
                found[row.sop_uid] = StoredObject(Reference(row.sop_uid, row.sop_class, row.study_uid), row.path)
    return found


def stored(store: StateStore, parcel: Parcel, warnings: Sequence[str]) -> None:
    """The peer has said Success for every object: now it is asked."""
    now = time.time()
    values = {"state": DeliveryState.STORED, "stored_at": now, "not_before": 0.0, "asked_at": None, "reason": ""}
    with store.write() as connection:
        if _change(connection, parcel, DeliveryState.WAITING, values):
            also = f", with warnings: {'; '.join(warnings)}" if warnings else ""
            note(
                connection,
                parcel.study_uid,
                "deliver",
                f"stored at {parcel.destination}{also}"[:REASON],
                _detail(parcel),
            )


def postponed(
    store: StateStore, parcel: Parcel, state: DeliveryState, reason: str, wait_s: float, *, counts: bool = True
) -> None:
    """An attempt has failed: another one is due in `wait_s`. `counts`: it was this delivery's failure."""
    values: dict[str, object] = {"reason": reason[:REASON]}
    if counts:
        values |= {"attempts": parcel.attempts + 1, "not_before": time.time() + wait_s}
    with store.write() as connection:
        if _change(connection, parcel, state, values) and parcel.reason != reason[:REASON]:
            message = f"{parcel.destination}: {reason}; tried again"
            note(connection, parcel.study_uid, "deliver", message[:REASON], _detail(parcel))


def asked(connection: Connection, parcels: Sequence[Parcel], transaction_uid: str, wait_s: float) -> None:
    """Storage commitment is asked for: again in `wait_s` when no report has come."""
    now = time.time()
    connection.execute(
        update(DELIVERIES)
        .where(DELIVERIES.c.id.in_([parcel.id for parcel in parcels]), DELIVERIES.c.state == DeliveryState.STORED)
        .values(transaction_uid=transaction_uid, asked_at=now, not_before=now + wait_s)
    )


def not_asked(store: StateStore, parcels: Sequence[Parcel], reason: str, wait_s: float) -> None:
    """The commitment request failed, for all of them alike: asked for again in `wait_s`."""
    with store.write() as connection:
        connection.execute(
            update(DELIVERIES)
            .where(DELIVERIES.c.id.in_([parcel.id for parcel in parcels]), DELIVERIES.c.state == DeliveryState.STORED)
            .values(asked_at=None, not_before=time.time() + wait_s, reason=reason[:REASON])
        )


def send_again(store: StateStore, parcel: Parcel, reason: str, wait_s: float) -> None:
    """The peer does not have what it has said Success for: it is sent anew."""
    values = {
        "state": DeliveryState.WAITING,
        "attempts": parcel.attempts + 1,
        "not_before": time.time() + wait_s,
        "transaction_uid": "",
        "asked_at": None,
        "reason": reason[:REASON],
    }
    with store.write() as connection:
        if _change(connection, parcel, DeliveryState.STORED, values):
            message = f"{parcel.destination}: {reason}; sent again"
            note(connection, parcel.study_uid, "deliver", message[:REASON], _detail(parcel))


def retry(store: StateStore, delivery_id: int) -> bool:
    """Take a delivery out of the dead letter, its clock started anew; False when it is not there."""
    values = {
        "state": DeliveryState.WAITING,
        "attempts": 0,
        "not_before": 0.0,
        "transaction_uid": "",
        "asked_at": None,
        "reason": "",
        "created_at": time.time(),
    }
    with store.write() as connection:
        row = connection.execute(_parcels().where(DELIVERIES.c.id == delivery_id)).first()
        if row is None:
            return False
        parcel = _parcel(row)
        if not _change(connection, parcel, DeliveryState.DEAD, values):
            return False
        connection.execute(
            update(WORKS)
            .where(WORKS.c.id == parcel.work_id, WORKS.c.state == WorkState.FINISHED)
            .values(state=WorkState.REPORTED, reason="", changed_at=time.time())
        )
        message = f"{parcel.destination}: taken out of the dead letter for another try"
        note(connection, parcel.study_uid, "deliver", message, _detail(parcel))
    return True


def close(
    connection: Connection, parcel: Parcel, state: DeliveryState, *, confirmed_by: str = "", reason: str = ""
) -> bool:
    """A delivery is over: delivered (`reason`: why it was not asked as configured) or dead. False when it was so."""
    now = time.time()
    values: dict[str, object] = {"state": state, "reason": reason[:REASON], "confirmed_by": confirmed_by}
    if state is DeliveryState.DELIVERED:
        values["delivered_at"] = now
        also = f" ({reason})" if reason else ""
        message = f"delivered to {parcel.destination}, confirmed by {confirmed_by}{also}"
    else:
        message = f"{parcel.destination}: {reason}; in the dead letter"
    if not any(_change(connection, parcel, before, values) for before in _OPEN):
        return False
    stage = "deliver" if state is DeliveryState.DELIVERED else "alert"
    note(connection, parcel.study_uid, stage, message[:REASON], _detail(parcel))
    return True


def _change(connection: Connection, parcel: Parcel, state: DeliveryState, values: Mapping[str, object]) -> bool:
    changed = connection.execute(
        update(DELIVERIES).where(DELIVERIES.c.id == parcel.id, DELIVERIES.c.state == state).values(**values)
    )
    return bool(changed.rowcount)


def _parcels(home: str = "") -> Select[Any]:
    """Ask for deliveries; of the works of one home where it has a name."""
    query = select(DELIVERIES, WORKS.c.study_uid).join(WORKS, WORKS.c.id == DELIVERIES.c.work_id)
    return query.where(WORKS.c.home == home) if home else query


def _read(store: StateStore, query: Select[Any]) -> list[Parcel]:
    with store.read() as connection:
        return [_parcel(row) for row in connection.execute(query)]


def _parcel(row: AnyRow) -> Parcel:
    return Parcel(
        id=row.id,
        work_id=row.work_id,
        study_uid=row.study_uid,
        destination=row.destination,
        objects=tuple(row.objects),
        priority=row.priority,
        attempts=row.attempts,
        transaction_uid=row.transaction_uid,
        reason=row.reason,
        created_at=row.created_at,
        stored_at=row.stored_at or 0.0,
    )


def _detail(parcel: Parcel) -> dict[str, object]:
    return {"work": parcel.work_id, "delivery": parcel.id, "objects": list(parcel.objects)}
