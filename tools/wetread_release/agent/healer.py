"""Brings back the processes of models that died: Triton 2.51 neither restarts them nor tells."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wetread_embedded import stubs
from wetread_embedded.errors import ServerCallFailed
from wetread_embedded.heal import Heal

from wetread_release.agent.backoff import Backoff
from wetread_release.agent.canary import Canary

if TYPE_CHECKING:
    from collections.abc import Callable

    from wetread_embedded.rest import Rest
    from wetread_embedded.stubs import Stub

    from wetread_release.agent.served import ServedCopy
from wetread_release.errors import ServeFailed

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Patient:
    """A model that waits for its heal. Times are monotonic seconds."""

    model: str
    cause: str
    noticed: float
    due: float
    versions: frozenset[str]
    """Which of its versions are dead; empty: it is not known, so all of them."""


@dataclass(frozen=True)
class Sick:
    """A model with dead processes: since when (monotonic seconds), and how often healing it has failed."""

    since: float
    failures: int = 0


@dataclass(frozen=True)
class _Report:
    """A canary's answer by a dead process."""

    model: str
    version: str
    """Empty: the model's policy names none."""
    words: str
    sent: float


class Healer:
    """Watches every stub by its process id, and every version by a canary inference; one heal at a time.

    `load`: loads a model, as `Control` does.
    `prefix`: what the names of the server's shared memory begin with; empty where its processes cannot be seen, so
    that the canaries find all deaths.
    """

    def __init__(
        self,
        rest: Rest,
        served: ServedCopy,
        prefix: str,
        *,
        canary_interval_s: float,
        load: Callable[[str], None],
        lock: threading.Lock | None = None,
        on_heal: Callable[[Heal], None] | None = None,
    ) -> None:
        self.heals: list[Heal] = []
        self.lock = lock or threading.Lock()
        """Held during a heal. Whoever else loads models takes it, too."""
        self._rest = rest
        self._served = served
        self._prefix = prefix
        self._canary_interval_s = canary_interval_s
        self._load = load
        self._on_heal = on_heal
        self._selector = selectors.DefaultSelector()
        self._watched: dict[int, int] = {}  # process id -> pidfd
        self._patients: dict[str, _Patient] = {}
        self._sick: dict[str, Sick] = {}
        self._backoffs: dict[str, Backoff] = {}
        self._canaries: dict[str, threading.Thread] = {}
        self._reports: deque[_Report] = deque()
        self._stopping = threading.Event()
        self._look = threading.Event()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector.register(self._wake_fd, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="healer", daemon=True)

    @property
    def watched_pids(self) -> list[int]:
        """The process ids whose death is noticed at once."""
        return list(self._watched)

    @property
    def sick(self) -> dict[str, Sick]:
        """The models that wait for their heal, or are being healed."""
        served = set(self._served.model_names())
        return {model: sick for model, sick in dict(self._sick).items() if model in served}

    @property
    def is_alive(self) -> bool:
        """Whether it still looks."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to watch."""
        self._rescan()
        self._thread.start()

    def look_again(self) -> None:
        """Find out what runs now: somebody has loaded a model."""
        self._look.set()
        self._wake()

    def stop(self) -> None:
        """End; a heal that has begun ends first, unless the server hangs in it."""
        self._stopping.set()
        self._wake()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def _run(self) -> None:
        next_rescan = time.monotonic() + self._canary_interval_s
        while not self._stopping.is_set():
            due = min([next_rescan, *(patient.due for patient in self._patients.values())])
            for key, _ in self._selector.select(max(0.0, due - time.monotonic())):
                self._on_event(key.data)
            while self._reports:
                self._on_report(self._reports.popleft())
            for patient in list(self._patients.values()):
                if patient.due <= time.monotonic() and not self._stopping.is_set():
                    del self._patients[patient.model]
                    self._heal(patient)
            if time.monotonic() >= next_rescan or self._look.is_set():
                self._look.clear()
                self._rescan()
                next_rescan = time.monotonic() + self._canary_interval_s
        for pid in list(self._watched):
            self._unwatch(pid)

    def _on_event(self, stub: Stub | None) -> None:
        if stub is None:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake_fd)
            return
        self._unwatch(stub.pid)
        if not self._stopping.is_set() and not self._is_retired(stub):
            self._admit(stub.model, f"process {stub.pid} of {stub.instance} died", frozenset([stub.version]))

    def _on_report(self, report: _Report) -> None:
        backoff = self._backoffs.get(report.model)
        if backoff is None or backoff.last_heal < report.sent:  # else it met the process that was replaced since
            versions = frozenset([report.version] if report.version else [])
            self._admit(report.model, f"its canary was told: {report.words}", versions)

    def _is_retired(self, stub: Stub) -> bool:
        """Tell whether the stub ended in order: a newer one has its place, or its version is gone."""
        place = (stub.model, stub.version, stub.instance)
        if any((other.model, other.version, other.instance) == place for other in stubs.find(self._prefix)):
            return True
        return not self._rest.is_ready(f"{stub.model}/versions/{stub.version}")  # it stays ready when its stubs die

    def _admit(self, model: str, cause: str, versions: frozenset[str]) -> None:
        waiting = self._patients.get(model)
        if waiting is not None:
            both = waiting.versions | versions if waiting.versions and versions else frozenset[str]()
            self._patients[model] = replace(waiting, versions=both)
            return
        now = time.monotonic()
        self._sick.setdefault(model, Sick(now))
        wait_s = self._backoffs.setdefault(model, Backoff()).next_wait_s(now)
        if wait_s:
            log.error("%s dies again and again (%s): brought back in %.1f s", model, cause, wait_s)
        self._patients[model] = _Patient(model, cause, now, now + wait_s, versions)

    def _heal(self, patient: _Patient) -> None:
        with self.lock:
            error = self._reload(patient)
            self._rescan()
        if self._stopping.is_set():
            return
        now = time.monotonic()
        self._backoffs[patient.model].last_heal = now
        heal = Heal(patient.model, patient.cause, now - patient.noticed, error)
        self.heals.append(heal)
        log.log(logging.ERROR if error else logging.WARNING, "%s", heal)
        if self._on_heal is not None:
            self._on_heal(heal)
        if not error:
            self._sick.pop(patient.model, None)
        else:
            sick = self._sick[patient.model]
            self._sick[patient.model] = replace(sick, failures=sick.failures + 1)
            self._admit(patient.model, f"still dead: {patient.cause}", patient.versions)

    def _reload(self, patient: _Patient) -> str:
        """Load the model anew; return why that failed, or ''."""
        try:
            for version in self._served.versions(patient.model):
                if not patient.versions or version.name in patient.versions:
                    os.utime(version)  # a load without a change does nothing
            self._load(patient.model)
        except (ServeFailed, OSError) as error:
            return str(error)
        return "" if self._rest.is_ready(patient.model) else "it is not ready after the load"

    def _rescan(self) -> None:
        """Watch the stubs that are not watched yet, and give every model a canary. Whoever loads a model calls it."""
        for stub in stubs.find(self._prefix) if self._prefix else ():
            if stub.pid not in self._watched:
                with contextlib.suppress(ProcessLookupError):
                    fd = os.pidfd_open(stub.pid)
                    self._watched[stub.pid] = fd
                    self._selector.register(fd, selectors.EVENT_READ, stub)
        for model in self._served.model_names():
            if model not in self._canaries:
                name = f"canary-{model}"
                canary = threading.Thread(target=self._send_canaries, args=(model,), name=name, daemon=True)
                self._canaries[model] = canary
                canary.start()

    def _send_canaries(self, model: str) -> None:
        """Ask the model's versions again and again. Each waits for its answer as long as it takes: slow is not dead."""
        while not self._stopping.wait(self._canary_interval_s):
            sent = time.monotonic()
            try:
                for version, canary in Canary.of_versions(model, self._rest.config(model)).items():
                    if words := canary.find_dead(self._rest):
                        self._reports.append(_Report(model, version, words, sent))
                        self._wake()
            except ServerCallFailed:
                continue  # unloaded, or being loaded

    def _wake(self) -> None:
        os.eventfd_write(self._wake_fd, 1)

    def _unwatch(self, pid: int) -> None:
        fd = self._watched.pop(pid)
        self._selector.unregister(fd)
        os.close(fd)
