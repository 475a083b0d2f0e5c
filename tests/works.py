"""A gateway's state with works to read, for tests of the worklist and of readers."""

from __future__ import annotations

import hashlib
import itertools
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI
from sqlalchemy import func, insert, select
from wetread_gateway.audit import JsonLinesAudit
from wetread_gateway.config.live import LiveSettings
from wetread_gateway.context import Context
from wetread_gateway.priority import Priority
from wetread_gateway.reading.stored import StoredReading
from wetread_gateway.spool.spool import Spool
from wetread_gateway.state.store import StateStore
from wetread_gateway.state.tables import EVENTS, INSTANCES, READINGS, WORKS, InstanceState, WorkKind, WorkState
from wetread_gateway.web.leases import make_leases_router

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.types import Receive, Scope, Send

_NUMBERS = itertools.count(1)


def configuration(folder: Path, store: str = "", **triton: object) -> Path:
    """Write a configuration whose state is in `folder`."""
    lines = [f'[gateway]\nstate_dir = "{folder / "state"}"\nstore = "{store}"\n[dicom]\nany_peer = true\n[triton]']
    lines += [f"{key} = {value!r}".replace("'", '"') for key, value in triton.items()]
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "gateway.toml"
    file.write_text("\n".join(lines) + "\n")
    return file


class LeaseServer:
    """An HTTP server for the leases of one state after another, nothing else: it takes a while to start and stop."""

    def __init__(self) -> None:
        self._app: FastAPI | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._app is not None, "nothing is served now"
        await self._app(scope, receive, send)

    @contextmanager
    def serving(self, context: Context) -> Iterator[str]:
        """Serve the leases of this state; the address."""
        self._app = FastAPI()
        self._app.include_router(make_leases_router(context))
        yield self._url
        self._app = None

    @contextmanager
    def running(self) -> Iterator[LeaseServer]:
        server = uvicorn.Server(uvicorn.Config(self, log_level="error", ws="none", lifespan="off"))
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self._url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            thread = threading.Thread(target=server.run, args=([listening],))
            thread.start()
            try:
                yield self
            finally:
                server.should_exit = True
                thread.join()


@contextmanager
def serving(context: Context) -> Iterator[str]:
    """Serve the leases of one state over HTTP, nothing else; its address."""
    with LeaseServer().running() as server, server.serving(context) as url:
        yield url


@dataclass(frozen=True)
class Works:
    """One process's view of a gateway's state, and ways to fill it and to look."""

    context: Context

    @classmethod
    def open(cls, config: Path, slot: str = "reader-0") -> Works:
        live = LiveSettings(config)
        folder = live.current.gateway.state_dir
        folder.mkdir(parents=True, exist_ok=True)
        return cls(
            Context(
                slot=slot,
                live=live,
                spool=Spool(folder / "spool"),
                store=StateStore(folder, live.current.gateway.store),
                audit=JsonLinesAudit(folder / "audit", slot),
                bells=folder / "bells",
            )
        )

    def close(self) -> None:
        self.context.store.close()
        self.context.audit.close()

    def add(self, *films: bytes, priority: Priority = Priority.ROUTINE, pipeline: str = "chest_xray", **values) -> int:
        """Add a work over films, as triage does; its id. `values`: of its row."""
        number = next(_NUMBERS)
        study = f"2.25.{number}"
        now = time.time()
        with self.context.store.write() as connection:
            ids = [self._instance(connection, study, film, n, now) for n, film in enumerate(films or (b"film",))]
            row = {
                "kind": WorkKind.READ,
                "state": WorkState.WAITING,
                "study_uid": study,
                "patient_digest": "p",
                "sources": ids,
                "sources_digest": hashlib.sha256(study.encode()).hexdigest(),
                "number": 1,
                "pipeline": pipeline,
                "arm": "stable",
                "rule": "films",
                "priority": priority,
                "destinations": [],
                "options": {},
                "completeness": "single",
                "created_at": now,
                "changed_at": now,
            }
            return connection.execute(insert(WORKS).values(row | values)).inserted_primary_key[0]

    def _instance(self, connection, study, film, n, now):
        name = f"1-{time.time_ns():020d}-receiver-0-{n}.dcm"
        path = self.context.spool.root / self.context.spool.path_in(name, study, "studies")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(film)
        row = {
            "arrival": name,
            "path": str(path.relative_to(self.context.spool.root)),
            "state": InstanceState.SORTED,
            "sop_uid": f"{study}.{n}",
            "sop_class": "1",
            "transfer_syntax": "1",
            "study_uid": study,
            "series_uid": "1",
            "patient_digest": "p",
            "modality": "DX",
            "calling_ae": "A",
            "called_ae": "B",
            "association": "c",
            "door": "dimse",
            "stat": False,
            "received_at": now,
        }
        return connection.execute(insert(INSTANCES).values(row)).inserted_primary_key[0]

    def row(self, work: int):
        """The work's row."""
        with self.context.store.read() as connection:
            return connection.execute(select(WORKS).where(WORKS.c.id == work)).one()

    def states(self) -> dict[str, int]:
        """How many works are in each state."""
        with self.context.store.read() as connection:
            rows = connection.execute(select(WORKS.c.state, func.count()).group_by(WORKS.c.state)).all()
        return dict(map(tuple, rows))

    def readings(self) -> dict[int, StoredReading]:
        """All readings, by work."""
        with self.context.store.read() as connection:
            rows = connection.execute(select(READINGS)).all()
        return {row.work_id: StoredReading.parse(row.document, row.heatmap) for row in rows}

    def timeline(self, work: int) -> list[str]:
        """The messages of the work's study."""
        with self.context.store.read() as connection:
            query = select(EVENTS.c.message).where(EVENTS.c.study_uid == self.row(work).study_uid).order_by(EVENTS.c.id)
            return list(connection.execute(query).scalars())

    def files(self, work: int) -> list[str]:
        """The folders of the spool in which the work's files lie."""
        study = self.row(work).study_uid
        return sorted(str(p.relative_to(self.context.spool.root)) for p in self.context.spool.root.rglob(f"{study}/*"))
