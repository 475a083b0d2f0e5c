"""Waits until the release agents have carried out a rollout, or say why they cannot."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from wetread_client.rollout import AgentState, StoreAway
from wetread_client.rollout.store import LIVE_S

from wetread_release.errors import ServeFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wetread_client.rollout import AgentReport, Rollout, RolloutStore

_LOOK_AGAIN_S = 1.0
"""An agent that falls silent makes no change that could wake us."""


@dataclass(frozen=True)
class Outcome:
    """How far the agents are with one revision."""

    rollout: Rollout
    settled: tuple[AgentReport, ...] = ()
    failed: tuple[AgentReport, ...] = ()
    waiting: tuple[AgentReport, ...] = ()
    silent: tuple[str, ...] = ()
    """Agents that were there when the wait began and ended during it."""
    overtaken_by: Rollout | None = None
    """A later step, taken by somebody else meanwhile."""

    @property
    def agents(self) -> int:
        """Count the live agents."""
        return len(self.settled) + len(self.failed) + len(self.waiting)

    @property
    def reasons(self) -> str:
        """Say in one text why agents failed; without a failure, which are not done. Empty: all are."""
        if self.failed:
            return "; ".join(f"{report.agent}: {_failure(report, self.rollout)}" for report in self.failed)
        return "; ".join(f"{each.agent}: not done yet ({each.message or each.state.value})" for each in self.waiting)

    @property
    def summary(self) -> str:
        """Say for a human how many agents are done."""
        if not self.agents:
            return "no agent is running: the next start of a server takes it up"
        text = f"{len(self.settled)} of {self.agents} agents done"
        if self.silent:
            text += f" ({', '.join(self.silent)} ended meanwhile: the next start takes it up)"
        return text


def live(reports: Iterable[AgentReport], now: float | None = None) -> tuple[AgentReport, ...]:
    """Give the reports of agents that run; `now` in seconds since the epoch."""
    moment = time.time() if now is None else now
    return tuple(sorted((each for each in reports if abs(moment - each.at) < LIVE_S), key=lambda each: each.agent))


class Verdict(Enum):
    """What a report means for the one who waits."""

    SETTLED = "settled"
    FAILED = "failed"
    WAITING = "waiting"


def carried_out(report: AgentReport, rollout: Rollout) -> Verdict:
    """Judge whether an agent's server serves all that the rollout wants."""
    if report.revision < rollout.revision or report.state is AgentState.WORKING:
        return Verdict.WAITING
    serves = report.stable == rollout.stable and report.candidate == (rollout.candidate or 0)
    further = report.revision > rollout.revision
    return Verdict.SETTLED if report.state is AgentState.SETTLED and (serves or further) else Verdict.FAILED


def serves_candidate(report: AgentReport, rollout: Rollout) -> Verdict:
    """Judge whether an agent's server answers with the candidate, whatever else may be wrong there."""
    if report.revision < rollout.revision or report.state is AgentState.WORKING:
        return Verdict.WAITING
    return Verdict.SETTLED if report.candidate == rollout.candidate else Verdict.FAILED


@dataclass
class Follower:
    """Follows one revision until every live agent is done, one fails, or the time is up."""

    store: RolloutStore
    rollout: Rollout
    timeout_s: float
    on_progress: Callable[[Outcome], None] = lambda outcome: None
    judge: Callable[[AgentReport, Rollout], Verdict] = carried_out
    all_reports: bool = False
    """Wait for the others when one has failed."""
    _seen: set[str] = field(default_factory=set)

    def wait(self) -> Outcome:
        """Wait; StoreAway when the store cannot be reached even at the end."""
        deadline = time.monotonic() + self.timeout_s
        stop = threading.Event()
        while True:
            left_s = deadline - time.monotonic()
            try:
                outcome = self._look()
            except StoreAway:
                if left_s <= 0:
                    raise
                stop.wait(min(left_s, _LOOK_AGAIN_S))
                continue
            self.on_progress(outcome)
            if self._is_over(outcome) or left_s <= 0:
                return outcome
            self.store.changed(stop, min(left_s, _LOOK_AGAIN_S))

    def _look(self) -> Outcome:
        judged: dict[Verdict, list[AgentReport]] = {verdict: [] for verdict in Verdict}
        reports = live(self.store.reports(self.rollout.pipeline))
        if self.judge is serves_candidate:
            reports = (*reports, *self._yet_unheard(reports))
        for report in reports:
            judged[self.judge(report, self.rollout)].append(report)
        there = {report.agent for report in reports}
        self._seen |= there
        now = self.store.read(self.rollout.pipeline)
        return Outcome(
            self.rollout,
            settled=tuple(judged[Verdict.SETTLED]),
            failed=tuple(judged[Verdict.FAILED]),
            waiting=tuple(judged[Verdict.WAITING]),
            silent=tuple(sorted(self._seen - there)),
            overtaken_by=now if now is not None and now.revision > self.rollout.revision else None,
        )

    def _yet_unheard(self, heard: Iterable[AgentReport]) -> Iterable[AgentReport]:
        """Give a report without a word for each agent that lives and has said nothing of this pipeline: it is new."""
        known = {report.agent for report in heard}
        others = {report.agent: report for report in live(self.store.all_reports()) if report.agent not in known}
        return tuple(
            replace(each, pipeline=self.rollout.pipeline, revision=0, stable=0, candidate=0, message="")
            for each in others.values()
        )

    def _is_over(self, outcome: Outcome) -> bool:
        if outcome.overtaken_by is not None or not outcome.waiting:
            return True
        return bool(outcome.failed) and not self.all_reports


def check_not_overtaken(outcome: Outcome) -> None:
    """Raise ServeFailed where somebody else's step ended the wait."""
    later = outcome.overtaken_by
    if later is not None:
        raise ServeFailed(
            f"meanwhile {later.by or 'somebody'} took another step ({later.act}, revision {later.revision}): "
            "see `wetread release list`"
        )


def _failure(report: AgentReport, rollout: Rollout) -> str:
    if report.message:
        return report.message
    wanted = f"{rollout.stable or 'none'} and candidate {rollout.candidate or 'none'}"
    return f"{report.state.value}: it serves {report.stable or 'none'} and {report.candidate or 'none'}, not {wanted}"
