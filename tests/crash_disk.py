"""A disk that forgets at a crash what was not fsynced: for proofs that nothing acknowledged can be lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from pathlib import Path


class Crash(BaseException):
    """The power is gone, in the middle of an operation. No code may catch it."""


@dataclass
class File:
    """One inode: what is written, and what is sure to be on the disk. `places`: its names since the last sure one."""

    data: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    places: list[Path | None] = field(default_factory=lambda: [None])
    replaced_by: File | None = None
    """What was renamed over it: it loses its name in the same step in which that one gets it."""


class CrashDisk:
    """The Disk of the spool, in memory and in `root` at once, so that code that looks into folders sees it too.

    A file's content is sure after its fsync; a name after an fsync of its folder, old or new, which makes every name
    that the file had before it sure as well (a rename is one step of a journal). Of what is not sure, a crash keeps
    any part: of each file's names any prefix, of its unsynced content any prefix, a torn or zeroed end too.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.files: dict[Path, File] = {}
        self.all: list[File] = []
        self.handles: dict[int, File] = {}
        self.left = -1
        self._next = 100

    def crash_after(self, operations: int) -> None:
        self.left = operations

    def _step(self) -> None:
        if self.left == 0:
            raise Crash
        self.left -= 1

    def _open(self, file: File) -> int:
        self._next += 1
        self.handles[self._next] = file
        return self._next

    def create(self, path: Path) -> int:
        self._step()
        if path in self.files:
            raise FileExistsError(path)
        file = File()
        file.places.append(path)
        self.files[path] = file
        self.all.append(file)
        path.touch()
        return self._open(file)

    def append(self, path: Path) -> int:
        return self._open(self.files[path]) if path in self.files else self.create(path)

    def write(self, file: int, data) -> None:
        data = bytes(data)
        if self.left == 0:
            self.handles[file].data += data[: self.rng.randrange(len(data) + 1)]
        self._step()
        self.handles[file].data += data

    def fsync(self, file: int) -> None:
        self._step()
        self.handles[file].durable = bytes(self.handles[file].data)

    def close(self, file: int) -> None:
        del self.handles[file]

    def rename(self, source: Path, target: Path) -> None:
        self._step()
        file = self.files.pop(source)
        replaced = self.files.pop(target, None)
        if replaced is not None:
            replaced.places.append(None)
            replaced.replaced_by = file
        self.files[target] = file
        file.places.append(target)
        source.rename(target)

    def unlink(self, path: Path) -> None:
        self._step()
        file = self.files.pop(path, None)
        if file is not None:
            file.places.append(None)
            path.unlink()

    def fsync_folder(self, folder: Path) -> None:
        self._step()
        for file in self.all:
            touched = [i for i, place in enumerate(file.places) if place is not None and place.parent == folder]
            if touched:
                # A name in this folder is sure, and so is the step that took the file away from it.
                file.places = file.places[min(touched[-1] + 1, len(file.places) - 1) :]

    def make_folder(self, folder: Path) -> bool:
        self._step()
        was = folder.is_dir()
        folder.mkdir(parents=True, exist_ok=True)
        return not was

    def survivors(self) -> dict[Path, bytes]:
        """Give what is on the disk after the crash: one of the many things that may be."""
        kept: dict[Path, bytes] = {}
        steps: dict[int, int] = {}  # by file: how many of its steps the disk has kept
        for file in reversed(self.all):  # what replaced another was made later
            places = file.places
            if (by := file.replaced_by) is not None and len(places) > 1:
                target = places[-2]
                if target in by.places[steps[id(by)] + 1 :]:  # that rename is not kept
                    places = places[:-1]
            steps[id(file)] = self.rng.randrange(len(places))
            place = places[steps[id(file)]]
            if place is not None:
                extra = bytes(file.data[len(file.durable) :])
                cut = extra[: self.rng.randrange(len(extra) + 1)]
                content = file.durable + (bytes(len(cut)) if self.rng.random() < 0.3 else cut)
                kept.setdefault(place, content)
        return kept
