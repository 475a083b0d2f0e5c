"""Where a batch's results lie: a folder with logs that grow line by line, or an object store with parts put whole."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from wetread_client.batch.errors import BatchError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

SYNC_LINES, SYNC_S = 20, 2.0
"""A log is made durable after so many lines or seconds; what a crash of the machine loses is read again."""


class Log(Protocol):
    """Lines that are kept; safe to use from many threads."""

    def append(self, line: str) -> None:
        """Keep a line, without its end."""
        ...

    def sync(self) -> None:
        """Make all lines durable that are not yet."""
        ...

    def close(self) -> None:
        """Make all lines durable and let go; may be called twice."""
        ...


class Out(Protocol):
    """A place for results."""

    def names(self, start: str) -> list[str]:
        """Give the names of what is there that start so, in order."""
        ...

    def lines(self, name: str) -> Iterator[bytes]:
        """Give a file's lines; of a log also one that was not finished."""
        ...

    def put(self, name: str, lines: Iterable[str]) -> None:
        """Write a file whole, or not at all."""
        ...

    def put_first(self, name: str, line: str) -> bool:
        """Write a file of one line unless there is one, and say whether this was it."""
        ...

    def claim(self, name: str) -> AbstractContextManager[None]:
        """Keep other processes from one share's log; BatchError where one has it."""
        ...

    def log(self, name: str) -> Log:
        """Open the log of one share."""
        ...


class FolderOut:
    """A local folder, or a volume that is mounted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def names(self, start: str) -> list[str]:
        """Give the names that start so."""
        return sorted(path.name for path in self._folder.glob(f"{start}*.jsonl"))

    def lines(self, name: str) -> Iterator[bytes]:
        """Give a file's lines."""
        with (self._folder / name).open("rb") as content:
            yield from content

    def put(self, name: str, lines: Iterable[str]) -> None:
        """Write a file beside its place, make it durable, and move it there."""
        partial = self._folder / f".{name}.{os.getpid()}.partial"
        try:
            with partial.open("w", encoding="utf-8") as content:
                content.writelines(f"{line}\n" for line in lines)
                content.flush()
                os.fsync(content.fileno())
            partial.replace(self._folder / name)
        finally:
            partial.unlink(missing_ok=True)
        _sync_folder(self._folder)

    def put_first(self, name: str, line: str) -> bool:
        """Write a file of one line unless there is one."""
        partial = self._folder / f".{name}.{os.getpid()}.partial"
        try:
            partial.write_text(f"{line}\n", encoding="utf-8")
            os.link(partial, self._folder / name)  # fails where there is one, in one step
        except FileExistsError:
            return False
        finally:
            partial.unlink(missing_ok=True)
        _sync_folder(self._folder)
        return True

    @contextmanager
    def claim(self, name: str) -> Iterator[None]:
        """Hold a lock, which ends with this process however that ends."""
        lock = os.open(self._folder / f".{name}.lock", os.O_RDWR | os.O_CREAT, 0o640)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = f"another process writes {self._folder / name}.jsonl: each share is one process's"
            raise BatchError(message) from error
        else:
            yield
        finally:
            os.close(lock)

    def log(self, name: str) -> FolderLog:
        """Open a share's log; a half-written last line goes."""
        return FolderLog(self._folder / f"{name}.jsonl")


class FolderLog:
    """One file; each line is one write at its end."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640)
        _drop_half_line(self._file)
        _sync_folder(path.parent)
        self._lock = threading.Lock()
        self._unsynced, self._synced_at = 0, time.monotonic()
        self._is_open = True

    def append(self, line: str) -> None:
        """Write a line; durable at once where it is time."""
        rest = memoryview(f"{line}\n".encode())
        with self._lock:
            while rest:
                rest = rest[os.write(self._file, rest) :]
            self._unsynced += 1
            if self._unsynced >= SYNC_LINES or time.monotonic() - self._synced_at >= SYNC_S:
                self._sync()

    def sync(self) -> None:
        """Make all lines durable."""
        with self._lock:
            if self._is_open and self._unsynced:
                self._sync()

    def close(self) -> None:
        """Make all lines durable and unlock."""
        with self._lock:
            if self._is_open:
                self._sync()
                os.close(self._file)
                self._is_open = False

    def _sync(self) -> None:
        os.fsync(self._file)
        self._unsynced, self._synced_at = 0, time.monotonic()


def _drop_half_line(file: int) -> None:
    """Cut a log behind its last line's end."""
    end = os.fstat(file).st_size
    step = 1 << 16
    place = end
    while place > 0:
        start = max(0, place - step)
        found = os.pread(file, place - start, start).rfind(b"\n")
        if found >= 0:
            place = start + found + 1
            break
        place = start
    if place < end:
        os.ftruncate(file, place)
        os.fsync(file)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
