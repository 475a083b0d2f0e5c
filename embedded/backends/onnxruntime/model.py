"""Stands in for Triton's C++ onnxruntime backend: same config.pbtxt, same model.onnx."""

from __future__ import annotations  # pb_utils is filled only after this module is imported

import os
from pathlib import Path

import triton_python_backend_utils as pb_utils
from wetread_onnx import (
    Engine,
    EngineError,
    InvalidInput,
    ModelSpec,
    Tensors,
    execute,
    load_engine,
    load_gently,
    warm_up,
)


class TritonPythonModel:
    """One instance of one model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the version's model file."""
        self.spec = ModelSpec.from_json(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        cache = os.environ.get("WETREAD_MODEL_CACHE")
        path = folder / self.spec.model_filename
        cache_folder = Path(cache) if cache else None

        def load() -> Engine:
            engine = load_engine(path, self.spec, cache_folder)
            # Triton 2.51 may crash, with all models, when a warm-up of its own fails; a load that fails is harmless.
            warm_up(engine, args["model_config"])
            return engine

        self.engine = load_gently(folder, load)

    def execute(self, requests: list[pb_utils.InferenceRequest]) -> list[pb_utils.InferenceResponse]:
        """Answer all requests with one run where their shapes allow it."""
        inputs = [{tensor.name(): tensor.as_numpy() for tensor in request.inputs()} for request in requests]
        wanted = [list(request.requested_output_names()) for request in requests]
        return [respond(answer) for answer in execute(self.engine, self.spec, inputs, wanted)]


def respond(answer: Tensors | EngineError) -> pb_utils.InferenceResponse:
    """Turn one answer or error into Triton's."""
    if isinstance(answer, EngineError):
        code = pb_utils.TritonError.INVALID_ARG if isinstance(answer, InvalidInput) else pb_utils.TritonError.INTERNAL
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(answer), code))
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in answer.items()])
