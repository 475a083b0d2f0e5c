"""MONAI for the bench of volumes: an environment of its own on top of this one, as the project does not lock it."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from contextlib import contextmanager
from typing import TYPE_CHECKING

from wetread_bench.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Without what they depend on: torch and numpy are this environment's, pip's own choice of torch is gigabytes.
PACKAGES = ("monai==1.6.1", "itk-core==5.4.7", "itk-io==5.4.7")
_TELL = (
    "import importlib.metadata as m, json;"
    "print(json.dumps({p: m.version(p) for p in ('monai', 'itk-core', 'itk-io', 'torch', 'numpy')}))"
)


class NoMonai(Exception):
    """MONAI cannot be had here; the message says why."""


def make_monai(folder: Path) -> Path:
    """Make the environment in `folder`, or take it as it is; give its Python.

    Raises:
        NoMonai: torch is not here (`make setup-models`), or pip cannot install MONAI.
    """
    python = folder / "bin" / "python"
    try:
        if not python.is_file():
            _run(sys.executable, "-m", "venv", str(folder))
            under = sysconfig.get_path("purelib")
            packages = next(folder.glob("lib/python*/site-packages"))
            (packages / "under.pth").write_text(f"import site; site.addsitedir({under!r})\n")
        _run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", *PACKAGES)
        _run(str(python), "-c", "import monai, torch, itk")
    except (OSError, subprocess.CalledProcessError) as error:
        told = getattr(error, "stderr", None) or str(error)
        raise NoMonai(told.strip().splitlines()[-1]) from error
    return python


def monai_versions(python: Path) -> dict[str, str]:
    """The versions in that environment, by package."""
    versions: dict[str, str] = json.loads(_run(str(python), "-c", _TELL))
    return versions


@contextmanager
def monai_worker(python: str, threads: int) -> Iterator[Worker]:
    """A worker with MONAI, on the cores of this process."""
    with Worker("wetread_bench.volumes_monai", str(threads), one_thread=False, python=python) as worker:
        yield worker


def _run(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout
