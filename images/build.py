"""`python images/build.py gateway all-in-one`: builds images with buildah; for docker, prints the plain command."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from base import provide_base
from buildah import FOLDER, ROOT, Buildah, absent

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES = ("gateway", "release", "all-in-one")
"""Those that can be built from Debian's packages alone; `triton` needs NVIDIA's image, from its registry."""
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
_EPOCH = "1767225600"  # 2026-01-01: the same files give the same image, whenever it is built


def version() -> str:
    """Give the version of the distribution, which is the images' tag."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return str(document["project"]["version"])


def tag(name: str) -> str:
    """Give the name of an image with its tag."""
    return f"wetread/{name}:{version()}"


def docker_command(name: str) -> str:
    """Give the command that builds an image with docker, on a machine that reaches the registries."""
    return f"docker build --file images/{name}/Dockerfile --tag {tag(name)} ."


def build(buildah: Buildah, name: str) -> float:
    """Build one image and give the seconds that it took; the log is in build/images/<name>.log.

    The stage that is thrown away is built first, with what this machine's pip needs; the last one never sees that.
    """
    command = ["bud", "--isolation", "chroot", "--format", "docker", "--pull-never", "--layers=true", "--network=host"]
    command += ["--timestamp", _EPOCH, "--file", f"images/{name}/Dockerfile"]
    started = time.monotonic()
    buildah(*command, "--target", "build", *_machine_mounts(), str(ROOT), log=FOLDER / f"{name}-build.log")
    buildah(*command, "--tag", tag(name), str(ROOT), log=FOLDER / f"{name}.log")
    return time.monotonic() - started


def _machine_mounts() -> list[str]:
    """Give the mounts by which pip inside trusts the authorities of this machine, in the stage that is thrown away."""
    if not _AUTHORITIES.is_file():
        return []
    machine = FOLDER / "machine"
    machine.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_AUTHORITIES, machine / "authorities.pem")
    (machine / "pip.conf").write_text("[global]\ncert = /run/machine/authorities.pem\n")
    return ["--volume", f"{machine}:/run/machine:ro", "--volume", f"{machine}/pip.conf:/etc/pip.conf:ro"]


def _say(*lines: str) -> None:
    sys.stdout.write("\n  ".join(lines) + "\n")
    sys.stdout.flush()


def named(arguments: Sequence[str]) -> Sequence[str]:
    """Give the images that the command line names, all when it names none."""
    parser = argparse.ArgumentParser(description=__doc__)
    choices: tuple[object, ...] = (*NAMES, [])  # argparse checks the empty list, too
    parser.add_argument("names", nargs="*", choices=choices, metavar="|".join(NAMES), help="all when none is named")
    return parser.parse_args(arguments).names or NAMES


def main() -> int:
    """Build what is named; 0 when all were built."""
    names = named(sys.argv[1:])
    _say("With docker, from the project's folder:", *map(docker_command, ("triton", *names)))
    if lacks := absent():
        _say(f"Nothing is built here: {lacks}")
        return 1
    FOLDER.mkdir(parents=True, exist_ok=True)
    buildah = Buildah()
    buildah("rm", "--all")  # what builds that were killed have left
    provide_base(buildah, FOLDER)
    for name in names:
        try:
            _say(f"{tag(name)}: {build(buildah, name):.0f} s")
        except subprocess.CalledProcessError:
            log = max(FOLDER.glob(f"{name}*.log"), key=lambda path: path.stat().st_mtime)
            _say(f"{tag(name)} was not built; the end of {log}:", *log.read_text(errors="replace").splitlines()[-20:])
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
