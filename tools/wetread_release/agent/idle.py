"""Compiles a model before Triton loads it, at idle priority: a load then takes only what it must from patients."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import wetread_embedded

if TYPE_CHECKING:
    from wetread_release.manifest import ReleasedPart
    from wetread_release.triton_config import ModelConfig

LOG = logging.getLogger(__name__)
_BACKEND = Path(wetread_embedded.__file__).parents[1] / "backends" / "onnxruntime"
_TIMEOUT_S = 30.0  # on cores that are never idle it would take for ever


class IdleCompiler:
    """Fills the cache of compiled models of the embedded server's onnxruntime backend; other parts need nothing."""

    def __init__(self, models: Path, cache: Path) -> None:
        self._models, self._cache = models, cache

    def __call__(self, part: ReleasedPart) -> None:
        """Compile a part, as its instances will ask for it. A failure is the load's to tell."""
        if part.config.backend != "onnxruntime":
            return
        model = self._models / part.model / str(part.version) / (part.config.model_file or "model.onnx")
        command = [sys.executable, "-m", "wetread_onnx.precompile", str(model), str(self._cache)]
        try:
            subprocess.run(
                command,
                input=json.dumps(as_triton_json(part.config)),
                env=os.environ | {"PYTHONPATH": str(_BACKEND), "OMP_NUM_THREADS": "1"},
                capture_output=True,
                text=True,
                check=True,
                timeout=_TIMEOUT_S,
            )
        except subprocess.CalledProcessError as error:
            LOG.info("%s was not compiled beforehand: %s", part.model, error.stderr[-500:])
        except (OSError, subprocess.TimeoutExpired) as error:
            LOG.info("%s was not compiled beforehand: %s", part.model, error)


def as_triton_json(config: ModelConfig) -> dict[str, object]:
    """Give a configuration as Triton's JSON hands it to a backend, as far as a backend of ours reads it."""

    def tensors(which: str) -> list[dict[str, object]]:
        return [
            {"name": tensor.name, "data_type": f"TYPE_{tensor.data_type}", "dims": list(tensor.dims)}
            for tensor in getattr(config, which)
        ]

    return {
        "name": config.name,
        "max_batch_size": config.max_batch_size,
        "input": tensors("inputs"),
        "output": tensors("outputs"),
        "default_model_filename": config.model_file,
        "parameters": {key: {"string_value": value} for key, value in config.parameters},
    }
