"""Debian's buildah, with a storage of its own and no need of an engine, a user namespace or a registry."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "images"


@dataclass(frozen=True)
class Buildah:
    """Commands of buildah over one storage; `overlay` is small and quick, `vfs` needs nothing of the kernel."""

    folder: Path = FOLDER
    driver: str = os.environ.get("STORAGE_DRIVER", "overlay")

    def __call__(self, *words: str, log: Path | None = None) -> None:
        """Run one command; CalledProcessError when it fails."""
        if log is None:
            subprocess.run(self._command(words), check=True, stdout=subprocess.DEVNULL)
            return
        with log.open("wb") as stream:
            subprocess.run(self._command(words), check=True, stdout=stream, stderr=subprocess.STDOUT)

    def output(self, *words: str) -> str:
        """Run one command and give what it prints."""
        return subprocess.run(self._command(words), check=True, capture_output=True, text=True).stdout.strip()

    def has(self, image: str) -> bool:
        """Tell whether the storage has an image."""
        found = subprocess.run(self._command(("inspect", "--type", "image", image)), capture_output=True, check=False)
        return found.returncode == 0

    def inspect(self, image: str) -> dict[str, Any]:
        """Give what an image says of itself."""
        found: dict[str, Any] = json.loads(self.output("inspect", "--type", "image", image))
        return found

    def _command(self, words: tuple[str, ...]) -> list[str]:
        storage = ["--root", str(self.folder / "storage"), "--runroot", str(self.folder / "run")]
        return ["buildah", *storage, "--storage-driver", self.driver, *words]


def absent() -> str:
    """Say what this machine lacks for building images, nothing when all is there."""
    if os.geteuid() != 0:
        return "not root: a chroot needs it"
    for program in ("buildah", "debootstrap"):
        if not shutil.which(program):
            return f"{program} is missing (make setup-images)"
    return ""
