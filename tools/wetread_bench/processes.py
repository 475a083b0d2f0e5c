"""What processes cost: CPU time and page faults from /proc, summed by class of process."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

PROC = Path("/proc")
_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class CpuUse:
    """CPU seconds in user space and in the kernel, page faults without input or output (fresh memory, mostly)."""

    user_s: float = 0.0
    system_s: float = 0.0
    minor_faults: float = 0.0

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.user_s + other.user_s, self.system_s + other.system_s, self.minor_faults + other.minor_faults
        )

    def __sub__(self, other: Self) -> Self:
        return type(self)(
            self.user_s - other.user_s, self.system_s - other.system_s, self.minor_faults - other.minor_faults
        )

    def __truediv__(self, films: float) -> Self:
        return type(self)(self.user_s / films, self.system_s / films, self.minor_faults / films)

    @property
    def total_s(self) -> float:
        """Both."""
        return self.user_s + self.system_s


Snapshot = Mapping[int, CpuUse]


def cpu_use(pids: Iterable[int], proc: Path = PROC) -> Snapshot:
    """What each process has used so far; those that are gone are left out (proc(5), /proc/pid/stat)."""
    found = {}
    for pid in pids:
        fields = _stat(proc / str(pid))
        if fields is not None:
            found[pid] = CpuUse(int(fields[11]) * _TICK_S, int(fields[12]) * _TICK_S, int(fields[7]))
    return found


def descendants(pid: int, proc: Path = PROC) -> list[int]:
    """The process's children, their children and so on."""
    children: dict[int, list[int]] = {}
    for folder in proc.iterdir():
        if folder.name.isdecimal() and (fields := _stat(folder)) is not None:
            children.setdefault(int(fields[1]), []).append(int(folder.name))
    found, waiting = [], [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found.append(child)
            waiting.append(child)
    return found


def busy_s(proc: Path = PROC) -> float:
    """CPU seconds that all cores together have been busy since the start of the machine, stolen time included."""
    user, nice, system, _idle, _wait, irq, soft_irq, steal = (
        int(word) for word in (proc / "stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + soft_irq + steal) * _TICK_S


def by_class(classes: Mapping[str, Iterable[int]], before: Snapshot, after: Snapshot) -> dict[str, CpuUse]:
    """What each class of processes used between the two; one that is new has used all it has."""
    return {
        name: sum((after[pid] - before.get(pid, CpuUse()) for pid in pids if pid in after), CpuUse())
        for name, pids in classes.items()
    }


def _stat(folder: Path) -> list[str] | None:
    """The fields of stat from the third (state) on: the name before them may hold blanks and brackets."""
    try:
        return (folder / "stat").read_text().rsplit(")", 1)[1].split()
    except OSError:  # it ended meanwhile
        return None
