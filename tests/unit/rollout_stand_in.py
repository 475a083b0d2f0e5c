"""Stand-ins for tests of the commands: rollouts kept in memory, and agents that only say that they carried them out."""

import threading
import time
from contextlib import contextmanager
from dataclasses import replace

from wetread_client.rollout import AgentReport, AgentState, Conflict, WriterBusy


class MemoryRollouts:
    """A rollout store in this process; `before_write` may be set to let something happen first."""

    def __init__(self):
        self._history = {}
        self._reports = {}
        self._locks = {}
        self._change = threading.Condition()
        self._told = threading.local()  # each thread stands for a store object of its own
        self._count = 0

    def pipelines(self):
        return tuple(sorted(self._history))

    def read(self, pipeline):
        return self._history.get(pipeline, (None,))[-1]

    def write(self, rollout):
        rollout.check()
        with self._change:
            before = self.read(rollout.pipeline)
            if rollout.revision != (before.revision if before else 0) + 1:
                raise Conflict(f"revision {rollout.revision} does not follow")
            self._history[rollout.pipeline] = (*self._history.get(rollout.pipeline, ()), rollout)
            self._tell()

    def history(self, pipeline):
        return self._history.get(pipeline, ())

    @contextmanager
    def writer(self, pipeline, timeout_s=0.0):
        lock = self._locks.setdefault(pipeline, threading.Lock())
        if not lock.acquire(timeout=timeout_s):
            raise WriterBusy(f"{pipeline} is being changed")
        try:
            yield
        finally:
            lock.release()

    def changed(self, stop, timeout_s):
        with self._change:
            before = getattr(self._told, "count", 0)
            changed = self._change.wait_for(lambda: self._count != before, timeout=timeout_s)
            self._told.count = self._count
            return changed

    def report(self, report):
        with self._change:
            self._reports[report.pipeline, report.agent] = report
            self._tell()

    def reports(self, pipeline):
        return tuple(report for (name, _), report in list(self._reports.items()) if name == pipeline)

    def all_reports(self):
        return tuple(self._reports.values())

    def forget(self, report):
        with self._change:
            self._reports.pop((report.pipeline, report.agent), None)
            self._tell()

    def _tell(self):
        self._count += 1
        self._change.notify_all()


class StandInAgent:
    """Reports for one pipeline, in a thread: what is wanted is served, but for the releases in `broken`.

    broken: reasons by release; they count from the next step on. As a real agent it keeps what it served.
    silent: it never gets on with anything.
    """

    def __init__(self, store, pipeline, name="server-1", broken=None, silent=False, target="cpu", device="cpu-test"):
        self._store, self._pipeline = store, pipeline
        self.broken = dict(broken or {})
        self._silent = silent
        self._stop, self._turn = threading.Event(), threading.Lock()
        self.last = AgentReport(name, pipeline, 0, AgentState.WORKING, 0, 0, target, device, "http://127.0.0.1:1")
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self.last = replace(self.last, at=0.0)
        self._report()
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._stop.set()
        self._thread.join()
        self._store.forget(self.last)

    def say(self, **changes):
        """Report this as though it were so: a silent agent never says anything else."""
        with self._turn:
            self.last = replace(self.last, **changes)
            self._store.report(self.last)

    def _run(self):
        while not self._stop.is_set():
            self._store.changed(self._stop, 0.02)
            with self._turn:
                self._report()

    def _report(self):
        rollout = self._store.read(self._pipeline)
        report = replace(self.last, at=time.time())
        if rollout is not None and not self._silent and rollout.revision != report.revision:
            report = self._carry_out(report, rollout)
        if replace(report, at=self.last.at) != self.last or report.at - self.last.at > 0.2:
            self.last = report
            self._store.report(report)

    def _carry_out(self, report, rollout):
        done = replace(report, revision=rollout.revision, state=AgentState.SETTLED, message="", failed_release=0)
        for arm in ("stable", "candidate"):
            wanted = getattr(rollout, arm) or 0
            if wanted in self.broken:
                message = self.broken[wanted]
                done = replace(done, state=AgentState.FAILED, message=message, failed_release=wanted)
                done = replace(done, candidate=0) if arm == "candidate" else done
            else:
                done = replace(done, **{arm: wanted})
        return done
