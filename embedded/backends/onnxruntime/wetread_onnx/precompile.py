"""Compiles at idle priority into the cache: `python -m wetread_onnx.precompile MODEL CACHE < config.json`."""

import contextlib
import os
import sys
from pathlib import Path

from wetread_onnx.engines import load_engine
from wetread_onnx.spec import ModelSpec


def main(model: Path, cache: Path, config: str) -> None:
    """Load the model once, as an instance with this configuration (Triton's JSON) would."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    load_engine(model, ModelSpec.from_json(config), cache)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.stdin.read())
