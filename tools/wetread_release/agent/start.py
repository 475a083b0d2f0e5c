"""What a server begins with: the stable release of each rollout, else the last good one; Git's state where none is."""

from __future__ import annotations

import logging
import re
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wetread_client.rollout import RolloutError, StoreAway
from wetread_embedded.slots import empty_slots
from wetread_embedded.store import copy_model

from wetread_release.agent.served import CONFIG, ServedCopy, read_text
from wetread_release.errors import ReleaseError

if TYPE_CHECKING:
    from pathlib import Path

    from wetread_client.rollout import Rollout, RolloutStore

    from wetread_release.agent.record import Record
    from wetread_release.agent.source import Source
    from wetread_release.manifest import Manifest

LOG = logging.getLogger(__name__)
_MODEL = re.compile(r'model_name:\s*[\'"](?P<model>[^\'"]+)[\'"]')


@dataclass(frozen=True)
class Begun:
    """What a pipeline begins with. `release` 0: nothing could be served."""

    release: int
    problem: str = ""
    """Why it is not the stable release of the rollout."""


@dataclass(frozen=True)
class _Kept:
    """Names that the served copy holds."""

    models: set[str]
    ensembles: set[str]


class Start:
    """Makes the served copy of a server that does not run. `root`: a checkout or image, whose state is release 1."""

    def __init__(
        self, root: Path, served: ServedCopy, source: Source, rollouts: RolloutStore, record: Record, target: str
    ) -> None:
        self._root, self._served, self._source = root, served, source
        self._rollouts, self._record, self._target = rollouts, record, target
        self._broken: dict[str, dict[int, str]] = {}
        self.begun: dict[str, Begun] = {}
        """By pipeline, those with a rollout alone."""

    def prepare(self) -> None:
        """Make the served copy; what the last run left stays as it is while the rollout store cannot be read."""
        self._served.tidy()
        managed = self._managed()
        if managed is None:
            if any(self._served.ensembles.glob(f"*/{CONFIG}")):
                return
            managed = {}
        kept = self._copy_unmanaged(set(managed))
        for pipeline, rollout in managed.items():
            kept.ensembles.add(pipeline)
            kept.models.update(self._known_models(pipeline))
            manifest = self._choose(pipeline, rollout)
            self._served.remove_ensemble(f"{pipeline}_candidate")  # tried again once the server runs
            if manifest is None:
                self._served.remove_ensemble(pipeline)
            else:
                self._arrange(pipeline, manifest)
                kept.models.update(part.model for part in manifest.pins(self._target).values())
        self._leave_out_what_nobody_needs(kept)

    def fall_back(self, reasons: str) -> bool:
        """Mark as broken the releases whose models did not load by the server's words; tell whether any was new."""
        found = False
        for pipeline, begun in list(self.begun.items()):
            models = self._models_of(pipeline)
            if begun.release and any(model in reasons for model in models):
                words = reasons.strip().splitlines()[0] if reasons.strip() else "it did not load"
                guilty = [line for line in reasons.splitlines() if any(model in line for model in models)]
                self._broken.setdefault(pipeline, {})[begun.release] = guilty[0] if guilty else words
                LOG.error("%s release %d does not load: %s", pipeline, begun.release, guilty[:1])
                found = True
        if found:
            self.prepare()
        return found

    def _managed(self) -> dict[str, Rollout] | None:
        try:
            names = self._rollouts.pipelines()
            found = {name: self._rollouts.read(name) for name in names}
        except (StoreAway, RolloutError) as error:
            LOG.error("the rollout store cannot be read, the last state is served: %s", error)
            return None
        return {name: rollout for name, rollout in found.items() if rollout is not None and rollout.stable}

    def _choose(self, pipeline: str, rollout: Rollout) -> Manifest | None:
        """Choose the stable release, else the last that was good here; the reason is told where it is not the first."""
        broken = self._broken.get(pipeline, {})
        problems = [f"release {release}: {reason}" for release, reason in broken.items()]
        others = [*reversed(self._record.of(pipeline).good), rollout.previous or 0, 1]
        for release in dict.fromkeys(n for n in (rollout.stable, *others) if n and n not in broken):
            try:
                manifest = self._source.manifest(pipeline, release)
                self._source.install(manifest, self._target, self._served, replace_changed=True)
            except ReleaseError as error:
                problems.append(f"release {release}: {error}")
                LOG.error("%s release %d cannot be served: %s", pipeline, release, error)
                continue
            self.begun[pipeline] = Begun(release, "; ".join(problems) if release != rollout.stable else "")
            if release != rollout.stable:
                LOG.error("%s FALLS BACK to release %d: %s", pipeline, release, "; ".join(problems))
            return manifest
        self.begun[pipeline] = Begun(0, "; ".join(problems))
        LOG.error("%s cannot be served at all: %s", pipeline, "; ".join(problems))
        return None

    def _arrange(self, pipeline: str, manifest: Manifest) -> None:
        for part in manifest.pins(self._target).values():
            self._served.write_config(replace(part.config, versions=(part.version,)))
        self._served.write_ensemble(manifest.ensemble(pipeline, self._target))

    def _models_of(self, pipeline: str) -> list[str]:
        text = self._served.ensemble_text(pipeline) or ""
        return [match["model"] for match in _MODEL.finditer(text)]

    def _known_models(self, pipeline: str) -> set[str]:
        """Return the models of all releases that were installed here: a rollback may want them."""
        return {part.model for manifest in self._source.kept(pipeline).values() for part in manifest.parts}

    def _copy_unmanaged(self, managed: set[str]) -> _Kept:
        """Make anew what has no rollout: it is Git's state, and nobody published anything else."""
        theirs: set[str] = set()
        kept = _Kept(set(), set())
        slots = {slot.pipeline: slot for slot in empty_slots(self._root)}
        for repository in (self._served.models, self._served.ensembles):
            repository.mkdir(parents=True, exist_ok=True)
        for config in sorted((self._root / "ensembles").glob(f"*/{CONFIG}")):
            models = {match["model"] for match in _MODEL.finditer(read_text(config) or "")}
            if config.parent.name in managed:
                theirs |= models
            elif config.parent.name in slots:
                LOG.warning("%s", slots[config.parent.name])
                theirs |= models
            else:
                kept.models.update(models)
                kept.ensembles.add(config.parent.name)
                copy_model(config.parent, self._served.ensembles / config.parent.name)
        for config in sorted((self._root / "model_repository").glob(f"*/{CONFIG}")):
            if config.parent.name not in theirs - kept.models:
                kept.models.add(config.parent.name)
                copy_model(config.parent, self._served.models / config.parent.name)
        return kept

    def _leave_out_what_nobody_needs(self, kept: _Kept) -> None:
        """Remove models and ensembles of former states."""
        for repository, names in ((self._served.models, kept.models), (self._served.ensembles, kept.ensembles)):
            for folder in repository.iterdir():
                if folder.name not in names:
                    shutil.rmtree(folder)
