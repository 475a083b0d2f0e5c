"""What a release's folder must hold: exactly the files of its manifest, each with its hash."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from wetread_release.digest import folder_digests
from wetread_release.durable import copy_hashed, write_file
from wetread_release.errors import BadDraft, Untrusted
from wetread_release.manifest import Manifest
from wetread_release.registry import MANIFEST, SIGNATURE
from wetread_release.signing import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

_DOCUMENTS = frozenset({MANIFEST, SIGNATURE})


def contents(manifest: Manifest) -> dict[str, str]:
    """Give SHA-256 of every file of a release by its path, but for manifest and signature.

    Raises:
        BadDraft: a path leaves the release's folder, or two entries contradict each other.
    """
    found: dict[str, str] = {}
    parts = ((f"parts/{part.folder}/{name}", digest) for part in manifest.parts for name, digest in part.files.items())
    for path, digest in (*parts, *manifest.evidence.items()):
        if not is_plain(path) or path in _DOCUMENTS:
            raise BadDraft(f"{manifest.name}: its manifest names the file {path!r}, which no release may hold")
        if found.setdefault(path, digest) != digest:
            raise BadDraft(f"{manifest.name}: its manifest gives two hashes for {path}")
    return found


def is_plain(path: str) -> bool:
    """Say whether a path stays inside: relative, with `/` alone, no part that is empty, hidden, `.` or `..`."""
    return bool(path) and not _hidden(path) and "\\" not in path and all(path.split("/")) and path.isprintable()


def check_names(manifest: Manifest, there: Iterable[str]) -> dict[str, str]:
    """Compare paths that are there with the manifest; give `contents`. Hidden files count for nothing.

    Raises:
        BadDraft: a file is missing or too many.
    """
    wanted = contents(manifest)
    present = {path for path in there if not _hidden(path)} - _DOCUMENTS
    if missing := sorted(wanted.keys() - present):
        raise BadDraft(f"{manifest.name} lacks {', '.join(missing)}: publish it again under a new number")
    if extra := sorted(present - wanted.keys()):
        raise BadDraft(f"{manifest.name} holds files that its manifest does not name: {', '.join(extra)}")
    return wanted


def check_folder(folder: Path, manifest: Manifest) -> None:
    """Check that a folder holds exactly the manifest's files with their hashes.

    Raises:
        BadDraft: a file is missing, too many or changed; the message names it.
    """
    there = folder_digests(folder)
    for path, digest in check_names(manifest, there).items():
        if there[path] != digest:
            raise BadDraft(f"{manifest.name}: {folder / path} was changed after the release was made")


def verified_folder(folder: Path, trusted: Path) -> Manifest:
    """Check signature and every hash of a release's folder; give its manifest. `trusted`: folder of public keys.

    Raises:
        Untrusted: the signature is missing, wrong, or of a key that is not trusted.
        BadDraft: the folder does not hold what the manifest says.
    """
    try:
        document = (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise BadDraft(f"{folder} is no release: {error}") from error
    try:
        signature = (folder / SIGNATURE).read_bytes()
    except OSError as error:
        raise Untrusted(f"{folder} is not signed: {error}") from error
    manifest = signed_manifest(document, signature, trusted, str(folder / MANIFEST))
    check_folder(folder, manifest)
    return manifest


def signed_manifest(document: bytes, signature: bytes, trusted: Path, where: str) -> Manifest:
    """Check a manifest's signature, and only then read it; errors as `verified_folder`, naming `where`."""
    try:
        verify(document, signature, trusted)
    except Untrusted as error:
        raise Untrusted(f"{where}: {error}") from error
    return Manifest.parse(document, where)


def of_release(manifest: Manifest, pipeline: str, release: int, where: str) -> Manifest:
    """Give a manifest back if it is that of this release; BadDraft, naming `where`, when it is not."""
    if (manifest.pipeline, manifest.release) != (pipeline, release):
        raise BadDraft(f"{where}: the manifest there is that of {manifest.name}")
    return manifest


def publishable(folder: Path, pipeline: str, release: int) -> tuple[Manifest, bytes, bytes]:
    """Read manifest, its bytes and signature from a folder to publish; BadDraft when it is not whole."""
    try:
        document, signature = (folder / MANIFEST).read_bytes(), (folder / SIGNATURE).read_bytes()
    except OSError as error:
        raise BadDraft(f"{folder} cannot be published: {error}") from error
    manifest = of_release(Manifest.parse(document, str(folder / MANIFEST)), pipeline, release, str(folder))
    check_folder(folder, manifest)
    return manifest, document, signature


def copy_release(documents: tuple[Manifest, bytes, bytes], open_file: Callable[[str], BinaryIO], folder: Path) -> None:
    """Copy a release's files, then signature and manifest, into `folder`, on disk, hashing what is written.

    Raises:
        BadDraft: a file is not what its hash says.
    """
    manifest, document, signature = documents
    for path, digest in contents(manifest).items():
        with open_file(path) as source:
            if copy_hashed(source, folder / path) != digest:
                raise BadDraft(f"{manifest.name}: {path} was changed after the release was made")
    write_file(folder / SIGNATURE, signature)
    write_file(folder / MANIFEST, document)


def _hidden(path: str) -> bool:
    """Say whether `digest.folder_digests` leaves a path out."""
    return any(part.startswith(".") or part == "__pycache__" for part in path.split("/"))
