"""Publish: a draft gets its number and signature, goes into the registry, and is offered to the servers as candidate.

Killed anywhere, the same command goes on: a release that no rollout names yet and that is the same is taken up under
its number, one that is the candidate already is waited for.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wetread_client.rollout import Actor, Conflict, Gate, steps

from wetread_release.assemble import assemble
from wetread_release.checkout import SHIPPED_RELEASE, shipped
from wetread_release.draft import Draft, content_digest
from wetread_release.errors import BadDraft, GateFailed, ServeFailed
from wetread_release.evidence import evidence_files, gate_records
from wetread_release.follow import Outcome, check_not_overtaken, live, serves_candidate
from wetread_release.promotion import WRITER_WAIT_S, Patience, take_back
from wetread_release.registries import verified
from wetread_release.signing import ensure_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wetread_client.rollout import Rollout

    from wetread_release.manifest import GateSummary, Manifest
    from wetread_release.release_site import Site

_LEFT_AFTER_S = 3600.0


@dataclass(frozen=True)
class Submission:
    """A draft as it is about to be published."""

    folder: Path
    draft: Draft
    content: str
    evidence: dict[str, str]
    records: tuple[GateSummary, ...]

    @classmethod
    def load(cls, folder: Path) -> Submission:
        """Read it; BadDraft when it is not whole or was changed after its gate."""
        draft = Draft.load(folder)
        content = content_digest(folder, draft)
        return cls(folder, draft, content, evidence_files(folder), gate_records(folder, content))

    def is_published_as(self, manifest: Manifest, forced: str) -> bool:
        """Tell whether a release is this draft with the same evidence, published in the same way."""
        same = manifest.content == self.content and manifest.evidence == self.evidence
        return same and bool(manifest.forced) == bool(forced)


def publish(folder: Path, site: Site, actor: Actor, patience: Patience, *, force: str = "") -> Outcome:
    """Publish the draft in `folder` as candidate of its pipeline.

    Args:
        folder: Of the draft.
        site: The stores.
        actor: Who, and why.
        patience: Of the wait for the agents.
        force: Why it is published though it has not passed the gate.

    Raises:
        BadDraft: the draft is not whole, or was changed after its gate.
        GateFailed: it has no passed record for a server that is to take it.
        RolloutError: somebody else is changing the pipeline.
        ServeFailed: a server could not serve it; it is no candidate any more, its number stays taken.
    """
    submission = Submission.load(folder)
    pipeline = submission.draft.pipeline
    with site.rollouts.writer(pipeline, WRITER_WAIT_S):
        ensure_key(site.keys)
        before = site.rollouts.read(pipeline) or _adopt_shipped(site, pipeline, actor)
        gate, forced = _gate(submission, live_targets(site), force)
        offered = _offer(submission, site, before, gate, forced, actor)
    outcome = patience.follow(site.rollouts, offered, serves_candidate)
    check_not_overtaken(outcome)
    if outcome.failed:
        _withdraw_failed(site, offered, outcome, actor)
    if outcome.waiting:
        raise ServeFailed(
            f"release {offered.candidate} is the candidate of {pipeline}, but not everywhere in {patience.timeout_s:g} "
            f"s: {outcome.reasons}. The same command waits on, `wetread release withdraw {pipeline}` gives up"
        )
    return outcome


def live_targets(site: Site) -> frozenset[str]:
    """Give what kinds of engine the running servers take; each serves all pipelines, a new one, too."""
    return frozenset(report.target for report in live(site.rollouts.all_reports()))


def check_gate(records: Iterable[GateSummary], targets: Iterable[str]) -> str:
    """Say why the gate is not passed for servers of these targets, '' where it is; without targets for any server.

    The newest record of a target counts.
    """
    newest: dict[str, GateSummary] = {}
    for record in sorted(records, key=lambda record: record.at):
        newest[record.target] = record
    wanted = sorted(targets) or sorted(newest)
    if not wanted:
        return "it has not been through the gate"
    for target in wanted:
        if target not in newest:
            return f"it has no record of the gate for servers of target {target}"
        record = newest[target]
        if not record.passed:
            return f"it did not pass the gate on {record.device}: {'; '.join(record.failures) or 'see its report'}"
    return ""


def _gate(submission: Submission, targets: frozenset[str], force: str) -> tuple[Gate, str]:
    """Give what the gate says and the reason that lifts it, '' where none is needed."""
    why_not = check_gate(submission.records, targets)
    if not why_not:
        return Gate.PASSED, ""
    if not force:
        folder = submission.folder
        raise GateFailed(
            f"{folder}: {why_not}. Run `wetread release gate {folder}` on such a machine, or give --force and a "
            "reason, which is kept"
        )
    return Gate.FORCED, force


def _offer(submission: Submission, site: Site, before: Rollout, gate: Gate, forced: str, actor: Actor) -> Rollout:
    """Put the release into the registry and make it the candidate; whatever of this is done already is left so."""
    if before.candidate is not None:
        published = _published(site, before.pipeline, before.candidate)
        if published is not None and submission.is_published_as(published, forced):
            return before
    release = _left_over(submission, site, before, forced)
    if release is None:
        numbers = site.registry.releases(before.pipeline)
        release = steps.next_number(before, max(numbers, default=0))
        _put(submission.folder, site, before, release, forced, actor)
    return _offer_release(site, before, release, gate, actor)


def _offer_release(site: Site, before: Rollout, release: int, gate: Gate, actor: Actor) -> Rollout:
    """Write the offer, on top of a rollback that did not wait for us."""
    while True:
        offered = steps.offer(before, release, gate, actor)
        try:
            site.rollouts.write(offered)
        except Conflict:
            before = site.rollouts.read(before.pipeline) or before
        else:
            return offered


def _left_over(submission: Submission, site: Site, rollout: Rollout, forced: str) -> int | None:
    """Find the same release, put there by a publish that was killed before it could offer it."""
    for release in sorted(site.registry.releases(rollout.pipeline), reverse=True):
        if release <= rollout.highest:
            return None
        published = _published(site, rollout.pipeline, release)
        if published is not None and submission.is_published_as(published, forced):
            return release
    return None


def _published(site: Site, pipeline: str, release: int) -> Manifest | None:
    """Give a release's manifest, None where no server would take it."""
    try:
        return verified(site.registry, pipeline, release, site.trusted)
    except BadDraft:
        return None


def _put(folder: Path, site: Site, rollout: Rollout | None, release: int, forced: str, actor: Actor) -> Manifest:
    with _scratch(site, f"release-{release}") as scratch:
        made = assemble(
            folder, site.registry, rollout, release, forced, actor, keys=site.keys, into=scratch / "release"
        )
        site.registry.put(made.manifest.pipeline, release, made.folder)
    return made.manifest


@contextmanager
def _scratch(site: Site, name: str) -> Iterator[Path]:
    """Give an empty folder; what a killed command left in the site's scratch folder for long goes."""
    if site.scratch is not None:
        site.scratch.mkdir(parents=True, exist_ok=True)
        for left in site.scratch.iterdir():
            if time.time() - left.stat().st_mtime > _LEFT_AFTER_S:
                shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"wetread-{name}-", dir=site.scratch) as folder:
        yield Path(folder)


def _adopt_shipped(site: Site, pipeline: str, actor: Actor) -> Rollout:
    """Begin a pipeline's rollouts: what the checkout ships is release 1, published and stable, where it ships it."""
    empty = steps.begin(pipeline)
    ships = [each for each in shipped(site.checkout) if each.draft.pipeline == pipeline] if site.checkout else []
    if not ships:
        return empty
    shipping = Actor(actor.by, "as the checkout ships it")
    with _scratch(site, "shipped") as scratch:
        folder = scratch / "draft"
        draft = ships[0].lay_out(folder)
        if SHIPPED_RELEASE not in site.registry.releases(pipeline):
            _put(folder, site, None, SHIPPED_RELEASE, "", shipping)
        elif verified(site.registry, pipeline, SHIPPED_RELEASE, site.trusted).content != content_digest(folder, draft):
            raise BadDraft(
                f"release {SHIPPED_RELEASE} of {pipeline} in {site.registry.where} is not the one that {site.checkout} "
                "ships and the servers answer with: name another --registry, or publish from the checkout it is of"
            )
    adopted = steps.adopt(empty, SHIPPED_RELEASE, shipping)
    site.rollouts.write(adopted)
    return adopted


def _withdraw_failed(site: Site, offered: Rollout, outcome: Outcome, actor: Actor) -> None:
    why = f"release {offered.candidate} of {offered.pipeline} could not be served: {outcome.reasons}"
    withdrawn = take_back(site.rollouts, steps.withdraw(offered, Actor(actor.by, why)))
    end = "It is withdrawn" if withdrawn else "Somebody took another step meanwhile: see `wetread release list`"
    raise ServeFailed(f"{why}. {end}")
