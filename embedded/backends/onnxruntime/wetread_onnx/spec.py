"""What config.pbtxt says about a model, as far as running it needs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

DTYPES: Mapping[str, type[np.generic]] = {
    "TYPE_BOOL": np.bool_,
    "TYPE_UINT8": np.uint8,
    "TYPE_UINT16": np.uint16,
    "TYPE_UINT32": np.uint32,
    "TYPE_UINT64": np.uint64,
    "TYPE_INT8": np.int8,
    "TYPE_INT16": np.int16,
    "TYPE_INT32": np.int32,
    "TYPE_INT64": np.int64,
    "TYPE_FP16": np.float16,
    "TYPE_FP32": np.float32,
    "TYPE_FP64": np.float64,
    "TYPE_STRING": np.object_,
}
ENGINES = ("auto", "openvino", "onnxruntime")


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: -1 stands for a dimension that may differ."""

    name: str
    dtype: type[np.generic]
    dims: tuple[int, ...]


@dataclass(frozen=True)
class ModelSpec:
    """A model's configuration. With `max_batch_size` above 0 the dims leave out the batch."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int = 0
    model_filename: str = "model.onnx"
    intra_op_threads: int = 1
    inter_op_threads: int = 1
    engine: str = "auto"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the configuration that Triton hands to a backend.

        Raises:
            ValueError: a data type or a parameter that this backend does not know.
        """
        config = json.loads(text)
        parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        engine = parameters.get("engine", "auto")
        if engine not in ENGINES:
            msg = f"parameter engine must be one of {', '.join(ENGINES)}, is {engine!r}"
            raise ValueError(msg)
        return cls(
            name=config["name"],
            inputs=tuple(_tensor(entry) for entry in config.get("input", [])),
            outputs=tuple(_tensor(entry) for entry in config.get("output", [])),
            max_batch_size=int(config.get("max_batch_size", 0)),
            model_filename=config.get("default_model_filename") or "model.onnx",
            intra_op_threads=_threads(parameters, "intra_op_thread_count"),
            inter_op_threads=_threads(parameters, "inter_op_thread_count"),
            engine=engine,
        )


def _tensor(entry: Mapping[str, object]) -> TensorSpec:
    data_type = str(entry["data_type"])
    if data_type not in DTYPES:
        msg = f"{entry['name']}: data type {data_type} is not supported"
        raise ValueError(msg)
    dims = entry["dims"]
    assert isinstance(dims, list)
    return TensorSpec(str(entry["name"]), DTYPES[data_type], tuple(int(dim) for dim in dims))


def _threads(parameters: Mapping[str, str], name: str) -> int:
    """Return a thread count; unset or 0 is one thread: the instances already fill the cores."""
    text = parameters.get(name, "1")
    if not text.isdecimal():
        msg = f"parameter {name} must be a number of threads, is {text!r}"
        raise ValueError(msg)
    return int(text) or 1
