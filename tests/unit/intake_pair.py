"""Two intakes over one store, each with its own spool and a door for the other; their clocks are turned by hand."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import uvicorn
from fastapi import FastAPI
from triage_site import Live, Site, settings
from wetread_bench.servers import free_port
from wetread_gateway.audit import JsonLinesAudit
from wetread_gateway.context import Context
from wetread_gateway.spool.spool import Spool
from wetread_gateway.state.store import StateStore
from wetread_gateway.triage.stage import Triage
from wetread_gateway.web.leases import make_leases_router
from wetread_gateway.web.siblings import make_siblings_router


class Intake(Site):
    """One of several: its own spool, the common store, a door for its siblings."""

    def __init__(self, folder, name, url, ports):
        self.folder, self.name = folder / name, name
        self.folder.mkdir()
        gateway = settings(self.folder).gateway
        gateway = replace(gateway, name=name, store=url, sibling_url=f"http://127.0.0.1:{ports[name]}/{{name}}")
        self.context = Context(
            "triage",
            Live(replace(settings(self.folder), gateway=gateway)),
            Spool(self.folder / "spool"),
            StateStore(self.folder, url),
            JsonLinesAudit(self.folder / "audit", "triage"),
            self.folder / "bells",
        )
        self.now = time.time()
        self.triage = Triage(self.context, lambda: self.now)

    def close(self):
        self.context.siblings.close()
        super().close()

    @contextmanager
    def door(self, port):
        """Open its door below /NAME."""
        inner, app = FastAPI(), FastAPI()
        for router in (make_siblings_router(self.context), make_leases_router(self.context)):
            inner.include_router(router)
        app.mount(f"/{self.name}", inner)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none", lifespan="off"))
        with socket.create_server(("127.0.0.1", port)) as listening:
            thread = threading.Thread(target=server.run, args=([listening],))
            thread.start()
            try:
                yield
            finally:
                server.should_exit = True
                thread.join()

    def tick(self, seconds=0.6):
        """Let time pass and look once."""
        self.now += seconds
        self.settle()


class Pair:
    """Two intakes, and whose doors are open. Each one's `sibling_url` names the other's port."""

    def __init__(self, folder, url):
        self.ports = {name: free_port() for name in ("a", "b")}
        # What one asks of the other goes to the other's port.
        self.a, self.b = (Intake(folder, name, url, {name: self.ports[o]}) for name, o in (("a", "b"), ("b", "a")))
        self._doors = {"a": ExitStack(), "b": ExitStack()}

    def open(self, *names):
        for name in names:
            self._doors[name].enter_context(getattr(self, name).door(self.ports[name]))

    def shut(self, name):
        self._doors[name].close()

    def close(self):
        for stack in self._doors.values():
            stack.close()
        self.a.close()
        self.b.close()

    def settle(self):
        self.a.settle()
        self.b.settle()

    def tick(self, seconds=0.6):
        for one in (self.a, self.b):
            one.now += seconds
        self.settle()
