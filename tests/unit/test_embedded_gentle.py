"""Stubs of marked versions start at a low priority and are raised again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from wetread_embedded import gentle
from wetread_embedded.gentle import LOW, MARKS, STUB, mark_of, may_raise, provide_stub, raise_again

PRINTS_ITS_NICENESS = f"#!{sys.executable}\nimport os\nprint(os.getpriority(os.PRIO_PROCESS, 0))\n"


@pytest.fixture
def stub(tmp_path):
    path = tmp_path / STUB
    path.write_text(PRINTS_ITS_NICENESS)
    path.chmod(0o755)
    return path


def start(folder, version) -> int:
    words = [str(folder / STUB), str(version / "model.onnx"), "wetread_1_00000000_x"]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
def test_only_the_stub_of_a_marked_version_starts_at_a_low_priority(tmp_path, stub, monkeypatch):
    monkeypatch.setattr(gentle, "may_raise", lambda: True)
    (tmp_path / "python").mkdir()
    provide_stub(stub, tmp_path / "python")
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    version = tmp_path / "store" / "model_repository" / "films_classifier" / "7"
    mark = mark_of(version)
    assert mark == tmp_path / "store" / MARKS / "films_classifier.7"
    mark.parent.mkdir(parents=True)
    assert start(tmp_path / "python", version) == usual
    mark.touch()
    assert start(tmp_path / "python", version) == min(usual + LOW, 19)
    assert start(tmp_path / "python", version.with_name("8")) == usual


def test_who_may_not_raise_a_priority_again_lowers_none(tmp_path, stub, monkeypatch):
    monkeypatch.setattr(gentle, "may_raise", lambda: False)
    (tmp_path / "python").mkdir()
    provide_stub(stub, tmp_path / "python")
    assert (tmp_path / "python" / STUB).read_text() == PRINTS_ITS_NICENESS


@pytest.mark.parametrize(
    ("mask", "may"), [("0000000000800000", True), ("000001ffffffffff", True), ("00000000a80425fb", False)]
)
def test_the_kernels_capabilities_say_who_may(tmp_path, monkeypatch, mask, may):
    monkeypatch.setattr(gentle.resource, "getrlimit", lambda _: (0, 0))
    (tmp_path / "status").write_text(f"Name:\tx\nCapEff:\t{mask}\n")
    assert may_raise(tmp_path / "status") is may


@pytest.mark.skipif(not may_raise(), reason="this process may not raise a priority")
def test_a_process_is_raised_with_all_its_threads_and_its_children_only_when_told():
    code = """if True:
        import subprocess, sys
        child = subprocess.Popen(["sleep", "60"])
        print(child.pid, flush=True)
        sys.stdin.read()
        child.kill()
    """
    process = subprocess.Popen(
        ["nice", "-n", "7", sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    child = int(process.stdout.readline())
    try:
        raise_again(process.pid)
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == 0
        assert os.getpriority(os.PRIO_PROCESS, child) > 0
        raise_again(process.pid, children=True)
        assert os.getpriority(os.PRIO_PROCESS, child) == 0
    finally:
        process.communicate("")
    raise_again(process.pid, children=True)  # it ended: nothing to do


def test_the_script_and_the_backend_look_for_the_same_mark():
    backend = Path(gentle.__file__).parents[1] / "backends" / "onnxruntime" / "wetread_onnx" / "gentle.py"
    assert f'MARKS = "{MARKS}"' in backend.read_text()
