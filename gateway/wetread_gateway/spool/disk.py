"""The few file operations that durability rests on; a test puts a disk that crashes in their place."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typing_extensions import Buffer


class Disk(Protocol):
    """What the spool and the audit ask of a file system; every method raises OSError as the system call does.

    A rename is one step of the file system's journal, within a folder and between folders (ext4, XFS, Btrfs, ZFS):
    after a crash a file is in the one place or in the other, never in neither.
    """

    def create(self, path: Path) -> int:
        """Make a file that is not there yet, and open it for writing."""

    def append(self, path: Path) -> int:
        """Open a file for appending; make it if need be."""

    def write(self, file: int, data: Buffer) -> None:
        """Write all of `data`."""

    def fsync(self, file: int) -> None:
        """Wait until what was written is on the disk."""

    def close(self, file: int) -> None:
        """Close the file."""

    def rename(self, source: Path, target: Path) -> None:
        """Give the file another name, in the place of whatever had it."""

    def fsync_folder(self, folder: Path) -> None:
        """Wait until the names in `folder` are on the disk."""

    def make_folder(self, folder: Path) -> bool:
        """Make a folder with its parents; False when it was there."""

    def unlink(self, path: Path) -> None:
        """Remove a file; nothing happens when it is not there."""


class RealDisk:
    """The disk of this machine."""

    def create(self, path: Path) -> int:  # noqa: D102 -- see Disk, as for all of these
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def append(self, path: Path) -> int:  # noqa: D102
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, file: int, data: Buffer) -> None:  # noqa: D102
        view = memoryview(data).cast("B")
        while view:
            view = view[os.write(file, view) :]

    def fsync(self, file: int) -> None:  # noqa: D102
        os.fsync(file)

    def close(self, file: int) -> None:  # noqa: D102
        os.close(file)

    def rename(self, source: Path, target: Path) -> None:  # noqa: D102
        os.rename(source, target)  # noqa: PTH104 -- `replace` by another name, and it raises for folders

    def fsync_folder(self, folder: Path) -> None:  # noqa: D102
        names = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(names)
        finally:
            os.close(names)

    def make_folder(self, folder: Path) -> bool:  # noqa: D102
        if folder.is_dir():
            return False
        folder.mkdir(parents=True, exist_ok=True)
        return True

    def unlink(self, path: Path) -> None:  # noqa: D102
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108 -- called for every instance


class SharedSync:
    """Lets threads that need the same fsync share one.

    A call returns when an fsync that began after it was made has returned. When that fsync fails it fails for every
    thread that shared it: the kernel tells of lost writes once, so the next fsync would wrongly say all is well.
    """

    def __init__(self, sync: Callable[[], None]) -> None:
        self._sync = sync
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._gathering = _Round()

    def __call__(self) -> None:
        """Wait for an fsync; OSError when it failed."""
        with self._lock:
            mine = self._gathering
        with self._turn:
            if not mine.done:
                with self._lock:
                    self._gathering = _Round()
                try:
                    self._sync()
                except OSError as error:
                    mine.error = error
                mine.done = True
        if mine.error is not None:
            raise OSError(mine.error.errno, mine.error.strerror)


class _Round:
    def __init__(self) -> None:
        self.done = False
        self.error: OSError | None = None
