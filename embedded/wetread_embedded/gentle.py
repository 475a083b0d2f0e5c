"""Processes of a new release start at a low priority, and are raised when they are ready: patients are read meanwhile.

Whoever may raise a priority again (CAP_SYS_NICE, or a limit of RLIMIT_NICE) gets a small script in the place of
Triton's stub. It lowers the stub of a version that is marked, and becomes the stub.
"""

import contextlib
import os
import resource
import shutil
from pathlib import Path

MARKS = "gently"
"""Folder of the store whose files `<model>.<version>` ask for it. In a version folder they would be a change, for which
Triton would load that version once more. A heal has no such file: it must be quick."""
LOW = 15
"""Niceness: a thirtieth of a core against others that want it, so that a load ends on a busy machine, too."""
STUB = "triton_python_backend_stub"
_CAP_SYS_NICE = 23  # linux/capability.h
_FREE_NICE = 20  # RLIMIT_NICE at which niceness 0 may be set, getrlimit(2)
# The stub's first word is the model's file: <store>/model_repository/<model>/<version>/<file>.
_SCRIPT = f"""#!/bin/sh
version=${{1%/*}} model=${{1%/*/*}}
mark="${{model%/*/*}}/{MARKS}/${{model##*/}}.${{version##*/}}"
if [ -e "$mark" ]; then exec nice -n {LOW} "${{0%/*}}/own/{STUB}" "$@"; fi
exec "${{0%/*}}/own/{STUB}" "$@"
"""


def mark_of(version: Path) -> Path:
    """Give the mark of a version folder, <store>/model_repository/<model>/<version>."""
    return version.parents[2] / MARKS / f"{version.parent.name}.{version.name}"


def may_raise(status: Path = Path("/proc/self/status")) -> bool:
    """Tell whether this process, and so the server, may give a process back its usual priority."""
    if resource.getrlimit(resource.RLIMIT_NICE)[0] >= _FREE_NICE:
        return True
    for line in status.read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_SYS_NICE & 1)
    return False


def provide_stub(stub: Path, folder: Path) -> None:
    """Put Triton's stub into its backend's folder, behind the script where that may be undone."""
    if not may_raise():
        shutil.copy(stub, folder)
        return
    (folder / "own").mkdir()
    shutil.copy(stub, folder / "own")
    script = folder / STUB
    script.write_text(_SCRIPT)
    script.chmod(0o755)


def raise_again(pid: int, *, children: bool = False, proc: Path = Path("/proc")) -> None:
    """Give all threads of a process, and of its `children`, their usual priority; what ended meanwhile is left out."""
    for process in (pid, *(_descendants(pid, proc) if children else ())):
        with contextlib.suppress(OSError):
            for thread in (proc / str(process) / "task").iterdir():
                with contextlib.suppress(OSError):
                    os.setpriority(os.PRIO_PROCESS, int(thread.name), 0)


def _descendants(pid: int, proc: Path) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for thread in (proc / str(pid) / "task").iterdir():
            for child in (thread / "children").read_text().split():
                found += [int(child), *_descendants(int(child), proc)]
    return found
