"""A small file system of its own for the gateway's state, so that it can be filled without harm."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path

_BALLAST = "ballast"
_TRIES = 50


class NotPermitted(Exception):
    """This machine lets us mount nothing; the message is mount's own."""


class SmallDisk:
    """An ext4 in a sparse file, mounted at `folder`; a context. NotPermitted where that takes rights we lack."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self.folder = folder
        self._size = size_bytes
        self._image = folder.with_name(f"{folder.name}.ext4")

    def __enter__(self) -> Self:
        if os.geteuid():
            raise NotPermitted("only root may mount a file system")
        if shutil.which("mkfs.ext4") is None:
            raise NotPermitted("mkfs.ext4 is not installed")
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._image.open("wb") as image:
            image.truncate(self._size)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", str(self._image))
        try:
            _run("mount", "-o", "loop", str(self._image), str(self.folder))
        except NotPermitted:
            self._image.unlink()
            raise
        shutil.rmtree(self.folder / "lost+found", ignore_errors=True)
        return self

    def __exit__(self, *error: object) -> None:
        for last in (*[False] * _TRIES, True):
            try:
                _run("umount", *(["--lazy"] if last else []), str(self.folder))
                break
            except NotPermitted:
                if last:
                    raise
                time.sleep(0.1)  # a killed process holds its files a moment longer
        self._image.unlink()

    def fill(self) -> int:
        """Take every free block; give the bytes taken."""
        path = self.folder / _BALLAST
        with path.open("wb") as ballast:
            step = 1 << 40
            taken = 0
            while step >= 4096:
                try:
                    os.posix_fallocate(ballast.fileno(), taken, step)
                    taken += step
                except OSError:  # not so many are free
                    step //= 2
            return taken

    def empty(self) -> None:
        """Give the blocks back."""
        (self.folder / _BALLAST).unlink(missing_ok=True)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotPermitted(f"{' '.join(command)}: {done.stderr.strip()}")
