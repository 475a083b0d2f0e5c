from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from wetread_bench.processes import CpuUse, by_class, cpu_use, descendants
from wetread_bench.worker import Worker, WorkerFailed

if TYPE_CHECKING:
    from pathlib import Path

STAT = "{pid} (a) b (c)) S {parent} 1 1 0 -1 0 {faults} 0 0 0 {user} {system} 0 0 20 0 1 0 0 0 0\n"


def write_process(proc: Path, pid: int, parent: int, user: int = 0, system: int = 0, faults: int = 0) -> None:
    (proc / str(pid)).mkdir()
    text = STAT.format(pid=pid, parent=parent, user=user, system=system, faults=faults)
    (proc / str(pid) / "stat").write_text(text)


def test_cpu_time_is_read_whatever_the_programs_name(tmp_path: Path) -> None:
    write_process(tmp_path, 7, 1, user=200, system=100, faults=5)
    second = os.sysconf("SC_CLK_TCK")
    assert cpu_use([7, 8], tmp_path) == {7: CpuUse(200 / second, 100 / second, 5)}


def test_descendants_are_found_over_generations(tmp_path: Path) -> None:
    for pid, parent in ((10, 1), (11, 10), (12, 11), (13, 1)):
        write_process(tmp_path, pid, parent)
    assert sorted(descendants(10, tmp_path)) == [11, 12]


def test_a_class_counts_what_its_processes_used_in_between() -> None:
    before = {1: CpuUse(1.0, 0.0, 10)}
    after = {1: CpuUse(1.5, 0.25, 15), 2: CpuUse(2.0, 0.0, 1)}
    used = by_class({"stubs": [1, 2], "gone": [3]}, before, after)
    assert used == {"stubs": CpuUse(2.5, 0.25, 6), "gone": CpuUse()}


@pytest.mark.slow
def test_a_busy_child_is_seen_to_be_busy() -> None:
    code = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert child.pid in descendants(os.getpid())
        assert cpu_use([child.pid])[child.pid].total_s >= 0.25
        child.kill()


@pytest.mark.slow
def test_a_worker_tells_why_it_failed() -> None:
    with Worker("wetread_bench.load") as worker:
        with pytest.raises(WorkerFailed, match="FileNotFoundError"):
            worker.ask("load", files=["no-such-film.dcm"])
        assert worker.ask("load", files=[]) == 0
