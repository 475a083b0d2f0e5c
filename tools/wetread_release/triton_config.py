"""Triton's config.pbtxt as frozen dataclasses, and their text.

The fields are those of `inference.ModelConfig` (triton-inference-server/common, protobuf/model_config.proto) that
Wetread uses; a test parses every text made here against that message.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

DataType = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "STRING"
]


@dataclass(frozen=True)
class TensorConfig:
    """An input or output; the batch is not among the dims of a model that batches. -1: may differ."""

    name: str
    data_type: DataType
    dims: tuple[int, ...]
    ragged: bool = False
    """Requests of different lengths may share an execution (inputs of python-based backends)."""


@dataclass(frozen=True)
class Accelerator:
    """One execution accelerator of Triton's onnxruntime backend: tensorrt, cuda, openvino."""

    name: str
    parameters: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Warmup:
    """One request that must succeed before a version is ready: random values, so many rows."""

    name: str
    batch_size: int = 1
    open_side: int = 1
    """What a dimension that may differ is."""


@dataclass(frozen=True)
class Step:
    """One step of an ensemble: its tensors by the wires they hang on, (tensor, wire) each."""

    model_name: str
    model_version: int
    input_map: tuple[tuple[str, str], ...]
    output_map: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ModelConfig:
    """One config.pbtxt. All versions of a model share it; only `versions` changes while it is served."""

    name: str
    inputs: tuple[TensorConfig, ...]
    outputs: tuple[TensorConfig, ...]
    backend: str = ""
    platform: str = ""
    """`ensemble` or `tensorrt_plan`, where no backend is named."""
    max_batch_size: int = 8
    versions: tuple[int, ...] = ()
    """The versions that are served; empty: the policy is left out, which Triton reads as the latest one."""
    model_file: str = ""
    """Of a version folder, where it is not the backend's own name for it."""
    instances: int = 0
    """Instances of the model; 0: an ensemble, which has none."""
    kind: Literal["CPU", "GPU", "AUTO"] = "CPU"
    """Where the instances run; AUTO: on a GPU where the server has one, on the CPU otherwise."""
    dynamic_batching: bool = True
    preferred_batches: tuple[int, ...] = ()
    queue_delay_us: int = 0
    gpu_accelerators: tuple[Accelerator, ...] = ()
    cpu_accelerators: tuple[Accelerator, ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()
    warmup: Warmup | None = None
    steps: tuple[Step, ...] = ()
    comment: str = ""
    """First line of the file, for whoever opens it."""

    def text(self) -> str:
        """Give the file's content."""
        return "\n".join(_lines(self)) + "\n"

    @property
    def digest(self) -> str:
        """SHA-256 of all that versions of one model must share: everything but the version policy and the comment."""
        return hashlib.sha256(replace(self, versions=(), comment="").text().encode()).hexdigest()


def _lines(config: ModelConfig) -> Iterator[str]:
    if config.comment:
        yield f"# {config.comment}"
    yield f"name: {_quoted(config.name)}"
    for field, value in (
        ("backend", config.backend),
        ("platform", config.platform),
        ("default_model_filename", config.model_file),
    ):
        if value:
            yield f"{field}: {_quoted(value)}"
    yield f"max_batch_size: {config.max_batch_size}"
    for field, tensors in (("input", config.inputs), ("output", config.outputs)):
        yield f"{field} ["
        yield ",\n".join(f"  {_tensor(tensor)}" for tensor in tensors)
        yield "]"
    if config.instances:
        yield f"instance_group [ {{ kind: KIND_{config.kind} count: {config.instances} }} ]"
    if config.dynamic_batching and not config.steps:
        yield f"dynamic_batching {{ {_batching(config)}}}"
    yield from _accelerators(config)
    for key, value in config.parameters:
        yield f"parameters {{ key: {_quoted(key)} value: {{ string_value: {_quoted(value)} }} }}"
    yield from _warmup(config)
    if config.versions:
        yield f"version_policy {{ specific {{ versions: [ {', '.join(map(str, config.versions))} ] }} }}"
    yield from _steps(config.steps)


def _accelerators(config: ModelConfig) -> Iterator[str]:
    if config.gpu_accelerators or config.cpu_accelerators:
        yield "optimization { execution_accelerators {"
        yield from (f"  gpu_execution_accelerator [ {_accelerator(each)} ]" for each in config.gpu_accelerators)
        yield from (f"  cpu_execution_accelerator [ {_accelerator(each)} ]" for each in config.cpu_accelerators)
        yield "} }"


def _tensor(tensor: TensorConfig) -> str:
    dims = ", ".join(map(str, tensor.dims))
    ragged = " allow_ragged_batch: true" if tensor.ragged else ""
    return f"{{ name: {_quoted(tensor.name)} data_type: TYPE_{tensor.data_type} dims: [ {dims} ]{ragged} }}"


def _batching(config: ModelConfig) -> str:
    preferred = f"preferred_batch_size: [ {', '.join(map(str, config.preferred_batches))} ] "
    delay = f"max_queue_delay_microseconds: {config.queue_delay_us} "
    return (preferred if config.preferred_batches else "") + (delay if config.queue_delay_us else "")


def _accelerator(accelerator: Accelerator) -> str:
    parameters = "".join(
        f" parameters {{ key: {_quoted(key)} value: {_quoted(value)} }}" for key, value in accelerator.parameters
    )
    return f"{{ name: {_quoted(accelerator.name)}{parameters} }}"


def _warmup(config: ModelConfig) -> Iterator[str]:
    if config.warmup is None:
        return
    yield f"model_warmup [ {{ name: {_quoted(config.warmup.name)} batch_size: {config.warmup.batch_size}"
    for tensor in config.inputs:
        dims = ", ".join(str(config.warmup.open_side if dim < 0 else dim) for dim in tensor.dims)
        value = f"data_type: TYPE_{tensor.data_type} dims: [ {dims} ] random_data: true"
        yield f"  inputs {{ key: {_quoted(tensor.name)} value: {{ {value} }} }}"
    yield "} ]"


def _steps(steps: tuple[Step, ...]) -> Iterator[str]:
    if not steps:
        return
    yield "ensemble_scheduling {"
    yield "  step ["
    blocks = []
    for step in steps:
        lines = ["    {", f"      model_name: {_quoted(step.model_name)}", f"      model_version: {step.model_version}"]
        for field, wires in (("input_map", step.input_map), ("output_map", step.output_map)):
            lines += [f"      {field} {{ key: {_quoted(t)} value: {_quoted(wire)} }}" for t, wire in wires]
        blocks.append("\n".join([*lines, "    }"]))
    yield ",\n".join(blocks)
    yield "  ]"
    yield "}"


def _quoted(text: str) -> str:
    """Quote for protobuf's text format; JSON's escapes of ASCII are among its own."""
    return json.dumps(text)
