"""A PostgreSQL for tests, on loopback and in a folder of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, text
from waiting import WAIT_S
from wetread_bench.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

POSTGRES = Path("/usr/lib/postgresql/15/bin")


@contextmanager
def postgres_server() -> Iterator[str]:
    """Run one; its address. The test is skipped where there is none."""
    if not (POSTGRES / "initdb").exists():
        pytest.skip("no PostgreSQL 15: make setup-system")
    # Not in pytest's own folder: that is root's alone.
    with tempfile.TemporaryDirectory(prefix="wetread-postgres-") as name:
        if not os.geteuid():
            shutil.chown(name, "postgres")
        yield from _running(Path(name))


def fresh_database(server: str) -> str:
    """Make an empty database in a server that runs; its address."""
    name = f"wetread_{secrets.token_hex(4)}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return f"{server.rpartition('/')[0]}/{name}"


def _running(folder: Path) -> Iterator[str]:
    port = free_port()
    as_postgres = [] if os.geteuid() else ["runuser", "-u", "postgres", "--"]  # it refuses to run as root
    initdb = [*as_postgres, POSTGRES / "initdb", "-D", folder / "data", "-A", "trust", "--no-sync"]
    subprocess.run(initdb, check=True, capture_output=True, cwd="/")
    server = [*as_postgres, POSTGRES / "postgres", "-D", folder / "data", "-p", str(port), "-k", folder]
    with subprocess.Popen([*server, "-h", "127.0.0.1"], stderr=subprocess.DEVNULL, cwd="/") as process:
        try:
            deadline = time.monotonic() + WAIT_S
            ready = [POSTGRES / "pg_isready", "-q", "-p", str(port), "-h", "127.0.0.1"]
            while subprocess.run(ready, check=False).returncode:
                assert time.monotonic() < deadline, "PostgreSQL does not start"
                time.sleep(0.05)
            yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
        finally:
            process.terminate()  # runuser hands it on
