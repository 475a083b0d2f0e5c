"""The spool's folders: what came in, what it belongs to, and our results."""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import itertools
import os
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, unquote

from wetread_gateway.errors import DiskFull
from wetread_gateway.spool import meta
from wetread_gateway.spool.disk import Disk, RealDisk, SharedSync
from wetread_gateway.spool.incoming import Incoming, not_stored

if TYPE_CHECKING:
    from wetread_gateway.config.settings import Intake
    from wetread_gateway.instance import Arrival

Sorted = Literal["studies", "unmatched", "ignored", "quarantine", "dead", "done"]
# In the order in which a file goes through them, so that `locate` mostly finds it at once.
SORTED: tuple[Sorted, ...] = ("studies", "done", "dead", "unmatched", "ignored", "quarantine")
_REMEMBERED = 4096  # folders
_UID = re.compile(r"[0-9.]{1,64}")


def folder_name(study_uid: str) -> str:
    """Give the folder of a study: its UID, or a hash of what calls itself one."""
    if _UID.fullmatch(study_uid) and study_uid.strip("."):
        return study_uid
    return "x" + hashlib.sha256(study_uid.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def is_stat(path: Path) -> bool:
    """Say whether a file of the spool came in as STAT: its name tells."""
    return path.name.startswith("0-")


class Spool:
    """The spool in `root`. Safe to use from many threads and processes.

    `incoming`: being written. `received`: whole and durable, Success was or may have been answered; not sorted yet.
    `results`: our objects. `associations`: the open ones, an empty file each. And a folder for each of `SORTED`.
    """

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self.root = root
        self._disk = disk or RealDisk()
        self.incoming = root / "incoming"
        self.received = root / "received"
        self.results = root / "results"
        self.associations = root / "associations"
        made = [
            self._disk.make_folder(root / name) for name in ("incoming", "received", "results", "associations", *SORTED)
        ]
        if any(made):
            self._disk.fsync_folder(root)
            self._disk.fsync_folder(root.parent)
        self._sync_received = SharedSync(lambda: self._disk.fsync_folder(self.received))
        self._numbers = itertools.count()
        self._durable_folders: set[Path] = set()

    def open(
        self, slot: str, arrival: Arrival, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str
    ) -> Incoming:
        """Begin a file of the process `slot`; what is written to it is the dataset as it came. NotStored, DiskFull."""
        name = f"{0 if arrival.stat else 1}-{time.time_ns():020d}-{slot}-{next(self._numbers)}.dcm"
        head = meta.encode(arrival, sop_class_uid, sop_instance_uid, transfer_syntax_uid)
        incoming = Incoming(self._disk, self.incoming / name, self.received, self._sync_received)
        incoming.write(head)
        return incoming

    def arrivals(self, limit: int) -> list[Path]:
        """Give up to `limit` files of `received`: STAT first, then the oldest."""
        with os.scandir(self.received) as entries:
            names = heapq.nsmallest(limit, (entry.name for entry in entries))
        return [self.received / name for name in names]

    def arrival_of(self, path: Path) -> Arrival:
        """Read how an instance came in, from its file; BadInstance when it was not written by `open`."""
        return meta.decode(path)

    def move(self, name: str, study_uid: str, to: Sorted) -> str:
        """Rename a file of the study into another folder and give its new path, relative to the root.

        Not fsynced: the index holds where it will be, and after a crash `locate` finds it where it was. Moving it to
        where it is already does nothing. FileNotFoundError when it is nowhere.
        """
        target = self.root / self.path_in(name, study_uid, to)
        for last in (False, False, True):
            source = self.locate(name, study_uid)
            if source == target:
                break
            self._disk.make_folder(target.parent)
            try:
                self._disk.rename(source, target)
                break
            except FileNotFoundError:  # another process moved it, or removed the folder as an empty one
                if last:
                    raise
        if to == "done":
            _out_of_the_cache(target)
        return str(target.relative_to(self.root))

    def path_in(self, name: str, study_uid: str, to: Sorted) -> str:
        """Give the path, relative to the root, that `move` will give: the index is written first."""
        return f"{to}/{folder_name(study_uid)}/{Path(name).name}"

    def locate(self, path: str | Path, study_uid: str) -> Path:
        """Find a file: where `path` (relative, or a bare name) says, else in any folder that holds its name."""
        hint = self.root / path
        folder = folder_name(study_uid)
        places = [
            hint,
            self.received / hint.name,
            *(self.root / name / folder / hint.name for name in SORTED),
            self.results / folder / hint.name,
        ]
        # Twice: it may have been moved from a folder not yet looked into to one that was.
        for place in places * 2:
            if place.is_file():
                return place
        raise FileNotFoundError(f"{hint.name} is nowhere in the spool")

    def put_result(self, study_uid: str, sop_uid: str, data: bytes, suffix: str = ".dcm") -> str:
        """Write an object of ours durably and give its path, relative to the root. Again with the same: no change.

        NotStored or DiskFull, and then it is as it was.
        """
        folder = self.results / folder_name(study_uid)
        target = folder / f"{folder_name(sop_uid)}{suffix}"
        half = folder / f".{target.name}.{os.getpid()}-{threading.get_ident()}"
        try:
            self._make_durable(folder)
            self._disk.unlink(half)
            file = self._disk.create(half)
            try:
                self._disk.write(file, data)
                self._disk.fsync(file)
            finally:
                self._disk.close(file)
            self._disk.rename(half, target)
            self._disk.fsync_folder(folder)
        except OSError as error:
            self._disk.unlink(half)
            raise not_stored(error) from error
        return str(target.relative_to(self.root))

    def _make_durable(self, folder: Path) -> None:
        # A folder that is there may still be lost: whoever made it may have been killed before the fsync.
        if self._disk.make_folder(folder) or folder not in self._durable_folders:
            self._disk.fsync_folder(folder.parent)
            if len(self._durable_folders) >= _REMEMBERED:
                self._durable_folders.clear()
            self._durable_folders.add(folder)

    def remove(self, path: str | Path, study_uid: str) -> None:
        """Remove a file of the study wherever it is, and its folder when that is empty then."""
        try:
            found = self.locate(path, study_uid)
        except FileNotFoundError:
            return
        self._disk.unlink(found)
        if found.parent != self.received:
            try:
                found.parent.rmdir()
            except OSError:
                return  # not empty

    def free_bytes(self) -> int:
        """Give the bytes that are free on the spool's disk."""
        found = os.statvfs(self.root)
        return found.f_bavail * found.f_frsize

    def check_room(self, intake: Intake, size: int = 0) -> None:
        """DiskFull when the disk has less free than the watermark and `size` bytes more."""
        free = self.free_bytes()
        if free < intake.watermark_free_bytes + size:
            raise DiskFull(f"{free} bytes are free, the watermark is at {intake.watermark_free_bytes}")

    def clean_incoming(self, slot: str) -> int:
        """Remove what a former process `slot` left unfinished, its open associations too; the number of files."""
        left = [path for path in self.incoming.iterdir() if _slot(path.name) == slot]
        for path in left:
            self._disk.unlink(path)
        for path in self.associations.glob(f"{slot}.*"):
            self._disk.unlink(path)
        return len(left)

    def opened(self, association: str, calling_ae: str) -> None:
        """Note an open association; `association` is its id, `SLOT.` and what makes it unique."""
        # On a full disk too there are associations, to be told so.
        with contextlib.suppress(OSError):
            (self.associations / _note(association, calling_ae)).touch()

    def closed(self, association: str, calling_ae: str) -> None:
        """Take the note away."""
        self._disk.unlink(self.associations / _note(association, calling_ae))

    def callers(self) -> tuple[str, ...]:
        """Give the calling AEs that have an association open, in all processes."""
        with os.scandir(self.associations) as entries:
            return tuple(sorted({unquote(entry.name.partition("~")[2]) for entry in entries}))

    def open_associations(self, calling_ae: str) -> int:
        """Count the open associations of a calling AE, in all processes."""
        ending = _note("", calling_ae)
        with os.scandir(self.associations) as entries:
            return sum(entry.name.endswith(ending) for entry in entries)


def _out_of_the_cache(path: Path) -> None:
    """Tell the kernel that nobody reads a file soon: films that are done must not crowd out those that come."""
    with contextlib.suppress(OSError):
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(file)


def _note(association: str, calling_ae: str) -> str:
    return f"{association}~{quote(calling_ae, safe=' ')}"


def _slot(name: str) -> str:
    _, _, rest = name.partition("-")
    return rest.partition("-")[2].rpartition("-")[0]
