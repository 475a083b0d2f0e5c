"""The work: whether the state store commits, and what waits or was given up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sqlalchemy import func, select, update
from sqlalchemy.exc import SQLAlchemyError

from wetread_gateway.config.files import store_url
from wetread_gateway.doctor.check import Check
from wetread_gateway.intakes import last_heard_of
from wetread_gateway.state.homes import homes, is_away
from wetread_gateway.state.store import StateStore
from wetread_gateway.state.tables import DELIVERIES, INSTANCES, WORKS, DeliveryState, InstanceState, WorkState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Table
    from sqlalchemy.engine import Connection

    from wetread_gateway.config.settings import Settings


def checks(settings: Settings, *, running: bool) -> Iterator[Check]:
    """Check the store, and the spool's backlog. A gateway that never ran has neither, and none is made for it."""
    folder = settings.gateway.state_dir
    url = store_url(settings.gateway)
    if not url and not (folder / "state.sqlite").is_file():
        yield Check("state store", True, f"made in {folder} at the first start")
        return
    try:
        store = StateStore(folder, url)
    except (SQLAlchemyError, OSError) as error:
        yield Check(
            "state store", False, f"it does not open: {_words(error)}; is the database up, gateway.store right?"
        )
        return
    try:
        yield _commit(store)
        yield from _given_up(store)
        yield from _intakes(store)
    except SQLAlchemyError as error:
        remedy = "stop the gateway, move the store away, and `wetread gateway reindex`"
        yield Check("state store", False, f"{_words(error)}; {remedy}")
    finally:
        store.close()
    yield _backlog(settings, running=running)


def _commit(store: StateStore) -> Check:
    """Take the store's write lock and commit, changing nothing."""
    started = time.perf_counter()
    with store.write() as connection:
        connection.execute(update(WORKS).where(WORKS.c.id == -1).values(attempts=0))
    kind = "SQLite" if store.is_sqlite else "PostgreSQL"
    return Check("state store", True, f"{kind} commits after {(time.perf_counter() - started) * 1000:.1f} ms")


def _given_up(store: StateStore) -> Iterator[Check]:
    with store.read() as connection:
        dead = _count(connection, WORKS, WorkState.DEAD) + _count(connection, DELIVERIES, DeliveryState.DEAD)
        quarantined = _count(connection, INSTANCES, InstanceState.QUARANTINED)
        unmatched = _count(connection, INSTANCES, InstanceState.UNMATCHED)
    if dead:
        yield Check("dead letter", None, f"{dead} given up: `wetread gateway queue` says why, `retry` tries again")
    if quarantined:
        yield Check(
            "quarantine", None, f"{quarantined} instances contradict what is known: see `wetread gateway queue`"
        )
    if unmatched:
        yield Check("unmatched", None, f"no rule wants {unmatched} instances: `wetread gateway explain FILE` says why")


def _intakes(store: StateStore) -> Iterator[Check]:
    """Tell which of several intakes were heard of of late."""
    with store.read() as connection:
        found = homes(connection)
        away = set(connection.scalars(is_away("")))
    for row in found if len(found) > 1 else ():
        said = f"{row.name} was last heard of {last_heard_of(row)}" if row.seen_at else f"{row.name} has stopped"
        remedy = "; what it holds waits: start it anew with its own folder" if row.name in away else ""
        yield Check("intakes", None if row.name in away else True, said + remedy)


def _count(connection: Connection, table: Table, state: str) -> int:
    """Count the rows in a state."""
    count: int = connection.execute(select(func.count()).select_from(table).where(table.c.state == state)).scalar_one()
    return count


def _backlog(settings: Settings, *, running: bool) -> Check:
    """Look at what got Success and is not sorted yet; a file's name begins with its priority and its time."""
    received = settings.gateway.state_dir / "spool" / "received"
    names = sorted(path.name for path in received.glob("*.dcm"))
    if not names:
        return Check("spool", True, "nothing waits to be sorted")
    oldest_s = time.time() - min(int(name.split("-")[1]) for name in names) / 1e9
    said = f"{len(names)} instances wait to be sorted, the oldest for {oldest_s:.0f} s"
    if not running:
        return Check("spool", None, f"{said}; no gateway is running: start it")
    if oldest_s > settings.intake.overload_age_s:
        return Check("spool", False, f"{said}; triage does not keep up or does not run: look into the log")
    return Check("spool", True, said)


def _words(error: Exception) -> str:
    return str(error).split("\n", 1)[0][:200]
