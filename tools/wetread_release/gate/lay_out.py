"""Lays a draft and its reference out as the two repositories of one server, each part under a name of its own."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wetread_release.draft import part_folder
from wetread_release.errors import BadDraft
from wetread_release.wiring import NETWORKS, base_name

if TYPE_CHECKING:
    from pathlib import Path

    from wetread_release.checkout import Shipped
    from wetread_release.draft import Draft
    from wetread_release.manifest import Manifest
    from wetread_release.triton_config import ModelConfig
    from wetread_release.wiring import Wiring

DRAFT, REFERENCE = "draft", "reference"
MARK = "gate_content"
"""Parameter of an ensemble: what it was laid out of, so that a server cannot be asked about something else."""
_VERSION = 1
_SERVED_ON_CPU = ("onnxruntime", "python")


@dataclass(frozen=True)
class SidePart:
    """A part of one side: its config, under whatever name, and the folder of its files."""

    config: ModelConfig
    folder: Path


@dataclass(frozen=True)
class Side:
    """A whole pipeline to be served beside another one."""

    name: str
    """`draft` or `reference`; ends the names of its models."""
    title: str
    """For a human: `the draft`, `release 3`."""
    pipeline: str
    wiring: Wiring
    parts: dict[str, SidePart]
    """By role."""
    precision: str
    mark: str
    """See MARK."""

    @property
    def network(self) -> ModelConfig:
        """Give the config of the part that computes."""
        return next(part.config for role, part in self.parts.items() if role in NETWORKS)

    @property
    def engine(self) -> str:
        """Name what runs the network: onnxruntime, tensorrt."""
        return (self.network.backend or self.network.platform).removesuffix("_plan")

    @property
    def ensemble(self) -> str:
        """Give the name that a client asks for."""
        return f"{self.pipeline}_{self.name}"

    def model(self, role: str) -> str:
        """Give the name of a part's model."""
        return f"{base_name(self.pipeline, role)}_{self.name}"

    @property
    def models(self) -> tuple[str, ...]:
        """Give the names of all parts' models."""
        return tuple(self.model(role) for role in self.parts)

    def write(self, root: Path, *, copy: bool = False) -> None:
        """Write this side into `root`: model_repository/ and ensembles/. The files are linked unless `copy`."""
        pins = {}
        for role, part in self.parts.items():
            config = replace(part.config, name=self.model(role), versions=(_VERSION,))
            folder = root / "model_repository" / config.name
            folder.mkdir(parents=True)
            (folder / "config.pbtxt").write_text(config.text())
            if copy:
                shutil.copytree(part.folder, folder / str(_VERSION), ignore=shutil.ignore_patterns(".*", "__pycache__"))
            else:
                (folder / str(_VERSION)).symlink_to(part.folder.resolve(), target_is_directory=True)
            pins[role] = (config.name, _VERSION)
        ensemble = root / "ensembles" / self.ensemble
        (ensemble / str(_VERSION)).mkdir(parents=True)
        marks = ((MARK, self.mark),) if self.mark else ()
        wiring = replace(self.wiring, parameters=(*self.wiring.parameters, *marks))
        (ensemble / "config.pbtxt").write_text(wiring.ensemble(self.ensemble, _VERSION, pins).text())


def side_of_draft(
    folder: Path, draft: Draft, target: str, name: str = DRAFT, title: str = "the draft", content: str = ""
) -> Side:
    """Take the parts of a draft that servers of `target` take; `content`: its digest. BadDraft: a role has none."""
    chosen = {step.role: draft.part(step.role, target) for step in draft.wiring.steps}
    parts = {role: SidePart(part.config, part_folder(folder, part)) for role, part in chosen.items()}
    return Side(name, title, draft.pipeline, draft.wiring, parts, draft.precision, content)


def side_of_checkout(shipped: Shipped, target: str) -> Side:
    """Take the parts of a pipeline that a checkout ships as the reference."""
    draft, title = shipped.draft, "the checkout's release"
    chosen = {step.role: draft.part(step.role, target) for step in draft.wiring.steps}
    parts = {role: SidePart(part.config, shipped.folder(part)) for role, part in chosen.items()}
    return Side(REFERENCE, title, draft.pipeline, draft.wiring, parts, draft.precision, title)


def side_of_release(folder: Path, manifest: Manifest, target: str) -> Side:
    """Take the parts of a published release, fetched into `folder`, as the reference."""
    pins, title = manifest.pins(target), f"release {manifest.release}"
    parts = {role: SidePart(part.config, folder / "parts" / part.folder) for role, part in pins.items()}
    mark = f"{title} {manifest.content}"
    return Side(REFERENCE, title, manifest.pipeline, manifest.wiring, parts, manifest.precision, mark)


def provide_backends(root: Path, backends: Path) -> None:
    """Link the python-based backends of a checkout or image, `<backends>/<x>_backend`, into `root`."""
    for model in sorted(backends.glob("*_backend/model.py")):
        (root / model.parent.name).symlink_to(model.parent.resolve(), target_is_directory=True)


def check_served_on_cpu(side: Side) -> None:
    """Refuse what the gate's own server, an embedded Triton on the CPU, cannot load; BadDraft with the remedy."""
    for role, part in side.parts.items():
        config = part.config
        backend = config.backend or config.platform
        if config.kind == "GPU" or not (backend in _SERVED_ON_CPU or backend.startswith("wetread_")):
            raise BadDraft(
                f"the {role} of {side.title} is made for {backend} on a {config.kind}, and the gate's own server "
                "computes on the CPU: lay both sides out with --lay-out for a Triton that can, and ask it with --url"
            )
