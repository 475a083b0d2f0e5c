"""Runs ONNX models of any inputs and outputs on a CPU, for the backend beside it; never imports Triton."""

from wetread_onnx.batching import Tensors, execute
from wetread_onnx.engines import Engine, EngineError, InvalidInput, load_engine
from wetread_onnx.gentle import load_gently
from wetread_onnx.spec import ModelSpec, TensorSpec
from wetread_onnx.warm_up import warm_up

__all__ = [
    "Engine",
    "EngineError",
    "InvalidInput",
    "ModelSpec",
    "TensorSpec",
    "Tensors",
    "execute",
    "load_engine",
    "load_gently",
    "warm_up",
]
