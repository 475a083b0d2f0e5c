"""ONNX Runtime as an engine."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from wetread_onnx.engines import Array, EngineError
from wetread_onnx.spec import ModelSpec, TensorSpec

DTYPES: Mapping[str, type[np.generic]] = {
    "tensor(bool)": np.bool_,
    "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
    "tensor(int8)": np.int8,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(float16)": np.float16,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(string)": np.object_,
}


class OnnxRuntimeEngine:
    """A model run by ONNX Runtime's CPU provider."""

    name = "onnxruntime"

    def __init__(self, path: Path, spec: ModelSpec) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = spec.intra_op_threads
        options.inter_op_num_threads = spec.inter_op_threads
        options.log_severity_level = 3  # errors: its warnings are about optimisations
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave the core alone
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise EngineError(str(error)) from error
        self.inputs = tuple(_describe(tensor) for tensor in self._session.get_inputs())
        self.outputs = tuple(_describe(tensor) for tensor in self._session.get_outputs())

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Run the model once."""
        try:
            answers = self._session.run(list(outputs), {name: _to_ort(array) for name, array in inputs.items()})
        except Exception as error:
            raise EngineError(str(error)) from error
        return {name: _from_ort(answer) for name, answer in zip(outputs, answers, strict=True)}


def _describe(tensor: ort.NodeArg) -> TensorSpec:
    if tensor.type not in DTYPES:
        raise EngineError(f"{tensor.name}: {tensor.type} is not supported")
    dims = tuple(dim if isinstance(dim, int) else -1 for dim in tensor.shape)
    return TensorSpec(tensor.name, DTYPES[tensor.type], dims)


def _to_ort(array: Array) -> Array:
    """Triton's strings are bytes, ONNX Runtime's are str."""
    if array.dtype != np.object_:
        return array
    return np.array([text.decode() for text in array.ravel()], dtype=np.object_).reshape(array.shape)


def _from_ort(array: Array) -> Array:
    if array.dtype != np.object_:
        return array
    return np.array([text.encode() for text in array.ravel()], dtype=np.object_).reshape(array.shape)
