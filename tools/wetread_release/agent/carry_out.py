"""Brings one pipeline of a running server to what its rollout wants."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NoReturn

from wetread_client.rollout import Arm

from wetread_release.code import installed_code
from wetread_release.digest import joined_digest
from wetread_release.errors import FellBack, ReleaseError, ServeFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from wetread_client.rollout import Rollout

    from wetread_release.agent.control import Control
    from wetread_release.agent.record import Record
    from wetread_release.agent.served import ServedCopy
    from wetread_release.agent.source import Source
    from wetread_release.agent.swap import Swap
    from wetread_release.manifest import Manifest

    Check = Callable[[str, Manifest], None]

LOG = logging.getLogger(__name__)


class CarryOut:
    """Carries rollouts out; its caller holds the lock that the healer takes, too.

    `check`: sends golden films to an ensemble and raises ServeFailed where a release does not answer as it must.
    """

    def __init__(
        self,
        served: ServedCopy,
        source: Source,
        swap: Swap,
        control: Control,
        record: Record,
        target: str,
        check: Check,
    ) -> None:
        self._served, self._source, self._swap, self._control = served, source, swap, control
        self._record, self._target, self._check = record, target, check
        self._code = joined_digest(installed_code())

    def is_live(self) -> bool:
        """Tell whether the server can be reached."""
        return self._control.is_live()

    def pipelines_served(self) -> list[str]:
        """Return the pipelines whose stable arm is in the served copy."""
        names = sorted(path.parent.name for path in self._served.ensembles.glob("*/config.pbtxt"))
        candidates = {Arm.CANDIDATE.model(name) for name in names}
        return [name for name in names if name not in candidates]

    def serves(self, arm: Arm, pipeline: str) -> int:
        """Return the release that an arm answers with now, 0 where it does not answer."""
        name = arm.model(pipeline)
        release = self._served.release_of(name)
        return release if release and self._control.is_ready(name, release) else 0

    def stable(self, rollout: Rollout) -> None:
        """Let the stable arm answer with the rollout's release; one not known as good is tried beside it first.

        Raises:
            ReleaseError: it cannot; the arm answers as before.
        """
        pipeline, wanted = rollout.pipeline, rollout.stable
        if not wanted or self.serves(Arm.STABLE, pipeline) == wanted:
            return
        manifest = self._installed(pipeline, wanted)
        self._swap.load_beside(manifest)
        if not self.is_good(pipeline, wanted):
            self._try(manifest)
        took = self._swap.serve(Arm.STABLE.model(pipeline), manifest)
        LOG.info("%s answers with release %d, switched in %.1f ms", pipeline, wanted, took * 1e3)
        self._good(pipeline, wanted)

    def candidate(self, rollout: Rollout) -> None:
        """Let the candidate arm answer with the rollout's candidate, once its golden films are right.

        Raises:
            ReleaseError: it cannot; there is no candidate arm then.
        """
        pipeline, wanted = rollout.pipeline, rollout.candidate
        if wanted is None or (self.serves(Arm.CANDIDATE, pipeline) == wanted and self.is_good(pipeline, wanted)):
            return
        manifest = self._installed(pipeline, wanted)
        self._swap.load_beside(manifest)
        self._try(manifest)
        self._good(pipeline, wanted)

    def previous(self, rollout: Rollout) -> None:
        """Keep loaded what a rollback goes back to; that it cannot be is told, and no failure."""
        if rollout.previous is None:
            return
        try:
            self._swap.load_beside(self._installed(rollout.pipeline, rollout.previous))
        except (ReleaseError, OSError) as error:
            LOG.warning("%s release %d is not kept ready: %s", rollout.pipeline, rollout.previous, error)

    def drop_candidate(self, pipeline: str) -> None:
        """Stop serving a candidate arm."""
        self._swap.drop(Arm.CANDIDATE.model(pipeline))

    def tidy(self, rollout: Rollout) -> list[str]:
        """Unload and remove what neither an arm nor a rollback needs; return it."""
        known = self._source.kept(rollout.pipeline)
        kept = set(rollout.wanted) | set(self._record.of(rollout.pipeline).good[-2:])
        keep = [known[release] for release in rollout.wanted if release in known]
        removed = self._swap.retire(keep, known.values())
        present = {release for release, manifest in known.items() if self._has_files(manifest)}
        for release in set(known) - present - kept:
            self._source.forget(rollout.pipeline, release)
        return removed

    def is_good(self, pipeline: str, release: int) -> bool:
        """Tell whether a release has given its golden answers here with the code that is installed."""
        record = self._record.of(pipeline)
        return record.code == self._code and release in record.good

    def check_as_served(self, pipeline: str, release: int) -> None:
        """Check a release that the stable arm answers with already, where it is not known as good.

        Raises:
            FellBack: its golden films differ; another good release answers, or none, when there is no other.
        """
        if self.is_good(pipeline, release):
            return
        try:
            self._check(pipeline, self._source.manifest(pipeline, release))
        except ServeFailed as error:
            self._fall_back(pipeline, release, error)
        self._good(pipeline, release)

    def _fall_back(self, pipeline: str, release: int, reason: ServeFailed) -> NoReturn:
        """Serve the last other release that was good and still is; a wrong answer is worse than none."""
        for other in reversed(self._record.of(pipeline).good):
            if other == release:
                continue
            try:
                manifest = self._installed(pipeline, other)
                self._swap.load_beside(manifest)
                self._try(manifest)
                self._swap.serve(Arm.STABLE.model(pipeline), manifest)
            except ReleaseError as error:
                LOG.error("%s release %d is no way out: %s", pipeline, other, error)
            else:
                raise FellBack(f"{reason}; release {other} answers in its place") from reason
        self._swap.drop(Arm.STABLE.model(pipeline))
        raise FellBack(f"{reason}; there is no other good release, so {pipeline} is not served") from reason

    def _try(self, manifest: Manifest) -> None:
        """Serve a release as the candidate arm and check it there; an arm that fails is dropped."""
        name = Arm.CANDIDATE.model(manifest.pipeline)
        try:
            self._swap.serve(name, manifest)
            self._check(name, manifest)
        except ServeFailed:
            self._swap.drop(name)
            raise

    def _installed(self, pipeline: str, release: int) -> Manifest:
        manifest = self._source.manifest(pipeline, release)
        self._source.install(manifest, self._target, self._served)
        return manifest

    def _has_files(self, manifest: Manifest) -> bool:
        return all(self._served.is_there(part) for part in manifest.pins(self._target).values())

    def _good(self, pipeline: str, release: int) -> None:
        record = self._record.of(pipeline)
        if record.code != self._code:
            record = type(record)((), self._code)
        self._record.put(pipeline, record.with_good(release))
