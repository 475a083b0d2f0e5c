"""The configuration of a network as ONNX Runtime serves it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from wetread_release.film_pipeline import ONE_THREAD

if TYPE_CHECKING:
    from wetread_release.triton_config import ModelConfig


def onnx_config(config: ModelConfig) -> ModelConfig:
    """Give the configuration of a network as ONNX Runtime serves it, whatever served it before."""
    was_plan = not config.backend
    return replace(
        config,
        backend="onnxruntime",
        platform="",
        model_file="",
        kind="CPU",
        preferred_batches=() if was_plan else config.preferred_batches,
        gpu_accelerators=(),
        cpu_accelerators=(),
        parameters=ONE_THREAD if was_plan else with_engine(config.parameters, ""),
        comment="The same file serves Triton's own onnxruntime backend and the embedded stand-in. Generated.",
    )


def with_engine(parameters: tuple[tuple[str, str], ...], engine: str) -> tuple[tuple[str, str], ...]:
    """Give the parameters with the embedded server's engine; empty: it chooses."""
    others = tuple(each for each in parameters if each[0] != "engine")
    return (*others, ("engine", engine)) if engine else others
