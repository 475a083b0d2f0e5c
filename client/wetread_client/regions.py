"""POSIX shared-memory regions: made, kept for the next film, and removed even when nobody asks for it."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import secrets
import threading
import time
from pathlib import Path

from wetread_client.errors import Status, Unavailable

SHM = Path("/dev/shm")  # noqa: S108 -- where Linux keeps POSIX shared memory, as shm_open does
PREFIX = "wetread_film_"
SMALLEST = 1 << 20
QUARANTINE_S = 120.0
YOUNG_S = 60.0


def size_class(size: int) -> int:
    """Round up to one of four steps an octave, so that films of about one size share regions and waste under 25 %."""
    if size <= SMALLEST:
        return SMALLEST
    step = 1 << ((size - 1).bit_length() - 3)
    return -(-size // step) * step


class Region:
    """One POSIX shared-memory region of this process; `registered` says whether the server knows it.

    Its memory is claimed when it is made: on a full /dev/shm that is an OSError here, not a SIGBUS at the first copy.
    Only this user can open it, for it holds patients' films. The file is locked while its owner lives.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.name = PREFIX + secrets.token_hex(8)
        self.key = f"/{self.name}"
        self.registered = False
        self.free_at = 0.0
        self._path = SHM / self.name
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(self._file, 0, size)
            self._map = mmap.mmap(self._file, size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
        except BaseException:
            self._path.unlink()
            os.close(self._file)
            raise
        self.memory = memoryview(self._map)

    def close(self) -> None:
        """Unmap and remove the region; its bytes live on only where the server still maps them."""
        self._path.unlink(missing_ok=True)
        os.close(self._file)
        # A traceback that still holds a view keeps the mapping until it goes itself.
        with contextlib.suppress(BufferError):
            self.memory.release()
            self._map.close()


class RegionPool:
    """At most `limit` regions, each lent to one request at a time and kept for the next.

    A film larger than every free region gets one of its own size class, in place of a smaller one when the pool is
    full. A region whose request ended early is kept aside for `QUARANTINE_S`: the server may still be reading it.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._owner = os.getpid()
        self._free: list[Region] = []
        self._aside: list[Region] = []
        self._count = 0
        self._closed = False
        self._changed = threading.Condition()

    def take(self, size: int, timeout_s: float) -> tuple[Region, list[Region]]:
        """Lend a region of at least `size` bytes; with it come the regions that it replaces, for the caller to drop.

        Unavailable when all stay in use for `timeout_s`; OSError when /dev/shm is full.
        """
        wanted = size_class(size)
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                if self._closed:
                    raise Unavailable(Status.CANCELLED.value, "the client is closed")
                self._end_quarantine()
                fitting = [region for region in self._free if region.size >= size]
                if fitting:
                    region = min(reversed(fitting), key=lambda region: region.size)  # the one used last is in the cache
                    self._free.remove(region)
                    return region, []
                if self._count < self._limit or self._free:
                    break
                if not self._changed.wait(deadline - time.monotonic()):
                    raise Unavailable(Status.DEADLINE_EXCEEDED.value, "no shared-memory region became free in time")
            dropped = [self._free.pop(0)] if self._count >= self._limit else []
            self._count += 1 - len(dropped)
        try:
            return Region(wanted), dropped
        except BaseException:
            with self._changed:
                self._count -= 1
                self._free[:0] = dropped
                self._count += len(dropped)
                self._changed.notify()
            raise

    def give_back(self, region: Region, *, still_read: bool = False) -> bool:
        """Take a region back; False when the pool is closed and the caller must drop it.

        `still_read`: the request ended without an answer, so the server may yet read the region. It makes room for
        another meanwhile; as many as the pool holds are kept aside so, then the oldest comes back early.
        """
        with self._changed:
            if self._closed:
                return False
            if still_read:
                region.free_at = time.monotonic() + QUARANTINE_S
                self._aside.append(region)
                self._count -= 1
                if len(self._aside) > self._limit:
                    self._aside[0].free_at = 0.0
            else:
                self._free.append(region)
            self._changed.notify()
        return True

    def forget(self) -> None:
        """Make room for another region in place of one lent that its user drops."""
        with self._changed:
            self._count -= 1
            self._changed.notify()

    def close(self) -> list[Region]:
        """Close the pool and hand over its idle regions; those in use come back through `give_back`."""
        if os.getpid() != self._owner:  # a forked child's copy: the regions are its parent's
            return []
        with self._changed:
            self._closed = True
            regions, self._free, self._aside = self._free + self._aside, [], []
            self._changed.notify_all()
        return regions

    def _end_quarantine(self) -> None:
        now = time.monotonic()
        while self._aside and self._aside[0].free_at <= now:
            self._free.append(self._aside.pop(0))
            self._count += 1


def remove_orphans(shm: Path = SHM) -> list[str]:
    """Remove the regions of processes that were killed; give their names.

    A living owner holds its file's lock. A file younger than a minute is left alone: its owner may be about to lock it.
    """
    removed = []
    for path in shm.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, or removed by another client just now
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                if time.time() - os.fstat(file).st_mtime > YOUNG_S:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                    removed.append(path.name)
            finally:
                os.close(file)
    return removed
