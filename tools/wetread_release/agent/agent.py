"""The agent: follows the rollouts, carries them out on its server under one lock with healing, and reports."""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wetread_client.rollout import AgentReport, AgentState, Arm, Rollout, RolloutError, StoreAway

from wetread_release.errors import FellBack, ReleaseError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from wetread_client.rollout import RolloutStore

    from wetread_release.agent.carry_out import CarryOut
    from wetread_release.agent.start import Begun

LOG = logging.getLogger(__name__)
_SOON_S = 1.0
_NICENESS = 10  # of the agent's thread alone


@dataclass(frozen=True)
class AgentSettings:
    """Who an agent is, and how patient."""

    name: str
    target: str
    device: str
    url: str
    """The server's HTTP address."""
    heartbeat_s: float = 5.0
    drain_s: float = 5.0
    """Seconds that a candidate arm answers on after nobody is assigned to it any more."""
    again_s: float = 30.0
    """After a failure that time may mend: a registry that is away, memory, a fault of our own."""


@dataclass
class _Seen:
    """How far the agent is with one pipeline. Times are monotonic seconds."""

    revision: int = 0
    state: AgentState = AgentState.WORKING
    message: str = ""
    failed_release: int = 0
    again_at: float = float("inf")
    drop_at: float = float("inf")
    reported_at: float = float("-inf")


class Agent:
    """Looks after the releases of one running server, in a thread of its own.

    `lock`: taken for every load; the healer takes it, too. `begun`: what pipelines with a rollout were started with.
    """

    def __init__(
        self,
        settings: AgentSettings,
        rollouts: RolloutStore,
        carry_out: CarryOut,
        lock: threading.Lock,
        begun: Mapping[str, Begun],
        on_change: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.settings = settings
        self._rollouts, self._do, self._lock, self._begun = rollouts, carry_out, lock, begun
        self._on_change = on_change
        self._seen: dict[str, _Seen] = {}
        self._started_at: dict[str, int] = {}  # the revision that a pipeline fell back from
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="release-agent", daemon=True)

    @property
    def is_alive(self) -> bool:
        """Whether it still follows."""
        return self._thread.is_alive()

    def settled(self) -> dict[str, bool]:
        """Tell of each pipeline whether what is wanted is served."""
        return {pipeline: seen.state is AgentState.SETTLED for pipeline, seen in dict(self._seen).items()}

    def releases(self) -> dict[tuple[str, Arm], int]:
        """Give the release of each arm of a pipeline that answers now."""
        arms = {
            (pipeline, arm): self._do.serves(arm, pipeline) for pipeline in self._do.pipelines_served() for arm in Arm
        }
        return {arm: release for arm, release in arms.items() if release}

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """End; a step that has begun ends first, unless the server hangs in it. The reports are withdrawn."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10.0)

    def _run(self) -> None:
        with suppress(OSError):  # copying and hashing yield to patients
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        while not self._stopping.is_set():
            try:
                followed = self._rollouts.pipelines()
                for pipeline in followed:
                    if not self._stopping.is_set():
                        self._look(pipeline)
                for pipeline in self._do.pipelines_served():
                    if pipeline not in followed:
                        self._greet(pipeline)
                self._rollouts.changed(self._stopping, self._wait_s())
            except StoreAway as error:  # what is served stays
                LOG.warning("the rollout store cannot be read: %s", error)
                self._stopping.wait(1.0)
            except RolloutError as error:
                LOG.error("a rollout cannot be read: %s", error)
                self._stopping.wait(1.0)
            except Exception:  # the thread's outermost loop: what is served stays, and so does the agent
                LOG.exception("the release agent failed in a step")
                self._stopping.wait(self.settings.again_s)
        self._withdraw_reports()

    def _wait_s(self) -> float:
        due = min((min(seen.again_at, seen.drop_at) for seen in self._seen.values()), default=float("inf"))
        return max(0.0, min(due - time.monotonic(), self.settings.heartbeat_s))

    def _look(self, pipeline: str) -> None:
        rollout = self._rollouts.read(pipeline)
        if rollout is None:
            return
        seen = self._seen.setdefault(pipeline, _Seen())
        now = time.monotonic()
        if rollout.revision != seen.revision or now >= seen.again_at:
            seen.revision, seen.again_at, seen.drop_at = rollout.revision, float("inf"), float("inf")
            with self._heard_working(rollout):
                self._carry_out(rollout, seen)
            self._report(rollout, seen.state)
        elif now >= seen.drop_at:
            seen.drop_at = float("inf")
            self._end_candidate(rollout)
            self._report(rollout, seen.state)
        elif now - seen.reported_at >= self.settings.heartbeat_s:
            self._report(rollout, seen.state)

    @contextmanager
    def _heard_working(self, rollout: Rollout) -> Iterator[None]:
        """Report meanwhile, from a thread of its own, that work is under way: a load may take minutes."""
        over = threading.Event()

        def report() -> None:
            while not over.wait(self.settings.heartbeat_s):
                with suppress(StoreAway):
                    self._report(rollout, AgentState.WORKING)

        self._report(rollout, AgentState.WORKING)
        thread = threading.Thread(target=report, name="release-agent-heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _greet(self, pipeline: str) -> None:
        """Tell of a pipeline that nobody has published yet: whoever does then waits for this agent."""
        seen = self._seen.setdefault(pipeline, _Seen(state=AgentState.SETTLED))
        if time.monotonic() - seen.reported_at >= self.settings.heartbeat_s:
            self._report(Rollout(pipeline, revision=0), AgentState.SETTLED)

    def _carry_out(self, rollout: Rollout, seen: _Seen) -> None:
        seen.message, seen.failed_release = "", 0
        stable_fails = self._attempt(lambda: self._stable(rollout), seen, rollout.stable)
        candidate_fails = self._attempt(lambda: self._do.candidate(rollout), seen, rollout.candidate or 0)
        with self._lock:
            self._do.previous(rollout)
        if rollout.candidate is None and self._do.serves(Arm.CANDIDATE, rollout.pipeline):
            seen.drop_at = time.monotonic() + self.settings.drain_s
        else:
            self._tidy(rollout)
        seen.state = AgentState.SETTLED
        if stable_fails or candidate_fails:
            fell_back = isinstance(stable_fails, FellBack)
            seen.state = AgentState.FALLBACK if fell_back else AgentState.FAILED
            seen.again_at = time.monotonic() + self.settings.again_s if stable_fails and not fell_back else float("inf")
            if not self._do.is_live():  # a server that ended proves nothing against a release
                seen.state, seen.again_at = AgentState.WORKING, time.monotonic() + _SOON_S
        self._on_change(rollout.pipeline)

    def _stable(self, rollout: Rollout) -> None:
        begun = self._begun.get(rollout.pipeline)
        if begun is not None and begun.problem and begun.release != rollout.stable:
            revision = self._started_at.setdefault(rollout.pipeline, rollout.revision)
            if revision == rollout.revision:  # tried at the start; only another step or start tries again
                raise FellBack(begun.problem)
        self._do.stable(rollout)
        if rollout.stable:
            self._do.check_as_served(rollout.pipeline, rollout.stable)

    def _attempt(self, act: Callable[[], None], seen: _Seen, release: int) -> Exception | None:
        """Act under the lock; return what went wrong, and note it."""
        try:
            with self._lock:
                act()
        except (ReleaseError, OSError) as error:
            seen.message = f"{seen.message}; {error}" if seen.message else str(error)
            seen.failed_release = seen.failed_release or release
            LOG.error("release %d: %s", release, error)
            return error
        return None

    def _end_candidate(self, rollout: Rollout) -> None:
        try:
            with self._lock:
                self._do.drop_candidate(rollout.pipeline)
        except ReleaseError as error:
            LOG.warning("the candidate arm of %s is still served: %s", rollout.pipeline, error)
        self._tidy(rollout)
        self._on_change(rollout.pipeline)

    def _tidy(self, rollout: Rollout) -> None:
        try:
            with self._lock:
                removed = self._do.tidy(rollout)
        except (ReleaseError, OSError) as error:
            LOG.warning("old releases of %s stay loaded: %s", rollout.pipeline, error)
        else:
            if removed:
                LOG.info("removed what nobody needs: %s", ", ".join(removed))

    def _report(self, rollout: Rollout, state: AgentState) -> None:
        seen = self._seen[rollout.pipeline]
        seen.reported_at = time.monotonic()
        settings = self.settings
        self._rollouts.report(
            AgentReport(
                agent=settings.name,
                pipeline=rollout.pipeline,
                revision=rollout.revision,
                state=state,
                stable=self._do.serves(Arm.STABLE, rollout.pipeline),
                # One that is drained answers a little longer, to nobody.
                candidate=self._do.serves(Arm.CANDIDATE, rollout.pipeline) if rollout.candidate else 0,
                target=settings.target,
                device=settings.device,
                url=settings.url,
                message=seen.message if state is not AgentState.WORKING else "",
                failed_release=seen.failed_release if state is not AgentState.WORKING else 0,
                at=time.time(),
            )
        )

    def _withdraw_reports(self) -> None:
        for pipeline in self._seen:
            try:
                for report in self._rollouts.reports(pipeline):
                    if report.agent == self.settings.name:
                        self._rollouts.forget(report)
            except (StoreAway, RolloutError) as error:
                LOG.warning("the report of %s stays behind: %s", pipeline, error)
