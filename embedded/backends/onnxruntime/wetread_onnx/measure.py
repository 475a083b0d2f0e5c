"""Times models on engines in turns, so that ratios hold on a busy machine: `python -m wetread_onnx.measure < job.json`.

The job: {"config": Triton's JSON, "models": [path, ...], "engines": ["openvino", ...], "batches": [8], "repeats": 20}.
The answer, one JSON list on stdout: {"model", "engine", "batch", "ms": [milliseconds of a run]} or {..., "error"}.
"""

import itertools
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from wetread_onnx.engines import Array, Engine, EngineError, load_engine
from wetread_onnx.spec import ModelSpec


@dataclass
class Timed:
    """One model on one engine with one batch."""

    model: str
    engine: str
    batch: int
    ms: list[float] = field(default_factory=list)


def measure(
    spec: ModelSpec, models: Sequence[Path], engines: Sequence[str], batches: Sequence[int], repeats: int
) -> list[dict[str, object]]:
    """Time every model on every engine, one run of each in turn, after one that warms up."""
    failed: list[dict[str, object]] = []
    ready: list[tuple[Timed, Engine, dict[str, Array]]] = []
    for model, name, batch in itertools.product(models, engines, batches):
        wanted = replace(spec, engine=name, max_batch_size=max(spec.max_batch_size, batch))
        try:
            engine = load_engine(model, wanted)
            inputs = _inputs(engine, batch)
            _run(engine, inputs, spec)
        except EngineError as error:
            told = str(error).splitlines()[0]
            failed.append({"model": str(model), "engine": name, "batch": batch, "error": told})
        else:
            ready.append((Timed(str(model), name, batch), engine, inputs))
    for _ in range(repeats):
        for timed, engine, inputs in ready:
            started = time.perf_counter()
            _run(engine, inputs, spec)
            timed.ms.append(round((time.perf_counter() - started) * 1e3, 4))
    return failed + [vars(timed) for timed, _, _ in ready]


def _inputs(engine: Engine, batch: int) -> dict[str, Array]:
    """Noise; an axis that may differ has one element, the first is the batch."""
    random = np.random.default_rng(0)
    shapes = {tensor: [batch, *(max(dim, 1) for dim in tensor.dims[1:])] for tensor in engine.inputs}
    return {tensor.name: random.uniform(-1, 1, shape).astype(tensor.dtype) for tensor, shape in shapes.items()}


def _run(engine: Engine, inputs: Mapping[str, Array], spec: ModelSpec) -> None:
    engine.run(inputs, [tensor.name for tensor in spec.outputs])


def main(job: Mapping[str, object]) -> None:
    """Answer a job on stdout."""
    models, engines, batches = job["models"], job["engines"], job["batches"]
    assert isinstance(models, list)
    assert isinstance(engines, list)
    assert isinstance(batches, list)
    spec = ModelSpec.from_json(json.dumps(job["config"]))
    answers = measure(spec, [Path(model) for model in models], engines, batches, int(str(job["repeats"])))
    sys.stdout.write(json.dumps(answers) + "\n")


if __name__ == "__main__":
    os.nice(10)  # patients may be read on this machine
    main(json.load(sys.stdin))
