"""The processes in which the Python backend runs models, found by the prefix in their command line."""

import contextlib
import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
GONE_WITHIN_S = 5.0  # a killed process lives on only while the kernel itself is stuck in it


@dataclass(frozen=True)
class Stub:
    """One live stub."""

    pid: int
    model: str
    instance: str
    """Triton's name of the instance: `<model>_<group>_<number>`. Versions of a model use the same names."""
    version: str


def find(prefix: str) -> list[Stub]:
    """Return the live stubs of the server whose shared memory begins with `prefix`."""
    found = []
    for folder in PROC.iterdir():
        if not folder.name.isdecimal():
            continue
        with contextlib.suppress(OSError):  # it ended meanwhile
            stub = parse((folder / "cmdline").read_bytes(), int(folder.name), prefix)
            if stub is not None:
                found.append(stub)
    return found


def parse(cmdline: bytes, pid: int, prefix: str) -> Stub | None:
    """Return the stub that a /proc/<pid>/cmdline describes, or None where it is none of the server's.

    The words: program, model file, region, its first and growth sizes, parent, folder, handle, instance, backend.
    """
    words = cmdline.decode(errors="replace").split("\0")
    if len(words) < 9 or not words[0].endswith("triton_python_backend_stub") or not words[2].startswith(prefix):
        return None
    version = Path(words[1]).parent  # <repository>/<model>/<version>/<file>
    return Stub(pid, version.parent.name, words[8], version.name)


def kill(prefix: str, timeout_s: float = GONE_WITHIN_S, *, orphans_only: bool = False) -> list[int]:
    """Kill the stubs that outlived their server and see them end; return their process ids.

    `orphans_only`: leave those whose server still lives: it ends them itself.
    """
    killed = []
    for stub in find(prefix):
        if orphans_only and _has_server(stub.pid):
            continue
        with contextlib.suppress(ProcessLookupError):
            fd = os.pidfd_open(stub.pid)
            try:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
                select.select([fd], [], [], timeout_s)  # readable when it has ended
            finally:
                os.close(fd)
            killed.append(stub.pid)
    return killed


def _has_server(pid: int) -> bool:
    """Tell whether a process is still the child of a tritonserver."""
    try:
        parent = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1]
        return (PROC / parent / "comm").read_text().strip() == "tritonserver"
    except OSError:  # one of them has ended
        return False
