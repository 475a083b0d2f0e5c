"""What `wetread release list` shows: releases, what they pin, their arms, who, when, why, and the agents."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wetread_client.rollout import AgentState

from wetread_release.checkout import SHIPPED_RELEASE, shipped
from wetread_release.errors import BadDraft, RegistryAway, ReleaseError, Untrusted
from wetread_release.follow import live
from wetread_release.registry import MANIFEST
from wetread_release.signing import verify

if TYPE_CHECKING:
    from wetread_client.rollout import AgentReport, Rollout

    from wetread_release.manifest import GateSummary
    from wetread_release.release_site import Site


@dataclass(frozen=True)
class Pin:
    """A part of a release under the name and version that servers load."""

    role: str
    model: str
    version: int
    target: str


@dataclass(frozen=True)
class ReleaseRow:
    """One published release."""

    release: int
    arms: tuple[str, ...]
    """`stable`, `candidate`, `previous`."""
    engine: str = ""
    precision: str = ""
    pins: tuple[Pin, ...] = ()
    gate: tuple[GateSummary, ...] = ()
    forced: str = ""
    """Why it was published without a passed gate."""
    by: str = ""
    at: float = 0.0
    """Seconds since the epoch."""
    reason: str = ""
    key: str = ""
    """The id of the trusted key that signed it; empty: see `problem`."""
    problem: str = ""
    """Why no server would take it."""


@dataclass(frozen=True)
class PipelineView:
    """One pipeline: its releases, what is wanted, and what each running server does."""

    pipeline: str
    rollout: Rollout | None
    releases: tuple[ReleaseRow, ...]
    agents: tuple[AgentReport, ...]
    """Of live agents."""
    problems: tuple[str, ...]
    """What is not as it is wanted: a half-done promotion, a server that fell back."""


def overview(site: Site, pipeline: str | None = None) -> tuple[PipelineView, ...]:
    """Give every pipeline that has a release, a rollout or a place in the checkout; only `pipeline` where told."""
    ships = [each.draft.pipeline for each in shipped(site.checkout)] if site.checkout else []
    names = {*site.rollouts.pipelines(), *ships}
    with suppress(RegistryAway):  # each view tells it
        names |= set(site.registry.pipelines())
    chosen = sorted(names if pipeline is None else names & {pipeline})
    return tuple(_view(site, name, name in ships) for name in chosen)


def _view(site: Site, pipeline: str, ships: bool) -> PipelineView:
    rollout = site.rollouts.read(pipeline)
    agents = live(site.rollouts.reports(pipeline))
    problems = _problems(rollout, agents)
    try:
        releases = site.registry.releases(pipeline)
    except RegistryAway as error:  # who is read by what must be seen all the same
        releases = tuple(sorted(rollout.wanted)) if rollout is not None else ()
        problems = (str(error), *problems)
    rows = [_row(site, pipeline, release, rollout) for release in releases]
    if rollout is None and ships and not rows:
        rows = [ReleaseRow(SHIPPED_RELEASE, ("stable",), by="the checkout", reason="as it is shipped")]
    return PipelineView(pipeline, rollout, tuple(rows), agents, problems)


def _row(site: Site, pipeline: str, release: int, rollout: Rollout | None) -> ReleaseRow:
    arms = _arms(release, rollout)
    try:
        manifest, document, signature = site.registry.manifest(pipeline, release)
    except ReleaseError as error:
        return ReleaseRow(release, arms, problem=str(error))
    key, problem = "", ""
    try:
        key = verify(document, signature, site.trusted)
        if (manifest.pipeline, manifest.release) != (pipeline, release):
            raise BadDraft(f"its {MANIFEST} is that of {manifest.name}")
    except (Untrusted, BadDraft) as error:
        problem = str(error)
    pins = tuple(Pin(part.role, part.model, part.version, part.target) for part in manifest.parts)
    return ReleaseRow(
        release,
        arms,
        manifest.engine,
        manifest.precision,
        pins,
        manifest.gate,
        manifest.forced,
        manifest.created_by,
        manifest.created_at,
        manifest.reason,
        key,
        problem,
    )


def _arms(release: int, rollout: Rollout | None) -> tuple[str, ...]:
    if rollout is None:
        return ()
    places = {"stable": rollout.stable, "candidate": rollout.candidate, "previous": rollout.previous}
    return tuple(arm for arm, wanted in places.items() if wanted == release)


def _problems(rollout: Rollout | None, agents: tuple[AgentReport, ...]) -> tuple[str, ...]:
    told = [
        f"{agent.agent}: {agent.state.value}: {agent.message or f'it serves {agent.stable}'}"
        for agent in agents
        if agent.state in (AgentState.FAILED, AgentState.FALLBACK)
    ]
    if rollout is not None and rollout.stable:
        others = [agent for agent in agents if agent.stable != rollout.stable]
        if others and len(others) < len(agents):
            behind = ", ".join(f"{agent.agent} answers with release {agent.stable or 'none'}" for agent in others)
            told.append(f"half done: release {rollout.stable} is wanted, but {behind}")
    return tuple(told)
