"""NVIDIA's compiler, where it is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from wetread_release.tensorrt.compiler import Compiler
from wetread_release.tensorrt.libraries import NoCompiler

if TYPE_CHECKING:
    from pathlib import Path


def started_compiler(cache: Path) -> Compiler:
    """Start the compiler; skips the test where it is not installed, and nowhere else."""
    try:
        return Compiler(cache)
    except NoCompiler as error:
        if "is not installed" in str(error):
            pytest.skip(str(error))
        raise
