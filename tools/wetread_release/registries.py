"""Opens registries of published releases, and gives what is signed in them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wetread_release.contents import of_release, signed_manifest, verified_folder
from wetread_release.durable import clear
from wetread_release.errors import BadDraft
from wetread_release.local_registry import LocalRegistry

if TYPE_CHECKING:
    from wetread_release.manifest import Manifest
    from wetread_release.registry import Registry


def open_registry(url: str) -> Registry:
    """Open the registry at a folder's path or at a URL with a scheme (`s3://bucket/releases`).

    Raises:
        ReleaseError: there is no such scheme, or the library for it is not installed.
    """
    if url.startswith("file://"):
        return LocalRegistry(Path(url.removeprefix("file://")))
    if "://" not in url:
        return LocalRegistry(Path(url))
    from wetread_release.remote_registry import RemoteRegistry  # noqa: PLC0415 -- fsspec only where it is used

    return RemoteRegistry(url)


def verified(registry: Registry, pipeline: str, release: int, trusted: Path) -> Manifest:
    """Give a release's manifest after its signature was checked; `trusted`: folder of public keys.

    Raises:
        Absent: there is no such release.
        Untrusted: its signature is missing, wrong, or of a key that is not trusted.
        BadDraft: it is the manifest of another release.
    """
    _, document, signature = registry.manifest(pipeline, release)
    where = f"{pipeline} release {release} in {registry.where}"
    return of_release(signed_manifest(document, signature, trusted, where), pipeline, release, where)


def fetch_verified(registry: Registry, pipeline: str, release: int, folder: Path, trusted: Path) -> Manifest:
    """Copy a release into `folder`, made new, and give the manifest that lies there, its signature checked.

    Errors as `verified`. A folder whose signature is not trusted is removed again.
    """
    registry.fetch(pipeline, release, folder)
    try:
        return of_release(verified_folder(folder, trusted), pipeline, release, str(folder))
    except BadDraft:
        clear(folder)
        raise
