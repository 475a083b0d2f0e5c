"""A site of the benchmark of the swap: publishes, promotes and rolls back, and times what the server does."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wetread_client.rollout import Actor, RolloutError
from wetread_release import promotion, publishing
from wetread_release.errors import ReleaseError
from wetread_release.places import Places
from wetread_release.promotion import Patience
from wetread_release.release_site import Site

from wetread_bench.swap_drafts import PIPELINE

if TYPE_CHECKING:
    from pathlib import Path

    from wetread_release.follow import Outcome

ACTOR = Actor("wetread bench swap", "benchmark", approved_by="wetread bench swap")
FORCE = "a release of the benchmark, made to answer differently"
PATIENCE = Patience(timeout_s=180.0)


class NotCarriedOut(Exception):
    """The server's agent was not heard of within the time, so what became of a step is not known."""


class LoadLog:
    """Hears the server's log: when it began and ended to load or unload which model."""

    def __init__(self) -> None:
        self._heard: list[tuple[float, str]] = []
        self._lock = threading.Lock()

    def __call__(self, line: str) -> None:
        """Take a line of the log, which comes at once."""
        if "loading: " in line or "successfully " in line:
            with self._lock:
                self._heard.append((time.monotonic(), line))

    def span(self, begin: float, end: float, model: str = "") -> tuple[float, float] | None:
        """Give when the first and the last word of a load fell between two moments (monotonic); None: there was none.

        Args:
            begin: Seconds.
            end: Seconds.
            model: Only of this one; empty: of any.
        """
        with self._lock:
            moments = [at for at, line in self._heard if begin <= at <= end and _tells_of(line, model)]
        return (moments[0], moments[-1]) if moments else None


def _tells_of(line: str, model: str) -> bool:
    return not model or f": {model}:" in line or f"'{model}'" in line


@dataclass(frozen=True)
class Step:
    """What one command did. Moments in monotonic seconds."""

    begin: float
    """Of the command; of a publish, of the first load that it brought about."""
    end: float
    release: int
    """That was published, promoted or gone back to."""
    error: str = ""
    """Why it was refused."""


class Operator:
    """Takes the steps of a release on the site in `state`, as the commands do, and waits for the agent."""

    def __init__(self, state: Path, checkout: Path, log: LoadLog) -> None:
        self._site = Site.open(Places(state), checkout)
        self._log = log

    def publish(self, draft: Path) -> Step:
        """Publish a draft; `error` says why the server would not have it. NotCarriedOut: nobody knows."""
        begun, release, error = time.monotonic(), 0, ""
        try:
            outcome = publishing.publish(draft, self._site, ACTOR, PATIENCE, force=FORCE)
            _check_carried_out(outcome)
            release = outcome.rollout.candidate or 0
        except (ReleaseError, RolloutError) as refusal:
            error = str(refusal)
        ended = time.monotonic()
        loads = self._log.span(begun, ended)
        return Step(loads[0] if loads else begun, ended, release or self.highest(), error)

    def promote(self) -> Step:
        """Make the candidate stable."""
        begun = time.monotonic()
        outcome = promotion.promote(self._site, PIPELINE, ACTOR, PATIENCE)
        _check_carried_out(outcome)
        return self._switched(begun, outcome.rollout.stable)

    def rollback(self) -> Step:
        """Go back to the release before."""
        begun = time.monotonic()
        outcome = promotion.rollback(self._site, PIPELINE, ACTOR, PATIENCE)
        _check_carried_out(outcome)
        return self._switched(begun, outcome.rollout.stable)

    def withdraw(self) -> None:
        """Drop the candidate."""
        promotion.withdraw(self._site, PIPELINE, ACTOR, PATIENCE)

    def highest(self) -> int:
        """Give the highest release number that was ever given."""
        rollout = self._site.rollouts.read(PIPELINE)
        return max(self._site.registry.releases(PIPELINE), default=0) if rollout is None else rollout.highest

    def _switched(self, begun: float, stable: int) -> Step:
        """Begin with the load of the ensemble, so that the wait for the agent does not thin the window out."""
        ended = time.monotonic()
        load = self._log.span(begun, ended, PIPELINE)
        return Step(load[0] if load else begun, ended, stable)


def _check_carried_out(outcome: Outcome) -> None:
    if not outcome.settled:
        raise NotCarriedOut(f"{outcome.rollout.act} of release {outcome.rollout.highest}: {outcome.summary}")
