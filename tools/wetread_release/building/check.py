"""Does an ONNX file fit a pipeline: tensors by name, type and shape, and answers that are numbers, film by film."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wetread_release.errors import BadModel
from wetread_release.new.onnx_file import OPEN, Tensor, inputs, load, outputs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from wetread_release.triton_config import ModelConfig, TensorConfig

    Answers = dict[str, npt.NDArray[np.generic]]

# ONNX's names of the types that Triton names otherwise.
_TRITON = {"FLOAT": "FP32", "FLOAT16": "FP16", "DOUBLE": "FP64"}
_ROWS = 3
_SAME = 1e-3
"""Of a film alone and among others, over the largest value: engines round differently, films do not mix."""


def check_model(path: Path, config: ModelConfig) -> None:
    """Check a file against the configuration of the part whose place it takes, then run it on noise.

    Raises:
        BadModel: naming tensor and remedy.
    """
    model = load(path).model
    _check_tensors(path, "input", config.inputs, inputs(model), exactly=True)
    _check_tensors(path, "output", config.outputs, outputs(model), exactly=False)
    _check_answers(path, config)


def _check_tensors(
    path: Path, kind: str, wanted: Sequence[TensorConfig], there: Sequence[Tensor], *, exactly: bool
) -> None:
    by_name = {tensor.name: tensor for tensor in there}
    listed = "; ".join(map(str, there)) or "none"
    for tensor in wanted:
        found = by_name.get(tensor.name)
        if found is None:
            raise BadModel(
                f"{path} has no {kind} {tensor.name}, which the pipeline wants; it has {listed}: rename it when you "
                "export, or make a pipeline of its own with `wetread release new`"
            )
        _check_tensor(path, kind, tensor, found)
    extra = sorted(by_name.keys() - {tensor.name for tensor in wanted})
    if exactly and extra:
        raise BadModel(f"{path} has an {kind} {', '.join(extra)} that the pipeline cannot fill: make it a constant")


def _check_tensor(path: Path, kind: str, wanted: TensorConfig, found: Tensor) -> None:
    element = _TRITON.get(found.element, found.element)
    if element != wanted.data_type:
        remedy = "fp16 keeps inputs and outputs in FP32 here (keep_io_types)" if element == "FP16" else "put a Cast"
        raise BadModel(f"{path}: {kind} {found.name} is {element}, the pipeline's is {wanted.data_type}: {remedy}")
    batch, *dims = found.shape or (0,)
    if batch != OPEN:
        raise BadModel(
            f"{path}: {kind} {found.name} has a batch of {batch}: export it with that axis open "
            f"(torch.onnx.export(..., dynamic_axes={{'{found.name}': {{0: 'batch'}}}}))"
        )
    fits = len(dims) == len(wanted.dims) and all(
        OPEN in (want, got) or want == got for want, got in zip(wanted.dims, dims, strict=True)
    )
    if not fits:
        raise BadModel(
            f"{path}: {kind} {found.name} has shape {dims} without the batch, the pipeline's is {list(wanted.dims)}: "
            "another shape is another pipeline (`wetread release new`)"
        )


def _check_answers(path: Path, config: ModelConfig) -> None:
    import onnxruntime  # noqa: PLC0415 - heavy
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # noqa: PLC0415

    random = np.random.default_rng(0)
    feeds = {
        tensor.name: random.uniform(-1, 1, (_ROWS, *(max(dim, 1) for dim in tensor.dims))).astype(np.float32)
        for tensor in config.inputs
    }
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is told below
    names = [tensor.name for tensor in config.outputs]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        together: Answers = dict(zip(names, session.run(names, feeds), strict=True))
        first: Answers = dict(
            zip(names, session.run(names, {name: rows[:1] for name, rows in feeds.items()}), strict=True)
        )
    except (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.NotImplemented,
        state.RuntimeException,
    ) as error:
        told = str(error).strip().splitlines()[0]
        raise BadModel(f"{path} does not run on {_ROWS} films of noise: {told}") from error
    for tensor in config.outputs:
        _check_answer(path, tensor, together[tensor.name], first[tensor.name])


def _check_answer(
    path: Path, wanted: TensorConfig, together: npt.NDArray[np.generic], alone: npt.NDArray[np.generic]
) -> None:
    name, shape = wanted.name, together.shape
    if len(shape) != len(wanted.dims) + 1 or shape[0] != _ROWS:
        raise BadModel(f"{path}: output {name} is {list(shape)} for {_ROWS} films, not one answer a film")
    if any(want not in (OPEN, got) for want, got in zip(wanted.dims, shape[1:], strict=True)):
        raise BadModel(f"{path}: output {name} is {list(shape[1:])} a film, the pipeline's is {list(wanted.dims)}")
    if not np.isfinite(together.astype(np.float64)).all():
        raise BadModel(
            f"{path}: output {name} is NaN or infinite on noise between -1 and 1: look for a division or logarithm "
            "of zero, or a value beyond 65504 in an FP16 file"
        )
    gap = np.abs(together[:1].astype(np.float64) - alone.astype(np.float64)).max(initial=0.0)
    if gap > _SAME * max(1.0, float(np.abs(alone.astype(np.float64)).max(initial=0.0))):
        raise BadModel(
            f"{path}: output {name} of a film depends on the films beside it: export the model for inference "
            "(model.eval())"
        )
