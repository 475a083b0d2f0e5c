"""The base image made of Debian's own packages, for machines that reach no registry of images."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from buildah import Buildah

BASE = "docker.io/library/debian:bookworm-slim"
"""The name by which the Dockerfiles ask for it."""
_SOURCES = """\
deb http://deb.debian.org/debian bookworm main
deb http://deb.debian.org/debian bookworm-updates main
deb http://deb.debian.org/debian-security bookworm-security main
"""
_NOT_IN_SLIM = ("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "var/cache/apt", "var/log")


def provide_base(buildah: Buildah, folder: Path) -> None:
    """Make the base image with debootstrap (root, a few minutes), unless the storage has it already."""
    if buildah.has(BASE):
        return
    root = folder / "base"
    if not (root / ".complete").exists():
        shutil.rmtree(root, ignore_errors=True)
        command = ["debootstrap", "--variant=minbase", "bookworm", str(root), "http://deb.debian.org/debian"]
        subprocess.run(command, check=True)
        slim(root)
        (root / ".complete").touch()
    container = buildah.output("from", "scratch")
    try:
        buildah("add", "--quiet", container, str(root), "/")
        buildah("config", "--cmd", '["bash"]', container)
        buildah("commit", "--quiet", "--timestamp", "0", container, BASE)
    finally:
        buildah("rm", container)


def slim(root: Path) -> None:
    """Leave out what Debian's slim images leave out, and let apt see the security fixes."""
    for name in _NOT_IN_SLIM:
        for entry in (root / name).glob("*"):
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    for index in (root / "var/lib/apt/lists").glob("*_*"):
        index.unlink()
    for machine in ("etc/resolv.conf", "etc/hostname"):
        (root / machine).unlink(missing_ok=True)
    (root / "etc/apt/sources.list").write_text(_SOURCES)
