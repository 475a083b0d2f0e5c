"""What a draft is compared with: the stable release, another published one, or what the checkout ships."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wetread_release.checkout import shipped_pipeline
from wetread_release.errors import Absent
from wetread_release.gate.lay_out import side_of_checkout, side_of_release
from wetread_release.registries import fetch_verified

if TYPE_CHECKING:
    from pathlib import Path

    from wetread_release.gate.lay_out import Side
    from wetread_release.release_site import Site

CHECKOUT, NONE = "checkout", "none"


def find_reference(site: Site, pipeline: str, wanted: str, target: str, scratch: Path) -> Side | None:
    """Give the reference of a pipeline, its files fetched into the folder `scratch` where it is a published one.

    `wanted`: `checkout`, `none` or a release's number; empty: the stable release, else the checkout's, else none.

    Raises:
        Absent: there is no such release.
        BadDraft: it was changed, is not signed by a trusted key, or an embedded server cannot run it.
    """
    if wanted == NONE:
        return None
    if wanted == CHECKOUT:
        return _of_checkout(site, pipeline, target)
    if wanted:
        if not wanted.isdecimal():
            raise Absent(f"there is no reference {wanted!r}: give {CHECKOUT}, {NONE} or a release's number")
        return _of_release(site, pipeline, int(wanted), target, scratch)
    rollout = site.rollouts.read(pipeline)
    if rollout is not None and rollout.stable:
        return _of_release(site, pipeline, rollout.stable, target, scratch)
    try:
        return _of_checkout(site, pipeline, target)
    except Absent:
        return None  # a pipeline that is new


def _of_checkout(site: Site, pipeline: str, target: str) -> Side:
    if site.checkout is None:
        raise Absent("there is no checkout here whose release could be the reference")
    return side_of_checkout(shipped_pipeline(site.checkout, pipeline), target)


def _of_release(site: Site, pipeline: str, release: int, target: str, scratch: Path) -> Side:
    folder = scratch / f"release-{release}"
    manifest = fetch_verified(site.registry, pipeline, release, folder, site.trusted)
    return side_of_release(folder, manifest, target)
