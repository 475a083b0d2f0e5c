"""`wetread gateway --config FILE`: starts the processes, starts again what dies, stops all in the order of the work."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wetread_gateway import logs
from wetread_gateway.audit import AuditEvent, JsonLinesAudit
from wetread_gateway.config.files import store_url
from wetread_gateway.config.live import LiveSettings
from wetread_gateway.config.load import load
from wetread_gateway.errors import GatewayError
from wetread_gateway.spool.spool import Spool
from wetread_gateway.state.homes import settle
from wetread_gateway.state.store import StateStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wetread_gateway.config.settings import Settings

LOG = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 5.0
_STEADY_S = 20.0
_LOCK_WAIT_S = 4.0
# glibc keeps freed blocks: without it every film's buffers are mapped and faulted in anew.
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}


class AlreadyRunning(GatewayError):
    """Another gateway works on this state folder."""


@dataclass
class Child:
    """One process of the gateway, and how often it has died of late."""

    stage: str
    slot: str
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    pause_s: float = _FIRST_PAUSE_S
    start_at: float = 0.0
    pidfd: int = field(default=-1, repr=False)


def plan(settings: Settings) -> list[Child]:
    """Give the processes of a configuration, doors last: they open when the rest is there."""
    reader = [Child("reader", "reader")] if settings.gateway.reader else []
    children = [Child("triage", "triage"), *reader, Child("delivery", "delivery")]
    reporters = settings.gateway.reporters
    children += [Child("reporter", f"reporter-{n}-of-{reporters}") for n in range(reporters)]
    children += [Child("receiver", f"receiver-{n}") for n in range(settings.dicom.receivers)]
    if settings.http.port:
        children.append(Child("http", "http"))
    return children


class Supervisor:
    """Runs the gateway of one configuration file; AlreadyRunning when its state folder is taken."""

    def __init__(self, config: Path, name: str = "") -> None:
        self._config = config.resolve()
        self.live = LiveSettings(self._config, name or load(self._config).gateway.name)
        self._folder = self.live.current.gateway.state_dir
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self._folder / "lock")
        self._audit = JsonLinesAudit(self._folder / "audit", "supervisor")
        gateway = self.live.current.gateway
        with closing(StateStore(self._folder, store_url(gateway))) as store:  # its tables, before anyone needs them
            settle(store, self._folder, gateway.name)
        Spool(self._folder / "spool")
        self._metrics = self._folder / "metrics"
        shutil.rmtree(self._metrics, ignore_errors=True)
        self._metrics.mkdir()
        self.children = plan(self.live.current)
        self._stopping = False

    def run(self) -> None:
        """Run until SIGTERM or SIGINT."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        self._record("started")
        dicom = self.live.current.dicom
        LOG.info("the gateway starts: DICOM at %s:%d as %s", dicom.host, dicom.port, dicom.ae_title)
        try:
            while not self._stopping:
                self._start_due()
                self._wait(wake_read)
                if self.live.poll():
                    self._record("changed")
                    LOG.info("the changed configuration is taken up")
        finally:
            signal.set_wakeup_fd(-1)
            self._stop_all()
            self._record("stopped")

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _record(self, what: str) -> None:
        digest = hashlib.sha256(self._config.read_bytes()).hexdigest() if self._config.exists() else ""
        event = AuditEvent("configure", "ok", "supervisor", detail={"what": what, "config_sha256": digest})
        self._audit.record(event)

    def _start_due(self) -> None:
        now = time.monotonic()
        for child in self.children:
            if child.process is None and child.start_at <= now:
                command = [sys.executable, "-m", "wetread_gateway.process", child.stage, child.slot]
                environment = {**_ALLOCATOR, **os.environ, "PROMETHEUS_MULTIPROC_DIR": str(self._metrics)}
                child.process = subprocess.Popen(
                    [*command, "--config", str(self._config), "--supervisor", str(os.getpid())],
                    env=environment,
                    pass_fds=(self._lock,),  # the folder stays taken until the last of them is gone
                    start_new_session=True,  # a Ctrl-C is the supervisor's to pass on
                )
                child.pidfd = os.pidfd_open(child.process.pid)
                child.started_at = now

    def _wait(self, wake: int) -> None:
        running = {child.pidfd: child for child in self.children if child.process is not None}
        due = [child.start_at for child in self.children if child.process is None]
        timeout_s = min([0.5, *(max(0.0, at - time.monotonic()) for at in due)])
        ready, _, _ = select.select([wake, *running], [], [], timeout_s)
        for file in ready:
            if child := running.get(file):
                self._bury(child)

    def _bury(self, child: Child) -> None:
        assert child.process is not None
        code = child.process.wait()
        os.close(child.pidfd)
        now = time.monotonic()
        if now - child.started_at > _STEADY_S:
            child.pause_s = _FIRST_PAUSE_S
        LOG.error("a process ended and is started anew", extra={"slot": child.slot, "status": code})
        child.process, child.start_at = None, now + child.pause_s
        child.pause_s = min(child.pause_s * 2, _LONGEST_PAUSE_S)

    def _stop_all(self) -> None:
        """Doors first, so that nothing new comes in; then the rest, all within `drain_s`."""
        deadline = time.monotonic() + self.live.current.gateway.drain_s
        self._end(lambda child: child.stage in ("receiver", "http"), deadline)
        self._end(lambda child: True, deadline)

    def _end(self, chosen: Callable[[Child], bool], deadline: float) -> None:
        ending = [child for child in self.children if child.process is not None and chosen(child)]
        for child in ending:
            assert child.process is not None
            child.process.terminate()
        for child in ending:
            assert child.process is not None
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                LOG.error("a process did not stop in time and is killed", extra={"slot": child.slot})
                child.process.kill()
                child.process.wait()
            os.close(child.pidfd)
            child.process = None


def _lock(path: Path) -> int:
    """Take the state folder; the processes of a gateway that was killed are given a moment to die."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(file)
                raise AlreadyRunning(
                    f"another gateway works in {path.parent}; stop it, or give this one a state_dir of its own"
                ) from None
            time.sleep(0.05)
        else:
            return file


def run(config: Path, name: str = "") -> None:
    """Run the gateway of `config`, as the intake `name`; ConfigError and AlreadyRunning say what is wrong."""
    logs.set_up("supervisor")
    Supervisor(config, name).run()
