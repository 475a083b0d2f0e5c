"""Our use of TensorRT's Python API against the published types of TensorRT 10, which this machine cannot run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUBS = Path(os.environ.get("WETREAD_TENSORRT_STUBS") or ROOT / "build" / "tensorrt-stubs")
ENGINE = "tools/wetread_release/tensorrt/engine.py"
# The stubs were generated, and these of their lines are no Python: a keyword as a name, a default before none.
REPAIRS = ((re.compile(r"\bin: "), "into: "), (re.compile(r"channel_axis: int\)"), "channel_axis: int = ...)"))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stubs(tmp_path_factory) -> Path:
    if not (STUBS / "tensorrt").is_dir():
        pytest.skip(f"no types of TensorRT: pip install --no-deps --target {STUBS} tensorrt-stubs")
    folder = tmp_path_factory.mktemp("stubs")
    for package in ("tensorrt", "tensorrt_bindings"):
        (folder / package).mkdir()
        for path in (STUBS / package).glob("*.pyi"):
            text = path.read_text()
            for pattern, replacement in REPAIRS:
                text = pattern.sub(replacement, text)
            (folder / package / path.name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def check(stubs, tmp_path_factory):
    cache = tmp_path_factory.mktemp("mypy")

    def run(source: str) -> list[str]:
        path = cache / "engine.py"
        path.write_text(source)
        done = subprocess.run(
            [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(cache), "--config-file", "", str(path)],
            env={**os.environ, "MYPYPATH": f"{stubs}{os.pathsep}{ROOT / 'tools'}"},
            capture_output=True,
            text=True,
            check=False,
        )
        return [line for line in done.stdout.splitlines() if line.startswith(str(path)) and ": error:" in line]

    return run


def test_the_engine_keeps_to_the_types_of_tensorrt_10(check):
    assert check((ROOT / ENGINE).read_text()) == []


@pytest.mark.parametrize(
    ("ours", "wrong"),
    [
        ("build_serialized_network(network, config)", "build_serialized_network(config)"),
        ("parser.parse_from_file(job.model)", "parser.parse_file(job.model)"),
        ("config.set_timing_cache(", "config.set_timing_caches("),
        ("error.node_operator()", "error.node_op()"),
    ],
)
def test_a_call_that_the_api_does_not_have_is_found(check, ours, wrong):
    source = (ROOT / ENGINE).read_text()
    assert ours in source

    assert check(source.replace(ours, wrong)) != []
