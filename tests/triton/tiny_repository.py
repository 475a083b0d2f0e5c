"""A repository of tiny pipelines that a test writes: one model each, in Python or in ONNX."""

import textwrap
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import onnx
import tritonclient.http
from onnx import TensorProto, helper
from wetread_embedded import EmbeddedTriton, ServerConfig

ECHO = """
    from __future__ import annotations

    import os
    import time

    import triton_python_backend_utils as pb_utils


    class TritonPythonModel:
        # Answers X after X[0] seconds; a negative X ends the process.

        def execute(self, requests):
            answers = []
            for request in requests:
                x = request.inputs()[0].as_numpy()
                if x.flat[0] < 0:
                    os._exit(1)
                time.sleep(float(x.flat[0]))
                answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("Y", x)]))
            return answers
"""


class TinyRepository:
    """Writes pipelines `<name>` of one model `<name>_model` with input X and output Y."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "model_repository").mkdir(parents=True)
        (root / "ensembles").mkdir()

    def config(self, **settings: object) -> ServerConfig:
        return ServerConfig.on_free_ports(**{"root": self.root, "exit_timeout_s": 1.0, **settings})

    def add_python(self, name: str, code: str = ECHO, instances: int = 1) -> None:
        """Add a pipeline whose model is the Python `code`."""
        backend = self.root / f"{name}_backend"
        backend.mkdir()
        (backend / "model.py").write_text(textwrap.dedent(code))
        self._add(name, f"wetread_{name}", dims="1", instances=instances)

    def add_scale(
        self, name: str, dims: str = "-1", instances: int = 1, more: str = "", *, rank: int = 0, delay_us: int = 0
    ) -> None:
        """Add a pipeline whose model is an ONNX file: Y = 2 X, any shape behind the batch.

        `rank`: of the model, where it is not that of `dims`. `delay_us`: what the batcher waits for more requests.
        """
        shape = ["batch", *(f"d{i}" for i in range(1, rank or len(dims.split(",")) + 1))]
        version = self._add(name, "onnxruntime", dims, instances, more, delay_us)
        onnx.save(scale_model(shape), version / "model.onnx")

    def _add(self, name: str, backend: str, dims: str, instances: int, more: str = "", delay_us: int = 0) -> Path:
        model = self.root / "model_repository" / f"{name}_model"
        version = model / "1"
        version.mkdir(parents=True)
        tensors = (
            f"max_batch_size: 8 input [ {{ name: 'X' data_type: TYPE_FP32 dims: [ {dims} ] }} ] "
            f"output [ {{ name: 'Y' data_type: TYPE_FP32 dims: [ {dims} ] }} ]"
        )
        (model / "config.pbtxt").write_text(
            f"name: '{name}_model' backend: '{backend}' {tensors} "
            f"dynamic_batching {{ max_queue_delay_microseconds: {delay_us} }} "
            f"instance_group [ {{ kind: KIND_CPU count: {instances} }} ] {more}"
        )
        ensemble = self.root / "ensembles" / name
        (ensemble / "1").mkdir(parents=True)
        (ensemble / "config.pbtxt").write_text(
            f"name: '{name}' platform: 'ensemble' {tensors} ensemble_scheduling {{ step [ {{ "
            f"model_name: '{name}_model' model_version: 1 "
            "input_map { key: 'X' value: 'X' } output_map { key: 'Y' value: 'Y' } } ] }"
        )
        return version


def scale_model(shape: list[int | str], element: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """Return a model Y = X + X with tensors of `shape`, names standing for open dimensions."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["X", "X"], ["Y"])],
        "scale",
        [helper.make_tensor_value_info("X", element, shape)],
        [helper.make_tensor_value_info("Y", element, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model


def infer(server: EmbeddedTriton, pipeline: str, x: np.ndarray) -> np.ndarray:
    """Ask over HTTP with a connection of its own; raises tritonclient's exception."""
    client = tritonclient.http.InferenceServerClient(urlsplit(server.http_url).netloc, network_timeout=60.0)
    try:
        tensor = tritonclient.http.InferInput("X", list(x.shape), "FP32")
        tensor.set_data_from_numpy(x)
        return client.infer(pipeline, [tensor]).as_numpy("Y")
    finally:
        client.close()


def seconds(value: float) -> np.ndarray:
    """The input that keeps ECHO busy for that long."""
    return np.full((1, 1), value, np.float32)
