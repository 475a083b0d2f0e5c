"""Files and folders that are there whole or not at all, also after the power fails."""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from wetread_release.errors import BadDraft, ReleaseError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CHUNK = 1 << 20


@contextmanager
def partial_folder(folder: Path) -> Iterator[Path]:
    """Give a hidden folder beside `folder` to fill with files on disk; at the end it takes its place at once.

    Raises:
        BadDraft: something is there already.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    clear(partial)
    partial.mkdir(parents=True)
    try:
        yield partial
        _settle(partial, folder)
    finally:
        clear(partial)


def copy_hashed(source: BinaryIO, target: Path) -> str:
    """Copy a stream into a new file, on disk when this returns; give the SHA-256 of what was written."""
    target.parent.mkdir(parents=True, exist_ok=True)
    hashed = hashlib.sha256()
    with target.open("xb") as file:
        while chunk := source.read(_CHUNK):
            hashed.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return hashed.hexdigest()


def write_file(path: Path, content: bytes) -> None:
    """Write a new file, on disk when this returns."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def clear(folder: Path) -> None:
    """Remove a folder, for example what a writer that was killed has left."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ReleaseError(f"the leftover {folder} cannot be removed: {error}") from error


def sync_folder(folder: Path) -> None:
    """Write a folder's entries to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _settle(partial: Path, folder: Path) -> None:
    for path in (partial, *(path for path in partial.rglob("*") if path.is_dir())):
        sync_folder(path)
    try:
        partial.rename(folder)
    except OSError as error:  # an empty folder gives way, any other stays
        if not folder.exists():
            raise
        raise BadDraft(f"{folder} is there already: {error.strerror}") from error
    sync_folder(folder.parent)
