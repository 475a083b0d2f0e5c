"""The requests of `model_warmup`, run before Triton runs them."""

import json

import numpy as np

from wetread_onnx.batching import execute
from wetread_onnx.engines import Engine, EngineError
from wetread_onnx.spec import DTYPES, ModelSpec

_SEED = 0


def warm_up(engine: Engine, config: str) -> None:
    """Answer each warm-up request of a configuration (Triton's JSON) once, with random or zero values.

    Raises:
        EngineError: one is not answered.
    """
    spec = ModelSpec.from_json(config)
    for sample in json.loads(config).get("model_warmup", []):
        inputs = {name: _values(entry, _rows(spec, sample)) for name, entry in sample.get("inputs", {}).items()}
        if not all(name in inputs for name in (tensor.name for tensor in spec.inputs)):
            continue  # from a file that Triton reads itself
        [answer] = execute(engine, spec, [inputs], [[tensor.name for tensor in spec.outputs]])
        if isinstance(answer, EngineError):
            raise EngineError(f"warm-up {sample.get('name', '')}: {answer}")


def _rows(spec: ModelSpec, sample: dict[str, object]) -> tuple[int, ...]:
    return (int(str(sample.get("batch_size", 1))),) if spec.max_batch_size > 0 else ()


def _values(entry: dict[str, object], rows: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    dims = entry.get("dims", [])
    assert isinstance(dims, list)
    shape = (*rows, *(int(dim) for dim in dims))
    dtype = DTYPES[str(entry["data_type"])]
    if dtype is np.object_:
        return np.full(shape, b"", np.object_)
    if entry.get("random_data"):
        return np.asarray(np.random.default_rng(_SEED).random(shape)).astype(dtype)
    return np.zeros(shape, dtype)
