"""Rollouts in a folder that is watched: for one machine, or several that share a file system with locks.

<folder>/<pipeline>/<revision>.json      all revisions; the newest is in force
<folder>/<pipeline>/agents/<agent>.json  the last report of each agent
<folder>/<pipeline>/writer.lock          held with flock by the command that changes the pipeline
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

from wetread_client.rollout.document import Rollout, RolloutError
from wetread_client.rollout.seen import Seen
from wetread_client.rollout.store import AgentReport, Conflict, StoreAway, WriterBusy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POLL_S = 0.2
"""How often a watcher looks: a change is in force elsewhere within a second."""
_LOCK_POLL_S = 0.05
_LEFTOVER_S = 60.0
_LONGEST_NAME = 200
_REVISION = re.compile(r"([1-9][0-9]*)\.json")
_PIPELINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class FolderStore:
    """A RolloutStore in a folder. A revision is linked under its number when it is on disk: whole or not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen = Seen()
        self._told: frozenset[tuple[str, int, int]] | None = None
        self._telling = threading.Lock()

    @property
    def where(self) -> str:
        """Give the folder, for messages."""
        return str(self._folder)

    def pipelines(self) -> tuple[str, ...]:
        """Give the pipelines that have a rollout, in order."""
        known = self._seen.known()
        found = tuple(name for name in self._names() if self._revisions(name))
        self._seen.check(known, found, self.where)
        return found

    def read(self, pipeline: str) -> Rollout | None:
        """Give the rollout in force, None where there is none."""
        known = self._seen.known()
        revisions = self._revisions(pipeline)
        rollout = self._load(pipeline, revisions[-1]) if revisions else None
        self._seen.note(known, pipeline, rollout, self.where)
        return rollout

    def write(self, rollout: Rollout) -> None:
        """Put the next revision in force; Conflict unless it follows the one in force."""
        folder = self._pipeline(rollout.pipeline)
        rollout.check()
        with self._usable():
            folder.mkdir(parents=True, exist_ok=True)
            newest = max(self._revisions(rollout.pipeline), default=0)
            if rollout.revision != newest + 1:
                raise _overtaken(rollout, newest)
            _clear_leftovers(folder)
            partial = folder / f".{rollout.revision}.{os.getpid()}.{threading.get_ident()}"
            try:
                _write_durably(partial, rollout.dump())
                os.link(partial, folder / f"{rollout.revision}.json")  # fails where it exists: compare and swap
            except FileExistsError as error:
                raise _overtaken(rollout, rollout.revision) from error
            finally:
                partial.unlink(missing_ok=True)
            for each in (folder, self._folder):
                _sync_folder(each)

    def history(self, pipeline: str) -> tuple[Rollout, ...]:
        """Give all revisions, oldest first."""
        return tuple(self._load(pipeline, revision) for revision in self._revisions(pipeline))

    @contextmanager
    def writer(self, pipeline: str, timeout_s: float = 0.0) -> Iterator[None]:
        """Hold the one writer's lock of a pipeline; it ends with its process. WriterBusy after `timeout_s`."""
        folder = self._pipeline(pipeline)
        with self._usable():
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / "writer.lock").open("a")
        with lock:
            deadline = time.monotonic() + timeout_s
            while not _locked(lock.fileno()):
                if time.monotonic() >= deadline:
                    raise WriterBusy(f"another command is changing {pipeline} now: wait until it has ended")
                time.sleep(_LOCK_POLL_S)
            try:
                yield
            finally:
                fcntl.flock(lock, fcntl.LOCK_UN)  # a child that was forked meanwhile would hold it on

    def changed(self, stop: threading.Event, timeout_s: float) -> bool:
        """Wait until any rollout or report may have changed, `stop` is set or the time is up; say whether one may."""
        deadline = time.monotonic() + timeout_s
        while True:
            seen = self._state()
            with self._telling:
                if seen != self._told:
                    self._told = seen
                    return True
            if stop.wait(min(POLL_S, max(deadline - time.monotonic(), 0.0))) or time.monotonic() >= deadline:
                return False

    def report(self, report: AgentReport) -> None:
        """Put an agent's report in the place of its last one."""
        path = self._report(report)
        with self._usable():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
            partial.write_bytes(report.dump())  # not fsynced: it is written anew every few seconds
            partial.replace(path)

    def reports(self, pipeline: str) -> tuple[AgentReport, ...]:
        """Give the last report of every agent, also of those that ended long ago."""
        folder = self._pipeline(pipeline) / "agents"
        found = []
        with self._usable():
            for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
                try:
                    found.append(AgentReport.parse(path.read_bytes()))
                except FileNotFoundError:
                    continue  # its agent ended just now
                except RolloutError as error:
                    raise RolloutError(f"{path}: {error}") from error
        return tuple(found)

    def all_reports(self) -> tuple[AgentReport, ...]:
        """Give the reports of all pipelines."""
        return tuple(report for name in self._names() for report in self.reports(name))

    def forget(self, report: AgentReport) -> None:
        """Remove an agent's report: it ended in order."""
        with self._usable():
            self._report(report).unlink(missing_ok=True)

    def _pipeline(self, pipeline: str) -> Path:
        if not _PIPELINE.fullmatch(pipeline):
            raise RolloutError(f"{pipeline!r} is no pipeline's name")
        return self._folder / pipeline

    def _report(self, report: AgentReport) -> Path:
        """Give the path of an agent's report; an agent's name may hold what a file's may not."""
        name = quote(report.agent, safe=" @:+=")
        if name.startswith(".") or len(name) > _LONGEST_NAME:
            name = hashlib.sha256(report.agent.encode()).hexdigest()
        return self._pipeline(report.pipeline) / "agents" / f"{name}.json"

    def _names(self) -> list[str]:
        with self._usable():
            if not self._folder.is_dir():
                return []
            return sorted(path.name for path in self._folder.iterdir() if _PIPELINE.fullmatch(path.name))

    def _revisions(self, pipeline: str) -> list[int]:
        folder = self._pipeline(pipeline)
        with self._usable():
            names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        return sorted(int(found[1]) for name in names if (found := _REVISION.fullmatch(name)))

    def _load(self, pipeline: str, revision: int) -> Rollout:
        path = self._pipeline(pipeline) / f"{revision}.json"
        with self._usable():
            content = path.read_bytes()
        try:
            rollout = Rollout.parse(content)
        except RolloutError as error:
            raise RolloutError(f"{path}: {error}") from error
        if (rollout.pipeline, rollout.revision) != (pipeline, revision):
            raise RolloutError(f"{path} is revision {rollout.revision} of {rollout.pipeline}: it was put there by hand")
        return rollout

    def _state(self) -> frozenset[tuple[str, int, int]]:
        """Give what differs after every change: newest revisions, and every report's file (path, number, time)."""
        found: set[tuple[str, int, int]] = set()
        for name in self._names():
            found.add((name, max(self._revisions(name), default=0), 0))
            with self._usable():
                agents = self._folder / name / "agents"
                for entry in os.scandir(agents) if agents.is_dir() else ():
                    if entry.name.endswith(".json") and (stat := _stat(entry)):
                        found.add((entry.path, stat.st_ino, stat.st_mtime_ns))
        return frozenset(found)

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreAway(f"{self._folder} cannot be used: {error}") from error


def _overtaken(rollout: Rollout, newest: int) -> Conflict:
    return Conflict(
        f"revision {rollout.revision} of {rollout.pipeline} does not follow revision {newest}, which is in force: "
        "somebody else took a step; look and try again"
    )


def _clear_leftovers(folder: Path) -> None:
    """Remove what writers that were killed have left."""
    for path in folder.glob(".*"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _LEFTOVER_S:
                path.unlink()


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    """Look at a file that may be gone again."""
    try:
        return entry.stat()
    except FileNotFoundError:
        return None


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
