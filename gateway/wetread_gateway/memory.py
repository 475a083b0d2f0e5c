"""How much memory this container uses and may use, as the kernel that kills it counts (cgroup v2)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes. `used`: without file pages that can be dropped at once, as the kubelet counts."""

    used: int
    limit: int


def memory(cgroups: Path = _CGROUPS, proc: Path = _PROC) -> Memory:
    """Look: at this container's cgroup, or at the whole machine where there is none or it has no limit."""
    machine = _machine(proc)
    folder = _folder(cgroups, proc)
    if folder is None:
        return machine
    limit = (folder / "memory.max").read_text().strip()
    droppable = _numbers(folder / "memory.stat").get("inactive_file", 0)
    used = max(0, int((folder / "memory.current").read_text()) - droppable)
    return Memory(used, machine.limit) if limit == "max" else Memory(used, min(int(limit), machine.limit))


def _folder(cgroups: Path, proc: Path) -> Path | None:
    """Give this process's cgroup; a container sees its own at the root."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return None
    own = next((line[3:].strip("/") for line in lines if line.startswith("0::")), "")
    return next((folder for folder in (cgroups / own, cgroups) if (folder / "memory.max").is_file()), None)


def _machine(proc: Path) -> Memory:
    found = _numbers(proc / "meminfo")
    total, free = found["MemTotal:"] * 1024, found["MemAvailable:"] * 1024
    return Memory(total - free, total)


def _numbers(file: Path) -> dict[str, int]:
    """Read lines of a name and a number."""
    words = (line.split() for line in file.read_text().splitlines())
    return {one[0]: int(one[1]) for one in words if len(one) > 1 and one[1].isdecimal()}
