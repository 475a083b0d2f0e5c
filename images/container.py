"""A container without an engine: an image's root read-only, its own user, no capabilities, processes of its own.

The host's network and /dev/shm are shared, and there are no cgroups: limits of memory and CPU are not tried here.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from buildah import Buildah

_READY_S = 120.0
_SCRIPT = """
set -eu
mount --make-rprivate /
mount --bind {root} {root}
for folder in {targets}; do mkdir -p {root}$folder; done
mount -o remount,bind,ro {root}
mount -t proc -o nosuid,nodev,noexec proc {root}/proc
mount --rbind /dev {root}/dev
mount --bind -o ro /sys {root}/sys
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs {root}/tmp
{binds}
exec chroot {root} /usr/bin/setpriv --reuid={uid} --regid={gid} --clear-groups --no-new-privs --bounding-set=-all \
  --inh-caps=-all /usr/bin/env --ignore-environment --chdir={folder} {environment} {words}
"""


@dataclass(frozen=True)
class Mount:
    """A folder of the host at a path inside."""

    source: Path
    target: str
    writable: bool = False


class Container:
    """One container of an image; a context that leaves neither process nor container behind."""

    def __init__(self, buildah: Buildah, image: str, mounts: Sequence[Mount], log: Path) -> None:
        self._buildah, self._image, self._mounts, self.log = buildah, image, mounts, log
        self._config = buildah.inspect(image)["Docker"]["config"]
        self._name, self._root = "", Path()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._name = self._buildah.output("from", "--pull-never", self._image)
        self._root = Path(self._buildah.output("mount", self._name))
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        self._buildah("umount", self._name)
        self._buildah("rm", self._name)

    def output(self, *words: str) -> str:
        """Run a program inside, in place of the image's own, and give what it says, also where it fails."""
        done = subprocess.run(self._command(words, {}), capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def start(self, *words: str, environment: Mapping[str, str] | None = None) -> None:
        """Start the image's entry point, with its own words or these."""
        words = words or tuple(self._config.get("Cmd") or ())
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command((*self._config["Entrypoint"], *words), environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait_until(self, ready: Callable[[], bool]) -> float:
        """Wait until it is ready and give the seconds from here; RuntimeError, with its log, when it ends instead."""
        started = time.monotonic()
        while not ready():
            if self._process is None or self._process.poll() is not None or time.monotonic() > started + _READY_S:
                raise RuntimeError(self.log.read_text(errors="replace")[-3000:])
            time.sleep(0.02)  # a server says nowhere that it is up: it is asked
        return time.monotonic() - started

    def processes(self) -> list[int]:
        """Give the pids, as the host sees them, of all that runs inside."""
        own = Path(f"/proc/{self._first()}/ns/pid").readlink()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (entry / "ns/pid").readlink() == own:
                    found.append(int(entry.name))
        return found

    def memory(self) -> dict[str, int]:
        """Give the bytes of all processes: `rss` counts shared pages in each, `pss` shares them out."""
        totals = {"rss": 0, "pss": 0}
        for pid in self.processes():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    name, _, value = line.partition(":")
                    if name.lower() in totals:
                        totals[name.lower()] += int(value.split()[0]) * 1024
        return totals

    def stop(self) -> int | None:
        """Stop it as a runtime does, with SIGTERM to the first process inside; its exit code."""
        if self._process is None:
            return None
        if self._process.poll() is None:
            with contextlib.suppress(OSError, IndexError):
                os.kill(self._first(), signal.SIGTERM)
        try:
            return self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            self._process = None

    def _first(self) -> int:
        assert self._process is not None
        pid = self._process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def _command(self, words: Sequence[str], more: Mapping[str, str]) -> list[str]:
        uid, _, gid = str(self._config["User"]).partition(":")
        root = shlex.quote(str(self._root))
        script = _SCRIPT.format(
            root=root,
            targets=" ".join(shlex.quote(mount.target) for mount in self._mounts),
            binds="\n".join(_bind(mount, root) for mount in self._mounts),
            uid=int(uid),
            gid=int(gid),
            folder=shlex.quote(self._config.get("WorkingDir") or "/"),
            environment=shlex.join([*self._config["Env"], *(f"{name}={value}" for name, value in more.items())]),
            words=shlex.join(words),
        )
        return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", script]


def _bind(mount: Mount, root: str) -> str:
    target = root + shlex.quote(mount.target)
    bind = f"mount --bind {shlex.quote(str(mount.source))} {target}"
    return bind if mount.writable else f"{bind}\nmount -o remount,bind,ro {target}"
