"""The release that a build starts from, as a draft: the stable one, or what the checkout ships."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wetread_release.checkout import SHIPPED_RELEASE, shipped_pipeline
from wetread_release.draft import ANY_TARGET, Draft, DraftPart
from wetread_release.errors import Absent
from wetread_release.registries import fetch_verified
from wetread_release.wiring import NETWORKS, base_name

if TYPE_CHECKING:
    from pathlib import Path

    from wetread_release.manifest import Manifest
    from wetread_release.release_site import Site


@dataclass(frozen=True)
class Parent:
    """A draft of the release, laid out in a folder."""

    draft: Draft
    release: int

    def network(self, target: str) -> DraftPart:
        """Give the part that a build replaces, as servers of `target` have it; else as any server has it."""
        parts = [part for part in self.draft.parts if part.role in NETWORKS]
        for wanted in (target, ANY_TARGET):
            for part in parts:
                if part.target == wanted:
                    return part
        if parts:
            return parts[0]
        raise Absent(f"the pipeline {self.draft.pipeline} has no part that computes ({' or '.join(NETWORKS)})")


def lay_out_parent(site: Site, pipeline: str, folder: Path) -> Parent:
    """Copy the pipeline's stable release into `folder` as a draft, its signature and hashes checked.

    Raises:
        Absent: no release is stable, and the checkout ships no pipeline of that name.
        BadDraft: the release is not whole, or not signed by a key that is trusted here.
    """
    rollout = site.rollouts.read(pipeline)
    if rollout is not None and rollout.stable and rollout.stable in site.registry.releases(pipeline):
        fetched = folder.with_name(f"{folder.name}.release")
        try:
            manifest = fetch_verified(site.registry, pipeline, rollout.stable, fetched, site.trusted)
            return Parent(_as_draft(manifest, fetched, folder), manifest.release)
        finally:
            shutil.rmtree(fetched, ignore_errors=True)
    if site.checkout is None:
        raise Absent(f"no release of {pipeline} is stable, and there is no checkout that ships one: publish one first")
    return Parent(shipped_pipeline(site.checkout, pipeline).lay_out(folder), SHIPPED_RELEASE)


def _as_draft(manifest: Manifest, fetched: Path, folder: Path) -> Draft:
    parts = []
    for part in manifest.parts:
        config = replace(part.config, name=base_name(manifest.pipeline, part.role), versions=())
        parts.append(DraftPart(part.role, config, part.folder, part.target))
        shutil.copytree(fetched / "parts" / part.folder, folder / "parts" / part.folder)
    if (fetched / "CARD.md").is_file():
        shutil.copyfile(fetched / "CARD.md", folder / "CARD.md")
    draft = Draft(manifest.pipeline, manifest.wiring, tuple(parts), manifest.engine, manifest.precision)
    draft.save(folder)
    return Draft.load(folder)
