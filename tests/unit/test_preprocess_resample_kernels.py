"""Kernels are compiled once a machine and never from stale code; resampling holds no second copy of a series."""

import os
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from wetread_preprocess.volumes import Slice, Stack, compiled
from wetread_preprocess.volumes.resample import resample, target_grid
from wetread_preprocess.volumes.steps import Resample

ONE = """
from wetread_preprocess.volumes.compiled import kernel
from wetread_preprocess.volumes.two import factor
@kernel("float64(float64)")
def product(value):
    return value * factor()
"""
TWO = """
from wetread_preprocess.volumes.compiled import kernel
@kernel()
def factor():
    return 3.0
"""
ASK = """
from wetread_preprocess.volumes.one import product
answer = product(2.0)
print(answer, sum(product.compiled().stats.cache_hits.values()), sum(product.compiled().stats.cache_misses.values()))
"""


@pytest.fixture
def package(tmp_path) -> Path:
    """A package with two modules of kernels, one of which calls the other's."""
    return write_package(tmp_path / "code")


@pytest.fixture(scope="module")
def asked_once(tmp_path_factory) -> tuple[Path, Path]:
    """A package that one process has compiled, and its cache: to be read; to be changed, take a copy of the cache."""
    folder = tmp_path_factory.mktemp("asked_once")
    package, cache = write_package(folder / "code"), folder / "cache"
    assert ask(package, cache) == (6, 0, 1)
    return package, cache


def write_package(folder: Path) -> Path:
    volumes = folder / "wetread_preprocess" / "volumes"
    volumes.mkdir(parents=True)
    (volumes.parent / "__init__.py").touch()
    (volumes / "__init__.py").touch()
    shutil.copy(compiled.__file__, volumes)
    (volumes / "one.py").write_text(ONE)
    (volumes / "two.py").write_text(TWO)
    return volumes


def process(package: Path, cache: Path, code: str = ASK) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(package.parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",  # a file that is replaced keeps its time: Python itself would not notice
        "NUMBA_CACHE_DIR": str(cache),
    }
    return subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ask(package: Path, cache: Path) -> tuple[float, int, int]:
    """What a fresh process answers, how often it found its kernel in the cache, and how often not."""
    return told(process(package, cache))


def told(asked: subprocess.Popen[str]) -> tuple[float, int, int]:
    output, errors = asked.communicate()
    assert asked.returncode == 0, errors
    answer, hits, misses = output.split()
    return float(answer), int(hits), int(misses)


@pytest.mark.slow
def test_a_second_process_compiles_nothing(asked_once):
    assert ask(*asked_once) == (6, 1, 0)


@pytest.mark.slow
def test_a_link_to_the_package_is_the_package_and_compiles_nothing(asked_once, tmp_path):
    package, cache = asked_once
    (tmp_path / "served").symlink_to(package.parents[1])
    assert ask(tmp_path / "served" / "wetread_preprocess" / "volumes", cache) == (6, 1, 0)


@pytest.mark.slow
def test_code_that_was_replaced_is_never_answered_from_the_cache(package, tmp_path):
    assert ask(package, tmp_path / "cache")[0] == 6
    two = package / "two.py"
    before = two.stat()
    two.write_text(TWO.replace("3.0", "5.0"))
    os.utime(two, ns=(before.st_atime_ns, before.st_mtime_ns))  # as an installer may leave it
    assert ask(package, tmp_path / "cache") == (10, 0, 1)
    two.write_text(TWO)
    assert ask(package, tmp_path / "cache") == (6, 1, 0), "the old package finds its own again"


@pytest.mark.slow
def test_two_processes_that_start_at_once_compile_once(package, tmp_path):
    both = [process(package, tmp_path / "cache") for _ in range(2)]
    assert sorted(told(each) for each in both) == [(6, 0, 1), (6, 1, 0)]


@pytest.mark.slow
def test_a_damaged_cache_is_made_anew(asked_once, tmp_path):
    package, cache = asked_once
    shutil.copytree(cache, tmp_path / "cache")
    kept = [*(tmp_path / "cache").rglob("*.nbc"), *(tmp_path / "cache").rglob("*.nbi")]
    assert kept
    for path in kept:
        path.write_bytes(path.read_bytes()[:40])
    assert ask(package, tmp_path / "cache")[0] == 6
    assert ask(package, tmp_path / "cache") == (6, 1, 0)


@pytest.mark.slow
def test_kernels_work_where_no_cache_can_be_kept(package, tmp_path):
    (tmp_path / "no_folder").touch()
    assert ask(package, tmp_path / "no_folder")[0] == 6


@pytest.mark.slow
def test_a_server_of_films_does_not_load_numba():
    code = "import sys, wetread_preprocess, wetread_preprocess.volumes; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_other_types_are_refused_and_not_compiled():
    from wetread_preprocess.volumes.planes import tile_of_planes  # noqa: PLC0415

    with pytest.raises(TypeError):
        tile_of_planes(1.0, 2, 3, 4, 5, 6, 7, 8)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("orientation", ["SPL", "RAS", "RSA"])
def test_a_series_is_resampled_without_a_second_copy_of_it(orientation):
    pixels = np.zeros((50, 512, 512), np.int16)
    slices = tuple(Slice(n, 0, "", (0.0, 0.0, 2.5 * n), 1.0, -1024.0, one) for n, one in enumerate(pixels))
    stack = Stack(slices, (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.7, 0.7))
    grid = target_grid(stack, (1.0, 1.0, 1.0), orientation)
    out = np.empty(grid.shape, np.float32)
    resample(stack, grid, Resample(), out=out)
    tracemalloc.start()
    try:
        resample(stack, grid, Resample(), out=out, threads=2)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 0.12 * out.nbytes
    assert pixels.nbytes + out.nbytes + most < 2.5 * out.nbytes
