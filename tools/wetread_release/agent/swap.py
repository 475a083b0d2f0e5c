"""The swap on one server: load beside, flip the ensemble, retire what nobody pins. Each step can be undone."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from wetread_release.agent.memory import check_memory
from wetread_release.agent.served import served_versions
from wetread_release.errors import BadModel, ServeFailed
from wetread_release.tensorrt.plan_config import refuse_wrong_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from wetread_release.agent.control import Control
    from wetread_release.agent.served import ServedCopy
    from wetread_release.manifest import Manifest, ReleasedPart
    from wetread_release.triton_config import ModelConfig

LOG = logging.getLogger(__name__)


class Swap:
    """Changes what one running server serves; its caller holds the lock that the healer takes, too.

    `compile_idle`: called for each part before it is loaded, to do what is costly at idle priority.
    `settled`: called with the name of a model whose load has ended, to raise the priority of what was started gently.
    """

    def __init__(
        self,
        served: ServedCopy,
        control: Control,
        target: str,
        compile_idle: Callable[[ReleasedPart], None] = lambda _: None,
        settled: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._served, self._control, self._target = served, control, target
        self._compile, self._settled = compile_idle, settled

    def load_beside(self, manifest: Manifest) -> bool:
        """Load the parts of a release beside all that is served; tell whether anything had to be loaded.

        Raises:
            ServeFailed: a part does not load, or not beside the others; all is as it was.
        """
        parts = list(manifest.pins(self._target).values())
        new = [part for part in parts if not self._is_loaded(part)]
        if not new:
            return False
        for part in new:
            try:
                refuse_wrong_plan(part.config, self._served.models / part.model / str(part.version))
            except BadModel as error:
                raise ServeFailed(f"{part.model} version {part.version}: {error}") from error
        check_memory(new, self._served.models)
        for part in new:
            self._compile(part)
        done: list[tuple[str, str | None]] = []
        try:
            for part in new:
                done.append((part.model, self._served.config_text(part.model)))
                self._load_part(part)
        except ServeFailed:
            for model, text in reversed(done):
                self._put_back(model, text)
            raise
        return True

    def serve(self, ensemble: str, manifest: Manifest) -> float:
        """Let an ensemble answer with a release whose parts are loaded; return the seconds that the load took.

        Raises:
            ServeFailed: it does not load; it answers as before.
        """
        config = manifest.ensemble(ensemble, self._target)
        before = self._served.ensemble_text(ensemble)
        if not self._served.write_ensemble(config) and self._control.is_ready(ensemble, manifest.release):
            return 0.0
        started = time.perf_counter()
        try:
            self._control.load(ensemble)
            took = time.perf_counter() - started
            if not self._control.is_ready(ensemble, manifest.release):
                raise ServeFailed(f"{ensemble} release {manifest.release} is not ready after its load")
        except ServeFailed:
            self._served.restore_ensemble(ensemble, before)
            if before is not None:
                self._control.load(ensemble)
            raise
        return took

    def drop(self, ensemble: str) -> None:
        """Stop serving an ensemble; its parts stay loaded."""
        if self._served.ensemble_text(ensemble) is None:
            return
        self._control.unload(ensemble)
        self._served.remove_ensemble(ensemble)

    def retire(self, keep: Sequence[Manifest], known: Iterable[Manifest]) -> list[str]:
        """Unload the versions of `known` releases that neither an ensemble pins nor a loaded release in `keep` needs.

        Their folders go, too, unless an ensemble pins them. Returns what was removed.
        """
        wanted = self._served.pins()
        for manifest in keep:
            for part in manifest.pins(self._target).values():
                if part.version in served_versions(self._served.config_text(part.model) or ""):
                    wanted.setdefault(part.model, set()).add(part.version)
        models = {part.model: part for manifest in known for part in manifest.pins(self._target).values()}
        for model, part in sorted(models.items()):
            text = self._served.config_text(model)
            if text is None:
                continue
            if not wanted.get(model):
                self._control.unload(model)
            elif served_versions(text) != wanted[model]:
                self._served.write_config(_with_versions(part.config, wanted[model]))
                self._control.load(model)
        return self._served.collect({model: wanted.get(model, set()) for model in models})

    def _is_loaded(self, part: ReleasedPart) -> bool:
        text = self._served.config_text(part.model)
        loaded = text is not None and part.version in served_versions(text)
        return loaded and self._control.is_ready(part.model, part.version)

    def _load_part(self, part: ReleasedPart) -> None:
        text = self._served.config_text(part.model)
        there = served_versions(text) if text is not None else set()
        if text is not None and not _same(text, part.config, there):
            raise ServeFailed(
                f"model_repository/{part.model}/config.pbtxt of the served copy is not what release agents write: it "
                "was edited by hand, or the release should have a model name of its own; restart the server"
            )
        self._served.write_config(_with_versions(part.config, there | {part.version}))
        with self._served.loaded_gently(part):
            self._control.load(part.model)
        self._settled(part.model)
        for version in sorted(there | {part.version}):
            if not self._control.is_ready(part.model, version):
                raise ServeFailed(f"{part.model} version {version} is not ready after the load")

    def _put_back(self, model: str, text: str | None) -> None:
        try:
            if text is None:
                self._control.unload(model)
                self._served.restore_config(model, None)
            else:
                self._served.restore_config(model, text)
                self._control.load(model)
        except ServeFailed as error:
            LOG.error("%s could not be put back as it was: %s", model, error)


def _with_versions(config: ModelConfig, versions: Iterable[int]) -> ModelConfig:
    return replace(config, versions=tuple(sorted(versions)))


def _same(text: str, config: ModelConfig, versions: Iterable[int]) -> bool:
    """Tell whether a file on disk is the one made from `config`, comments aside: a change reloads every version."""
    return _without_comments(text) == _without_comments(_with_versions(config, versions).text())


def _without_comments(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("#")]
