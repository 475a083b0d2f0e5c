"""Which engine of the embedded server runs a model faster here: measured in a process of its own, in turns."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import wetread_embedded

from wetread_release.agent.idle import as_triton_json
from wetread_release.errors import BadModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wetread_release.triton_config import ModelConfig

ENGINES = ("openvino", "onnxruntime")
BATCH = 8
REPEATS = 20
_BACKEND = Path(wetread_embedded.__file__).parents[1] / "backends" / "onnxruntime"
_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Timing:
    """One model on one engine, one thread."""

    engine: str
    batch: int
    median_ms: float = 0.0
    """Of one run of the whole batch."""
    low_ms: float = 0.0
    high_ms: float = 0.0
    error: str = ""
    """Why it does not run there."""


@dataclass(frozen=True)
class Choice:
    """What was measured for a build, and what follows."""

    engine: str
    """The faster one; empty: the embedded server's engines are not here."""
    timings: tuple[Timing, ...]
    source: tuple[Timing, ...] = ()
    """The FP32 file of the same run, where another precision was built of it."""

    @property
    def speedup(self) -> float:
        """Throughput over the FP32 file's on the same engine and in the same run; 0: not measured."""
        own, fp32 = (
            {each.engine: each.median_ms for each in timings if not each.error}
            for timings in (self.timings, self.source)
        )
        return fp32[self.engine] / own[self.engine] if self.engine in own and self.engine in fp32 else 0.0


def choose(model: Path, config: ModelConfig, source: Path | None = None, repeats: int = REPEATS) -> Choice:
    """Time `model`, and `source` where it is another file, at batch 8.

    Raises:
        BadModel: neither engine runs it.
    """
    if not _BACKEND.is_dir():
        return Choice("", ())
    batch = min(BATCH, config.max_batch_size or 1)
    models = [model] if source is None else [model, source]
    measured = time_models(models, config, (batch,), repeats)
    own = measured[model]
    running = [each for each in own if not each.error]
    if not running:
        raise BadModel(f"{model}: no engine runs it: " + "; ".join(f"{each.engine}: {each.error}" for each in own))
    fastest = min(running, key=lambda each: each.median_ms)
    return Choice(fastest.engine, own, measured[source] if source else ())


def time_models(
    models: Sequence[Path], config: ModelConfig, batches: Sequence[int], repeats: int = REPEATS
) -> dict[Path, tuple[Timing, ...]]:
    """Time models of one configuration on both engines, everything in turns."""
    job = {
        "config": as_triton_json(config),
        "models": [str(model) for model in models],
        "engines": ENGINES,
        "batches": list(batches),
        "repeats": repeats,
    }
    done = subprocess.run(
        [sys.executable, "-m", "wetread_onnx.measure"],
        input=json.dumps(job),
        env=os.environ | {"PYTHONPATH": str(_BACKEND), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_S,
    )
    if done.returncode:
        raise BadModel(f"the engines could not be measured: {done.stderr.strip().splitlines()[-1:]}")
    answers = json.loads(done.stdout.splitlines()[-1])
    return {model: tuple(_timing(each) for each in answers if each["model"] == str(model)) for model in models}


def _timing(answer: dict[str, object]) -> Timing:
    engine, batch = str(answer["engine"]), int(str(answer["batch"]))
    if "error" in answer:
        return Timing(engine, batch, error=str(answer["error"]))
    ms = answer["ms"]
    assert isinstance(ms, list)
    return Timing(engine, batch, round(statistics.median(ms), 3), min(ms), max(ms))
