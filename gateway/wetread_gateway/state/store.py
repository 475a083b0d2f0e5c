"""The engine under the state store: durable commits, one writer at a time, and the timeline."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import Row, create_engine, event, insert
from sqlalchemy.engine import make_url

from wetread_gateway.state.tables import EVENTS
from wetread_gateway.state.upgrade import bring_up_to_date

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from sqlalchemy.engine import Connection, Engine

BUSY_S = 30.0
# A machine that goes down within a transaction must not hold its locks until TCP notices, which takes hours.
_SESSION = (
    "-c idle_in_transaction_session_timeout=30000 "
    "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
)

# A row of a query whose columns mypy need not know: its attributes are the columns' names.
AnyRow: TypeAlias = "Row[*tuple[Any, ...]]"


class StateStore:
    """Opens the store of `url`, or `state.sqlite` in `folder` when that is empty; makes tables that are not there.

    A commit has been fsynced when it returns: SQLite runs with `synchronous=FULL` and a write-ahead log, PostgreSQL
    with its default `synchronous_commit`. Safe to use from many threads and processes; a process opens its own.
    """

    def __init__(self, folder: Path, url: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.url = url or f"sqlite:///{folder / 'state.sqlite'}"
        self.engine = _engine(self.url)
        self._turns = _Turns(folder / "state.turns") if self.is_sqlite else None
        bring_up_to_date(self.engine)

    @property
    def is_sqlite(self) -> bool:
        """Whether the store is a file of this machine."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that writes: durable when the block has ended, nothing of it when it raises."""
        with self._turns or nullcontext(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One transaction that only reads, of one moment."""
        with self.engine.connect().execution_options(wetread_reads=True) as connection:
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()
        if self._turns is not None:
            self._turns.close()


class _Turns:
    """One writer at a time, in the order in which they came.

    SQLite's own lock is asked for again and again, with pauses of up to 100 ms, and whoever asks at the right moment
    has it: under load a writer may wait for half a second though each holds the lock for a few milliseconds.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._threads = threading.Lock()

    def __enter__(self) -> None:
        self._threads.acquire()
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)  # the kernel lets it go when its holder is killed
        except BaseException:
            self._threads.release()
            raise

    def __exit__(self, *error: object) -> None:
        fcntl.flock(self._file, fcntl.LOCK_UN)
        self._threads.release()

    def close(self) -> None:
        """Close its file."""
        os.close(self._file)


def note(
    connection: Connection, study_uid: str, stage: str, message: str, detail: Mapping[str, object] | None = None
) -> None:
    """Add a line to a study's timeline, in the transaction that makes it true. No names, no free text of a file."""
    connection.execute(
        insert(EVENTS).values(
            at=time.time(), study_uid=study_uid, stage=stage, message=message, detail=dict(detail or {})
        )
    )


def _engine(url: str) -> Engine:
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(
            url, pool_pre_ping=True, json_serializer=_dumps, connect_args={"options": _SESSION, "connect_timeout": 10}
        )
    engine = create_engine(url, json_serializer=_dumps, connect_args={"timeout": BUSY_S})

    @event.listens_for(engine, "connect")
    def _settings(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver opens no transactions of its own: `_begin` does
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={int(BUSY_S * 1000)}"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # IMMEDIATE takes the write lock at once: two deferred writers would find each other at their first write and
        # one would fail, whatever the busy time-out.
        reads = connection.get_execution_options().get("wetread_reads")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _dumps(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
