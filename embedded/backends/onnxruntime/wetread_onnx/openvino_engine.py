"""OpenVINO as an engine."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import openvino as ov

from wetread_onnx.compiled import compiled_folder
from wetread_onnx.engines import Array, EngineError
from wetread_onnx.spec import ModelSpec, TensorSpec

# Rows of one run, measured on EfficientNet-Lite0 (224x224, one core). A fixed batch takes 24 % less than a dynamic one
# at 1 row, 11 % at 2 and 4; and 8 rows as 4 + 4 take 11 % less than as 8, whose activations leave the cache.
RUN_ROWS = (4, 2, 1)


class OpenVinoEngine:
    """A model compiled by OpenVINO for latency: FP32 kept as it is, one stream.

    Where only the batch is open it is compiled for the row counts of RUN_ROWS, and a batch runs in such parts.
    """

    name = "openvino"

    def __init__(self, path: Path, spec: ModelSpec, cache: Path | None = None) -> None:
        core = ov.Core()
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": spec.intra_op_threads,
            "INFERENCE_PRECISION_HINT": "f32",  # or some CPUs silently compute in BF16
            "ENABLE_CPU_PINNING": False,  # or several instances are pinned to the same core
        }
        self._by_rows: dict[int, ov.InferRequest] = {}
        self._open: ov.InferRequest | None = None
        try:
            if cache is None:
                self._compile(core, path, spec, settings)
            else:
                with compiled_folder(cache / "openvino", path, ov.get_version(), settings) as folder:
                    self._compile(core, path, spec, settings | {"CACHE_DIR": str(folder)})
        except RuntimeError as error:
            raise EngineError(str(error)) from error

    def _compile(self, core: ov.Core, path: Path, spec: ModelSpec, settings: dict[str, object]) -> None:
        wanted = {tensor.name for tensor in (*spec.inputs, *spec.outputs)}
        model = core.read_model(str(path))
        self.inputs = tuple(_describe(port, wanted) for port in model.inputs)
        self.outputs = tuple(_describe(port, wanted) for port in model.outputs)
        if spec.max_batch_size > 0 and all(_only_batch_open(tensor) for tensor in self.inputs):
            for rows in RUN_ROWS:
                if rows <= spec.max_batch_size:
                    model.reshape({tensor.name: [rows, *tensor.dims[1:]] for tensor in self.inputs})
                    self._by_rows[rows] = core.compile_model(model, "CPU", settings).create_infer_request()
            if not all(self._has_fixed_outputs(request, rows) for rows, request in self._by_rows.items()):
                self._by_rows.clear()
                model = core.read_model(str(path))
        if not self._by_rows:
            self._open = core.compile_model(model, "CPU", settings).create_infer_request()

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Run the model once, on the inputs' own memory."""
        arrays = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        try:
            return self._run_in_parts(arrays, outputs) if self._by_rows else self._run_whole(arrays, outputs)
        except RuntimeError as error:
            raise EngineError(str(error)) from error

    def _run_whole(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        assert self._open is not None
        for name, array in inputs.items():
            self._open.set_tensor(name, ov.Tensor(array, shared_memory=True))
        self._open.infer()
        return {name: self._open.get_tensor(name).data.copy() for name in outputs}  # the next run overwrites it

    def _run_in_parts(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        total = len(next(iter(inputs.values())))
        answers: dict[str, Array] = {}
        for start, rows in parts(total, list(self._by_rows)):
            request = self._by_rows[rows]
            for name, array in inputs.items():
                request.set_tensor(name, ov.Tensor(array[start : start + rows], shared_memory=True))
            for tensor in self.outputs:  # wanted or not: one left alone would still write to its last answer's memory
                if tensor.name not in answers:
                    shape = request.get_tensor(tensor.name).shape
                    answers[tensor.name] = np.empty((total, *shape[1:]), tensor.dtype)
                answer = answers[tensor.name][start : start + rows]
                request.set_tensor(tensor.name, ov.Tensor(answer, shared_memory=True))
            request.infer()
        return {name: answers[name] for name in outputs}

    def _has_fixed_outputs(self, request: ov.InferRequest, rows: int) -> bool:
        shapes = [port.get_partial_shape() for port in request.model_outputs]
        return all(shape.is_static and len(shape) > 0 and shape[0].get_length() == rows for shape in shapes)


def parts(total: int, sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Cut `total` rows into parts of the given sizes (descending, the last one 1): (start, rows) of each."""
    start = 0
    for size in sizes:
        while total - start >= size:
            yield start, size
            start += size


def _only_batch_open(tensor: TensorSpec) -> bool:
    return len(tensor.dims) > 0 and tensor.dims[0] == -1 and -1 not in tensor.dims[1:] and tensor.dtype is not np.str_


def _describe(port: ov.Output, wanted: set[str]) -> TensorSpec:
    name = next(iter(port.get_names() & wanted), port.get_any_name())  # a folded node adds its name to the file's own
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        msg = f"{name} has no fixed number of dimensions"
        raise EngineError(msg)
    dims = tuple(-1 if dim.is_dynamic else dim.get_length() for dim in shape)
    return TensorSpec(name, port.get_element_type().to_dtype().type, dims)
