"""Promote, roll back, withdraw: the next rollout is written, the agents carry it out, and what fails is undone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wetread_client.rollout import Conflict, RolloutError, steps

from wetread_release.errors import Absent, ServeFailed
from wetread_release.follow import Follower, Outcome, carried_out, check_not_overtaken, serves_candidate

if TYPE_CHECKING:
    from collections.abc import Callable

    from wetread_client.rollout import Actor, AgentReport, Rollout, RolloutStore

    from wetread_release.follow import Verdict
    from wetread_release.release_site import Site

WRITER_WAIT_S = 10.0
"""A writer's lock is held for a read and a write, by a publish for the copy of its files."""
_TRIES = 5


@dataclass(frozen=True)
class Patience:
    """How long to wait for the agents, and whom to tell how far they are."""

    timeout_s: float = 60.0
    on_progress: Callable[[Outcome], None] = lambda outcome: None

    def follow(
        self,
        store: RolloutStore,
        rollout: Rollout,
        judge: Callable[[AgentReport, Rollout], Verdict] = carried_out,
        *,
        all_reports: bool = False,
    ) -> Outcome:
        """Wait until the agents have carried out the rollout."""
        return Follower(store, rollout, self.timeout_s, self.on_progress, judge, all_reports).wait()


def promote(
    site: Site, pipeline: str, actor: Actor, patience: Patience, *, keep_going: bool = False, release: int | None = None
) -> Outcome:
    """Make the candidate stable on every live server; a promotion that was broken off is finished.

    Args:
        site: The stores.
        pipeline: Its name.
        actor: Who; an approval and a reason are needed.
        patience: Of the wait for the agents.
        keep_going: Leave a promotion half done that some server could not carry out; else it is undone everywhere.
        release: The candidate that is meant; None: whichever it is.

    Raises:
        RolloutError: the step is not allowed.
        ServeFailed: a server does not serve the candidate, or could not make it stable; the message says which.
    """
    before = _current(site.rollouts, pipeline)
    if _is_stable_already(before, release):
        return _finished(patience.follow(site.rollouts, before, all_reports=True))
    if release is not None and before.candidate != release:
        raise RolloutError(f"the candidate of {pipeline} is {before.candidate or 'none'}, not release {release}")
    steps.promote(before, actor)  # refuses before anything is waited for
    _check_served(site.rollouts, before, patience)
    with site.rollouts.writer(pipeline, WRITER_WAIT_S):
        if (now := _current(site.rollouts, pipeline)) != before:
            raise Conflict(f"{now.by or 'somebody'} took another step meanwhile ({now.act}): look and promote again")
        promoted = steps.promote(before, actor)
        site.rollouts.write(promoted)
    outcome = patience.follow(site.rollouts, promoted, all_reports=keep_going)
    check_not_overtaken(outcome)
    if not outcome.reasons:
        return outcome
    if keep_going:
        raise ServeFailed(
            f"release {promoted.stable} is stable on {len(outcome.settled)} of {outcome.agents} servers: "
            f"{outcome.reasons}. Mend these, or `wetread release rollback {pipeline}`"
        )
    raise ServeFailed(_undone(site.rollouts, before, outcome, actor, patience))


def rollback(site: Site, pipeline: str, actor: Actor, patience: Patience, *, to: int | None = None) -> Outcome:
    """Make the release before stable, or `to`; it is never undone. A rollback that was broken off is finished.

    It waits for no other writer: a publish may hold the lock for as long as it copies.

    Raises:
        RolloutError: the step is not allowed.
        Absent: there is no such release.
        ServeFailed: a server could not go back; the message says which.
    """
    rollout = _roll_back(site, pipeline, actor, to)
    return _finished(patience.follow(site.rollouts, rollout, all_reports=True))


def withdraw(site: Site, pipeline: str, actor: Actor, patience: Patience) -> Outcome:
    """Drop the candidate; RolloutError where there is none."""
    with site.rollouts.writer(pipeline, WRITER_WAIT_S):
        withdrawn = steps.withdraw(_current(site.rollouts, pipeline), actor)
        site.rollouts.write(withdrawn)
    return _finished(patience.follow(site.rollouts, withdrawn, all_reports=True))


def take_back(store: RolloutStore, then: Rollout) -> Rollout | None:
    """Write `then` right after a step that failed; None where somebody has taken another step since."""
    try:
        store.write(then)
    except Conflict:
        return None
    return then


def _roll_back(site: Site, pipeline: str, actor: Actor, to: int | None) -> Rollout:
    """Write the rollback, on top of whatever others write meanwhile; give what is in force where it is done already."""
    for _ in range(_TRIES):
        rollout = _current(site.rollouts, pipeline)
        if rollout.stable == to or (to is None and _last_switch(site.rollouts, rollout) == "rollback"):
            return rollout
        if to is not None and to not in rollout.wanted:  # what servers hold is not asked of a registry in trouble
            _check_published(site, pipeline, to)
        try:
            back = steps.rollback(rollout, actor, to)
            site.rollouts.write(back)
        except Conflict:
            continue
        return back
    raise Conflict(f"others change {pipeline} all the time: try again")


def _current(store: RolloutStore, pipeline: str) -> Rollout:
    rollout = store.read(pipeline)
    if rollout is None:
        known = ", ".join(store.pipelines()) or "none"
        raise RolloutError(f"nothing of {pipeline} was ever published here (with a rollout: {known})")
    return rollout


def _is_stable_already(rollout: Rollout, release: int | None) -> bool:
    if release is not None:
        return rollout.stable == release
    return rollout.candidate is None and rollout.act == "promote"


def _last_switch(store: RolloutStore, rollout: Rollout) -> str:
    """Give the step that changed the stable release last: a second rollback would go back to the bad release."""
    switches = [each.act for each in store.history(rollout.pipeline) if each.act in ("promote", "rollback", "undo")]
    return switches[-1] if switches else ""


def _check_served(store: RolloutStore, rollout: Rollout, patience: Patience) -> None:
    outcome = patience.follow(store, rollout, serves_candidate)
    if outcome.reasons:
        raise ServeFailed(
            f"release {rollout.candidate} of {rollout.pipeline} is not served everywhere, nothing was promoted: "
            f"{outcome.reasons}"
        )


def _check_published(site: Site, pipeline: str, release: int) -> None:
    published = site.registry.releases(pipeline)
    if release not in published:
        there = ", ".join(map(str, published)) or "none"
        raise Absent(f"{site.registry.where} has no release {release} of {pipeline} (it has: {there})")


def _undone(store: RolloutStore, before: Rollout, outcome: Outcome, actor: Actor, patience: Patience) -> str:
    promoted = outcome.rollout
    why = steps.Actor(actor.by, f"release {promoted.stable} could not be promoted: {outcome.reasons}")
    undone = take_back(store, steps.undo(promoted, before, why))
    told = f"release {promoted.stable} could not be promoted: {outcome.reasons}"
    if undone is None:
        return f"{told}. Somebody took another step meanwhile: see `wetread release list`"
    patience.follow(store, undone, all_reports=True)
    return f"{told}. Undone: release {before.stable or 'none'} is stable as before"


def _finished(outcome: Outcome) -> Outcome:
    check_not_overtaken(outcome)
    if outcome.reasons:
        raise ServeFailed(f"{outcome.summary}; {outcome.reasons}")
    return outcome
