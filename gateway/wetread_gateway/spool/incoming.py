"""One instance on its way into the spool."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

from wetread_gateway.errors import DiskFull, NotStored

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typing_extensions import Buffer

    from wetread_gateway.spool.disk import Disk

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def not_stored(error: OSError) -> NotStored:
    """Say what a failed system call means for a sender."""
    kind = DiskFull if error.errno in _NO_ROOM else NotStored
    return kind(f"the spool's disk: {error.strerror or error}")


class Incoming:
    """A file in `incoming`. End it with `commit` or `abort`; used by one thread."""

    def __init__(self, disk: Disk, path: Path, received: Path, sync_received: Callable[[], None]) -> None:
        self._disk = disk
        self._path = path
        self._target = received / path.name
        self._sync_received = sync_received
        self.size = 0
        try:
            self._file: int | None = disk.create(path)
        except OSError as error:
            raise not_stored(error) from error

    @property
    def name(self) -> str:
        """The file's name, now and for ever."""
        return self._path.name

    def fileno(self) -> int:
        """Give the open file, for who writes to it past this class."""
        if self._file is None:
            raise ValueError("the file is closed")
        return self._file

    def write(self, data: Buffer) -> None:
        """Append `data`; when that fails nothing is left and NotStored (or DiskFull) is raised."""
        try:
            self._disk.write(self.fileno(), data)
        except OSError as error:
            self.abort()
            raise not_stored(error) from error

    def commit(self) -> Path:
        """Make the instance durable and give its path in `received`; NotStored or DiskFull, and nothing is left."""
        try:
            self._disk.fsync(self.fileno())
            self._close()
            self._disk.rename(self._path, self._target)
            self._sync_received()
        except OSError as error:
            self.abort()
            raise not_stored(error) from error
        return self._target

    def abort(self) -> None:
        """Leave nothing of it. May be called again, and after `commit`, when what follows that has failed."""
        with contextlib.suppress(OSError):  # a file that cannot be removed is no instance: nobody said Success
            self._close()
        for path in (self._path, self._target):
            with contextlib.suppress(OSError):
                self._disk.unlink(path)

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            self._disk.close(file)
