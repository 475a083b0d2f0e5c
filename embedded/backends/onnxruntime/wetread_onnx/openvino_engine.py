"""OpenVINO as an engine."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import openvino as ov

from wetread_onnx.engines import Array, EngineError
from wetread_onnx.spec import ModelSpec, TensorSpec


class OpenVinoEngine:
    """A model compiled by OpenVINO for latency: FP32 kept as it is, one stream."""

    name = "openvino"

    def __init__(self, path: Path, spec: ModelSpec, cache: Path | None = None) -> None:
        core = ov.Core()
        if cache is not None:
            core.set_property({"CACHE_DIR": str(cache / "openvino")})
        try:
            self._model = core.compile_model(
                str(path),
                "CPU",
                {
                    "PERFORMANCE_HINT": "LATENCY",
                    "NUM_STREAMS": 1,
                    "INFERENCE_NUM_THREADS": spec.intra_op_threads,
                    "INFERENCE_PRECISION_HINT": "f32",  # or some CPUs silently compute in BF16
                    "ENABLE_CPU_PINNING": False,  # several instances would be pinned to the same core
                },
            )
        except RuntimeError as error:
            raise EngineError(str(error)) from error
        self.inputs = tuple(_describe(port) for port in self._model.inputs)
        self.outputs = tuple(_describe(port) for port in self._model.outputs)
        self._request = self._model.create_infer_request()

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Run the model once, on the inputs' own memory; the answers are views that the next run overwrites."""
        try:
            for name, array in inputs.items():
                self._request.set_tensor(name, ov.Tensor(np.ascontiguousarray(array), shared_memory=True))
            self._request.infer()
        except RuntimeError as error:
            raise EngineError(str(error)) from error
        return {name: self._request.get_tensor(name).data for name in outputs}


def _describe(port: ov.ConstOutput) -> TensorSpec:
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        raise EngineError(f"{port.get_any_name()} has no fixed number of dimensions")
    dims = tuple(-1 if dim.is_dynamic else dim.get_length() for dim in shape)
    return TensorSpec(port.get_any_name(), port.get_element_type().to_dtype().type, dims)
