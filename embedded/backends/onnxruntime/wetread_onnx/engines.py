"""Two engines for the same model.onnx behind one protocol: OpenVINO and ONNX Runtime."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from wetread_onnx.spec import ModelSpec, TensorSpec

Array = npt.NDArray[np.generic]
log = logging.getLogger(__name__)


class EngineError(Exception):
    """A model cannot be loaded, or failed to run."""


class InvalidInput(EngineError):
    """A request's tensors do not fit the model."""


class Engine(Protocol):
    """A loaded model. Not for several threads at once: each instance of a model loads its own."""

    name: str
    inputs: tuple[TensorSpec, ...]
    """The file's inputs, the batch included, -1 for what may differ."""
    outputs: tuple[TensorSpec, ...]

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Run the model once; the answers belong to the caller."""
        ...


def load_engine(path: Path, spec: ModelSpec, cache: Path | None = None) -> Engine:
    """Load the model in file `path`: with OpenVINO, where that cannot, with ONNX Runtime; `spec.engine` may say which.

    Raises:
        EngineError: no engine can load it, or it does not have the configuration's inputs and outputs.
    """
    if not path.is_file():
        msg = f"{path.name} is missing"
        raise EngineError(msg)
    engine = _load(path, spec, cache)
    check_names(spec, engine)
    return engine


def _load(path: Path, spec: ModelSpec, cache: Path | None) -> Engine:
    has_strings = any(tensor.dtype is np.object_ for tensor in (*spec.inputs, *spec.outputs))
    if spec.engine == "openvino" or (spec.engine == "auto" and not has_strings):
        try:
            from wetread_onnx.openvino_engine import OpenVinoEngine  # noqa: PLC0415 - an import is half of a start

            return OpenVinoEngine(path, spec, cache)
        except (ImportError, EngineError) as error:
            if spec.engine == "openvino":
                msg = f"OpenVINO: {error}"
                raise EngineError(msg) from error
            log.warning("%s: OpenVINO cannot run it (%s): ONNX Runtime does", spec.name, str(error).splitlines()[0])
    from wetread_onnx.onnxruntime_engine import OnnxRuntimeEngine  # noqa: PLC0415 - as above

    return OnnxRuntimeEngine(path, spec)


def check_names(spec: ModelSpec, engine: Engine) -> None:
    """Check that the configuration's tensors are the file's."""
    for kind, wanted, there in (("input", spec.inputs, engine.inputs), ("output", spec.outputs, engine.outputs)):
        by_name = {tensor.name: tensor for tensor in there}
        for tensor in wanted:
            if tensor.name not in by_name:
                msg = f"the model has no {kind} {tensor.name}, only {', '.join(by_name)}"
                raise EngineError(msg)
            if by_name[tensor.name].dtype != tensor.dtype:
                msg = f"{kind} {tensor.name} is {by_name[tensor.name].dtype.__name__}, not {tensor.dtype.__name__}"
                raise EngineError(msg)
    missing = {tensor.name for tensor in engine.inputs} - {tensor.name for tensor in spec.inputs}
    if missing:
        msg = f"config.pbtxt lacks the model's input {', '.join(sorted(missing))}"
        raise EngineError(msg)
