"""Makes a release out of a draft: gives each part its model name and version for good, and signs the manifest."""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from wetread_release.code import installed_code
from wetread_release.contents import is_plain
from wetread_release.digest import folder_digests
from wetread_release.draft import Draft, DraftPart, content_digest, part_folder
from wetread_release.durable import clear
from wetread_release.errors import Absent, BadDraft
from wetread_release.evidence import evidence_files, gate_records, golden_films
from wetread_release.manifest import Manifest, ReleasedPart
from wetread_release.registry import MANIFEST, SIGNATURE
from wetread_release.signing import sign
from wetread_release.wiring import base_name, own_name

if TYPE_CHECKING:
    from pathlib import Path

    from wetread_client.rollout import Actor, Rollout

    from wetread_release.registry import Registry


class Assembled(NamedTuple):
    """A release that can be put into a registry."""

    folder: Path
    manifest: Manifest


def assemble(
    draft_folder: Path,
    registry: Registry,
    rollout: Rollout | None,
    release: int,
    forced: str,
    actor: Actor,
    *,
    keys: Path,
    into: Path,
) -> Assembled:
    """Lay a draft out as a release in the folder `into`, made new, with its signed manifest.

    Args:
        rollout: the one in force; its stable release becomes the parent.
        forced: why it is published without a passed gate; empty: it passed.
        keys: folder of the signing key.

    Raises:
        BadDraft: the draft is not whole, or was changed after its gate; or `into` is there.
        Absent: a release that the rollout wants is not in the registry, or there is no signing key.
    """
    draft = Draft.load(draft_folder)
    earlier = earlier_releases(registry, draft.pipeline, rollout)
    _copy(draft_folder, draft, into)
    try:
        content = content_digest(into, draft)
        manifest = Manifest(
            pipeline=draft.pipeline,
            release=release,
            wiring=draft.wiring,
            parts=released_parts(into, draft, earlier, release),
            content=content,
            engine=draft.engine,
            precision=draft.precision,
            code=installed_code(),
            evidence=evidence_files(into),
            gate=gate_records(into, content),
            golden=golden_films(into),
            forced=forced,
            parent=rollout.stable if rollout else 0,
            created_at=time.time(),
            created_by=actor.by,
            reason=actor.reason,
        )
        document = manifest.dump()
        (into / SIGNATURE).write_bytes(sign(document, keys))
        (into / MANIFEST).write_bytes(document)
    except BaseException:
        clear(into)
        raise
    return Assembled(into, manifest)


def earlier_releases(registry: Registry, pipeline: str, rollout: Rollout | None) -> tuple[Manifest, ...]:
    """Read the manifests of all releases of a pipeline, oldest first.

    Raises:
        Absent: one that the rollout wants is not there, so that its models' versions are not known.
    """
    numbers = registry.releases(pipeline)
    for wanted in rollout.wanted if rollout else ():
        if wanted not in numbers:
            raise Absent(
                f"release {wanted} of {pipeline} is in use and not in {registry.where}: without it a version could be "
                "given twice; name the registry that holds it"
            )
    return tuple(registry.manifest(pipeline, number)[0] for number in numbers)


def released_parts(folder: Path, draft: Draft, earlier: tuple[Manifest, ...], release: int) -> tuple[ReleasedPart, ...]:
    """Give each part of the draft, whose files lie in `folder`, its model and version.

    What an earlier release has stays as it is there. What is new takes the next version of the shared model, or a
    model of its own where its config differs: all versions of a model share one config.
    """
    known = [part for manifest in earlier for part in manifest.parts]
    parts = []
    for part in draft.parts:
        files = folder_digests(part_folder(folder, part))
        model, version = _place(part, files, known, draft.pipeline, release)
        released = ReleasedPart(
            part.role, part.target, model, version, replace(part.config, name=model, versions=()), part.folder, files
        )
        known.append(released)
        parts.append(released)
    return tuple(parts)


def _place(
    part: DraftPart, files: dict[str, str], known: list[ReleasedPart], pipeline: str, release: int
) -> tuple[str, int]:
    """Choose model and version; `known`: the parts of all earlier releases and of this one so far."""
    shared = base_name(pipeline, part.role)
    digest = _shape(part, shared)
    for other in known:
        if other.role == part.role and other.files == files and _shape(other, shared) == digest:
            return other.model, other.version
    own = own_name(pipeline, part.role, release)
    by_target = f"{own}_{re.sub(r'[^a-z0-9]+', '_', part.target.lower())}"  # two new engines in one release
    for name in (shared, own, by_target):
        same = [other for other in known if other.model == name]
        if all(_shape(other, shared) == digest for other in same):
            return name, max((other.version for other in same), default=0) + 1
    raise BadDraft(f"the draft has several parts of the role {part.role} for servers of target {part.target}")


def _shape(part: DraftPart | ReleasedPart, name: str) -> str:
    """Digest a config as if its model were called `name`."""
    return replace(part.config, name=name).digest


def _copy(draft_folder: Path, draft: Draft, into: Path) -> None:
    """Copy the parts that the draft names and its evidence; nothing hidden, and no folder that no part names."""
    if into.exists():
        raise BadDraft(f"{into} is there already")
    wanted = list(evidence_files(draft_folder))
    for part in draft.parts:
        wanted += [f"parts/{part.folder}/{name}" for name in folder_digests(part_folder(draft_folder, part))]
    for path in dict.fromkeys(wanted):
        if not is_plain(path):
            raise BadDraft(f"{draft_folder}: no release may hold a file {path!r}")
        (into / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(draft_folder / path, into / path)
