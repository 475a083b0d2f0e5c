"""What an operator asks and does: a study's timeline, the queue, another try for the dead letter."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table
from sqlalchemy import func, or_, select, update

from wetread_gateway.audit import AuditEvent
from wetread_gateway.delivery.queue import retry as retry_delivery
from wetread_gateway.intakes import intakes, where
from wetread_gateway.priority import Priority
from wetread_gateway.state.store import note
from wetread_gateway.state.tables import (
    DELIVERIES,
    EVENTS,
    INSTANCES,
    READINGS,
    WORKS,
    DeliveryState,
    InstanceState,
    WorkState,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from wetread_gateway.context import Context
    from wetread_gateway.state.store import AnyRow

_WAITS_FOR = {
    WorkState.WAITING: "waits for a reader",
    WorkState.LEASED: "is being read",
    WorkState.READ: "waits for its report",
    WorkState.REPORTED: "waits for delivery",
}


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One thing that was given up: `kind` is `work`, `delivery` or `instance`; `reason` says why."""

    kind: str
    number: int
    study_uid: str
    reason: str
    since: float


def timeline(context: Context, study_uid: str) -> list[RenderableType]:
    """Give a study's life: every event, then what it waits for. Empty for a study that never came."""
    with context.store.read() as connection:
        events = connection.execute(select(EVENTS).where(EVENTS.c.study_uid == study_uid).order_by(EVENTS.c.id)).all()
        works = connection.execute(select(WORKS).where(WORKS.c.study_uid == study_uid).order_by(WORKS.c.id)).all()
        deliveries = connection.execute(
            select(DELIVERIES).where(DELIVERIES.c.work_id.in_([work.id for work in works])).order_by(DELIVERIES.c.id)
        ).all()
        several = where(connection, works)
    if not events and not works:
        return []
    table = Table("time", "after", "stage", "what", title=f"study {study_uid}{several}")
    first = events[0].at if events else time.time()
    for event in events:
        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.at)) + f".{int(event.at % 1 * 1000):03d}"
        table.add_row(clock, f"+{(event.at - first) * 1000:.0f} ms", event.stage, event.message)
    return [table, *_waiting(works, deliveries)]


def _waiting(works: Sequence[AnyRow], deliveries: Sequence[AnyRow]) -> list[str]:
    lines = []
    for work in works:
        name = f"reading {work.number} ({work.kind}, {Priority(work.priority).name.lower()})"
        if work.state in _WAITS_FOR:
            reason = f": {work.reason}" if work.reason else ""
            lines.append(f"{name} {_WAITS_FOR[WorkState(work.state)]}{reason}")
        elif work.state == WorkState.DEAD:
            lines.append(f"{name} is in the dead letter: {work.reason} (wetread gateway retry work:{work.id})")
    for one in deliveries:
        if one.state == DeliveryState.DEAD:
            lines.append(f"delivery to {one.destination} is in the dead letter: {one.reason} (retry delivery:{one.id})")
        elif one.state != DeliveryState.DELIVERED:
            doing = "waits to be confirmed" if one.state == DeliveryState.STORED else "waits to be sent"
            lines.append(f"delivery to {one.destination} {doing}{f': {one.reason}' if one.reason else ''}")
    return lines or ["nothing is waiting"]


def queue(context: Context) -> list[RenderableType]:
    """Give what waits at each stage and for how long, what was given up, and what no rule wanted."""
    now = time.time()
    table = Table("stage", "waiting", "oldest", title="queue")
    arrivals = context.spool.arrivals(100_000)
    oldest = min((context.spool.arrival_of(path).received_at for path in arrivals[:1]), default=now)
    table.add_row("received, not sorted", str(len(arrivals)), _age(now - oldest) if arrivals else "-")
    with context.store.read() as connection:
        works = _by_state(connection.execute(_ages(WORKS.c.state, WORKS.c.created_at)).all())
        deliveries = connection.execute(
            select(DELIVERIES.c.destination, DELIVERIES.c.state, func.count(), func.min(DELIVERIES.c.created_at))
            .where(DELIVERIES.c.state.in_((DeliveryState.WAITING, DeliveryState.STORED)))
            .group_by(DELIVERIES.c.destination, DELIVERIES.c.state)
        ).all()
        instances: Counter[str] = Counter(
            {
                row[0]: row[1]
                for row in connection.execute(select(INSTANCES.c.state, func.count()).group_by(INSTANCES.c.state))
            }
        )
        several = intakes(connection)
    for state, doing in _WAITS_FOR.items():
        count, since = works.get(state, (0, now))
        table.add_row(doing, str(count), _age(now - since) if count else "-")
    for row in deliveries:
        doing = "to be confirmed by" if row.state == DeliveryState.STORED else "to be sent to"
        table.add_row(f"{doing} {row.destination}", str(row[2]), _age(now - row[3]))
    shown: list[RenderableType] = [table, several] if several is not None else [table]
    if instances[InstanceState.UNMATCHED]:
        shown.append(
            f"{instances[InstanceState.UNMATCHED]} instances that no rule wants: see `wetread gateway explain`"
        )
    if dead := dead_letters(context):
        letters = Table("what", "study", "since", "reason", title="dead letter")
        for letter in dead:
            age = _age(now - letter.since)
            letters.add_row(f"{letter.kind}:{letter.number}", letter.study_uid, age, letter.reason)
        shown.append(letters)
    return shown


def dead_letters(context: Context) -> list[DeadLetter]:
    """Give all that was given up and has not been handled, oldest first."""
    with context.store.read() as connection:
        works = connection.execute(select(WORKS).where(WORKS.c.state == WorkState.DEAD)).all()
        deliveries = connection.execute(
            select(DELIVERIES, WORKS.c.study_uid)
            .join(WORKS, WORKS.c.id == DELIVERIES.c.work_id)
            .where(DELIVERIES.c.state == DeliveryState.DEAD)
        ).all()
        instances = connection.execute(select(INSTANCES).where(INSTANCES.c.state == InstanceState.QUARANTINED)).all()
    letters = [DeadLetter("work", row.id, row.study_uid, row.reason, row.changed_at) for row in works]
    letters += [
        DeadLetter("delivery", row.id, row.study_uid, f"{row.destination}: {row.reason}", row.created_at)
        for row in deliveries
    ]
    letters += [DeadLetter("instance", row.id, row.study_uid, row.reason, row.received_at) for row in instances]
    return sorted(letters, key=lambda letter: letter.since)


def retry(context: Context, what: str) -> int:
    """Give `work:N`, `delivery:N` or `all` of the dead letter another try; give how many there were.

    ValueError for anything else. Quarantined instances are not tried again: they would be refused again.
    """
    kind, _, number = what.partition(":")
    chosen = [
        letter
        for letter in dead_letters(context)
        if letter.kind != "instance" and (what == "all" or (letter.kind == kind and str(letter.number) == number))
    ]
    if not chosen and what != "all":
        raise ValueError(f"{what!r} is not in the dead letter; `wetread gateway queue` lists what is")
    for letter in chosen:
        event = AuditEvent("operate", "ok", context.slot, letter.study_uid, detail={"retry": f"{kind}:{letter.number}"})
        context.audit.record(event)
        if letter.kind == "work":
            _retry_work(context, letter)
        else:
            retry_delivery(context.store, letter.number)
    for stage in ("read", "report", "deliver"):
        context.ring(stage)
    return len(chosen)


def _retry_work(context: Context, letter: DeadLetter) -> None:
    with context.store.write() as connection:
        has_reading = select(READINGS.c.work_id).where(READINGS.c.work_id == letter.number).exists()
        is_read = connection.execute(select(has_reading)).scalar()
        connection.execute(
            update(WORKS)
            .where(WORKS.c.id == letter.number, or_(WORKS.c.state == WorkState.DEAD))
            .values(
                state=WorkState.READ if is_read else WorkState.WAITING,
                attempts=0,
                report_attempts=0,
                not_before=0.0,
                reason="",
                changed_at=time.time(),
            )
        )
        note(
            connection,
            letter.study_uid,
            "read",
            "taken out of the dead letter for another try",
            {"work": letter.number},
        )


def _ages(state: Any, since: Any) -> Any:
    return select(state, func.count(), func.min(since)).group_by(state)


def _by_state(rows: Sequence[AnyRow]) -> dict[str, tuple[int, float]]:
    return {row[0]: (row[1], row[2]) for row in rows}


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"
