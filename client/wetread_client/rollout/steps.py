"""The steps from one rollout to the next, as pure functions; each raises RolloutError where it is not allowed."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, replace

from wetread_client.rollout.document import Gate, Key, Rollout, RolloutError


@dataclass(frozen=True, slots=True)
class Actor:
    """Who takes a step, who approved it, and why."""

    by: str
    reason: str = ""
    approved_by: str = ""


def begin(pipeline: str) -> Rollout:
    """Give what stands before the first step: nothing is stable, revision 0 (never written)."""
    return Rollout(pipeline, revision=0)


def adopt(rollout: Rollout, release: int, actor: Actor) -> Rollout:
    """Take a release that is served already (a checkout's own, release 1) as the stable one."""
    if rollout.stable:
        raise RolloutError(f"{rollout.pipeline} has release {rollout.stable} already")
    highest = max(rollout.highest, release)
    return _next(replace(rollout, stable=release, highest=highest), "adopt", actor)


def next_number(rollout: Rollout, published: int = 0) -> int:
    """Give the number of the next release; `published`: the highest one that the registry holds."""
    return max(rollout.highest, rollout.stable, rollout.candidate or 0, published) + 1


def offer(rollout: Rollout, release: int, gate: Gate, actor: Actor) -> Rollout:
    """Make a release the candidate, as a shadow without a share; a candidate that is there makes room."""
    if release == rollout.stable:
        raise RolloutError(f"release {release} is stable already")
    changed = replace(
        rollout,
        candidate=release,
        candidate_gate=gate,
        candidate_percent=0.0,
        shadow=bool(rollout.stable),
        salt=secrets.token_hex(8),
        highest=max(rollout.highest, release),
    )
    return _next(changed, "publish", actor)


def promote(rollout: Rollout, actor: Actor) -> Rollout:
    """Make the candidate stable; what was stable is what a rollback goes back to."""
    if rollout.candidate is None:
        raise RolloutError(f"{rollout.pipeline} has no candidate: publish a release first")
    _need_approval(rollout, actor)
    changed = _without_candidate(rollout)
    return _next(
        replace(changed, stable=rollout.candidate, previous=rollout.stable or None, light_model=""), "promote", actor
    )


def rollback(rollout: Rollout, actor: Actor, to: int | None = None) -> Rollout:
    """Go back to the release before, or to `to`; a candidate is dropped, and what was stable can be gone back to."""
    target = to if to is not None else rollout.previous
    if target is None:
        raise RolloutError(f"{rollout.pipeline} has no release to go back to: name one with --to")
    if target == rollout.stable:
        raise RolloutError(f"release {target} is stable already")
    if not 0 < target <= rollout.highest:
        raise RolloutError(f"there is no release {target} of {rollout.pipeline}")
    return _next(
        replace(_without_candidate(rollout), stable=target, previous=rollout.stable or None), "rollback", actor
    )


def withdraw(rollout: Rollout, actor: Actor) -> Rollout:
    """Drop the candidate."""
    if rollout.candidate is None:
        raise RolloutError(f"{rollout.pipeline} has no candidate")
    return _next(_without_candidate(rollout), "withdraw", actor)


def undo(rollout: Rollout, before: Rollout, actor: Actor) -> Rollout:
    """Put back what was in force before a step that the servers could not carry out; no number is given twice."""
    if before.pipeline != rollout.pipeline or before.revision >= rollout.revision:
        raise RolloutError(f"revision {before.revision} does not come before revision {rollout.revision}")
    return _next(
        replace(before, revision=rollout.revision, highest=max(before.highest, rollout.highest)), "undo", actor
    )


def share(
    rollout: Rollout,
    actor: Actor,
    *,
    candidate_percent: float | None = None,
    shadow: bool | None = None,
    key: Key | None = None,
    light_model: str | None = None,
) -> Rollout:
    """Change the candidate's share, the shadow, the key or the light model; what is None stays.

    A share above 0 needs a passed (or forced) gate, an approval and a reason.
    """
    if candidate_percent is not None and candidate_percent > rollout.candidate_percent:
        if rollout.candidate is None:
            raise RolloutError(f"{rollout.pipeline} has no candidate: publish a release first")
        _need_approval(rollout, actor)
    if key is not None and key is not rollout.key and rollout.candidate_percent > 0 and candidate_percent != 0:
        raise RolloutError("the key cannot change while the candidate has a share: abort first")
    changed = replace(
        rollout,
        candidate_percent=rollout.candidate_percent if candidate_percent is None else candidate_percent,
        shadow=rollout.shadow if shadow is None else shadow,
        key=key or rollout.key,
        light_model=rollout.light_model if light_model is None else light_model,
    )
    return _next(changed, "set", actor)


def abort(rollout: Rollout, actor: Actor) -> Rollout:
    """Give all to the stable release at once: no share, no shadow, no light model. The candidate stays loaded."""
    return _next(replace(rollout, candidate_percent=0.0, shadow=False, light_model=""), "abort", actor)


def _need_approval(rollout: Rollout, actor: Actor) -> None:
    if rollout.candidate_gate is Gate.NONE:
        raise RolloutError(
            f"release {rollout.candidate} of {rollout.pipeline} has not passed the gate: `wetread release gate`, or "
            "publish it with --force and a reason"
        )
    if not actor.approved_by or not actor.reason:
        raise RolloutError("patients will be read by another release: give --approved-by and --reason")


def _without_candidate(rollout: Rollout) -> Rollout:
    return replace(rollout, candidate=None, candidate_gate=Gate.NONE, candidate_percent=0.0, shadow=False)


def _next(rollout: Rollout, act: str, actor: Actor) -> Rollout:
    changed = replace(
        rollout,
        revision=rollout.revision + 1,
        act=act,
        by=actor.by,
        approved_by=actor.approved_by,
        reason=actor.reason,
        at=time.time(),
    )
    changed.check()
    return changed
