"""Whether a server has the memory to hold another release beside what it serves."""

from collections.abc import Iterable
from pathlib import Path

from wetread_release.errors import ServeFailed
from wetread_release.manifest import ReleasedPart

MIB = 2**20
# Of one instance in a process of its own: interpreter, numpy and an inference library without a model.
_INSTANCE_BYTES = 90 * MIB
# Weights, their compiled form and the activations of a batch, over the size of the file.
_PER_FILE_BYTE = 5
_RESERVE_BYTES = 256 * MIB
_CGROUP = Path("/sys/fs/cgroup")


def check_memory(parts: Iterable[ReleasedPart], models: Path, available: int | None = None) -> None:
    """Raise ServeFailed where `parts`, installed below `models`, are likely not to fit into memory beside the rest."""
    needed = sum(_need(part, models) for part in parts)
    free = available_bytes() if available is None else available
    if needed + _RESERVE_BYTES > free:
        raise ServeFailed(
            f"the new parts need about {needed // MIB} MiB beside {_RESERVE_BYTES // MIB} MiB of reserve, and "
            f"{free // MIB} MiB are free: give the server more memory, or retire a release first"
        )


def available_bytes() -> int:
    """Return the bytes that can be had: of the machine, or of the container where that is less."""
    with Path("/proc/meminfo").open() as lines:
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    try:
        limit, used = (_CGROUP / "memory.max").read_text().strip(), int((_CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return free
    return free if limit == "max" else min(free, int(limit) - used)


def _need(part: ReleasedPart, models: Path) -> int:
    folder = models / part.model / str(part.version)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return max(1, part.config.instances) * (_INSTANCE_BYTES + _PER_FILE_BYTE * size)
