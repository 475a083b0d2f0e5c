"""The intakes that share a store: what each says of itself, which are away, and whose turn it is to file."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sqlalchemy import insert, select, text, update

from wetread_gateway.errors import ConfigError
from wetread_gateway.state.folder import claim, remembered
from wetread_gateway.state.tables import HOMES, INSTANCES, OBJECTS, SERIES, TRANSACTIONS, WORKS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from sqlalchemy import Select
    from sqlalchemy.engine import Connection

    from wetread_gateway.state.store import AnyRow, StateStore

AWAY_S = 10.0
"""Seconds without a word from an intake after which it counts as away."""
_FILING = 0x57455446  # an advisory lock of PostgreSQL
_LOOK_S = 1.0
_FOR_EVER = 1e12
_NOTHING_SAID: dict[str, object] = {"seen_at": 0.0, "sorted_at": 0.0, "callers": [], "unsorted": 0}


def settle(store: StateStore, folder: Path, name: str) -> None:
    """Take a state folder for the intake `name` at its start; ConfigError when it, or the store, is another's."""
    if not name:
        with store.read() as connection:
            if connection.execute(select(HOMES.c.name).limit(1)).first() is not None:
                raise ConfigError("several intakes share this store, and this one has no name: give it with --name")
        return
    if remembered(folder) != name:
        _must_be_free(store, name)
    if claim(folder, name) and store.is_sqlite:  # nobody else's rows are in a file of this folder
        with store.write() as connection:
            for table in (INSTANCES, SERIES, WORKS, OBJECTS, TRANSACTIONS):
                connection.execute(update(table).where(table.c.home == "").values(home=name))


def _must_be_free(store: StateStore, name: str) -> None:
    """Two intakes of one name would take each other's films for lost."""
    with store.read() as connection:
        seen_at = connection.execute(select(HOMES.c.seen_at).where(HOMES.c.name == name)).scalar() or 0.0
    if time.time() - seen_at < AWAY_S:
        raise ConfigError(
            f"an intake called {name!r} is at work on this store with another state folder: name this one"
        )


def take_turn(connection: Connection) -> None:
    """Let one intake at a time file what has come, until the transaction ends; SQLite has one writer anyhow."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _FILING})


def say(connection: Connection, name: str, values: Mapping[str, object]) -> None:
    """Write down what an intake says of itself now; what it has not said yet is the worst."""
    if connection.execute(update(HOMES).where(HOMES.c.name == name).values(values)).rowcount == 0:
        connection.execute(insert(HOMES).values({"name": name, **_NOTHING_SAID, **values}))


def leave(connection: Connection, name: str) -> None:
    """An intake ends in order and holds nothing unsorted: no series need wait for it, works over its films do."""
    say(connection, name, {"seen_at": 0.0, "sorted_at": _FOR_EVER, "callers": [], "unsorted": 0})


def homes(connection: Connection) -> Sequence[AnyRow]:
    """Give all that there are."""
    return connection.execute(select(HOMES).order_by(HOMES.c.name)).all()


def is_away(own: str) -> Select[tuple[str]]:
    """Ask for the names of the intakes that are away; `own` never is."""
    return select(HOMES.c.name).where(HOMES.c.seen_at < time.time() - AWAY_S, HOMES.c.name != own)


class Away:
    """Which intakes are away, looked up once a second. `own`: this one's name; it never is."""

    def __init__(self, store: StateStore, own: str) -> None:
        self._store = store
        self._own = own
        self._looked_at = 0.0
        self._found: frozenset[str] = frozenset()

    def names(self) -> frozenset[str]:
        """Give their names."""
        if not self._own:
            return self._found
        now = time.monotonic()
        if not self._looked_at or now - self._looked_at >= _LOOK_S:
            self._looked_at = now
            self._found = self._look()
        return self._found

    def _look(self) -> frozenset[str]:
        with self._store.read() as connection:
            return frozenset(connection.scalars(is_away(self._own)))
