"""What an ONNX file says of itself: its tensors, checked against what a film pipeline can feed and read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wetread_release.errors import BadModel

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

OPEN = -1
_IMAGE_RANK = 4
_CHANNELS = (1, 3)
_LARGEST = 2**31 - 1
"""Bytes of a protobuf message."""


@dataclass(frozen=True)
class Tensor:
    """An input or output of the file."""

    name: str
    element: str
    """As ONNX names it: FLOAT, FLOAT16, UINT8, ..."""
    shape: tuple[int, ...]
    """With the batch; -1: open."""

    def __str__(self) -> str:
        dims = ", ".join("?" if dim == OPEN else str(dim) for dim in self.shape)
        return f"{self.name} {self.element} [{dims}]"


@dataclass(frozen=True)
class Image:
    """The film's place in a classifier."""

    name: str
    channels: int
    rows: int
    """-1: the file leaves it open."""
    columns: int
    layout: str
    """NCHW or NHWC."""
    batch: int
    """-1: open, as it must be in the end."""

    def shape(self, size: tuple[int, int]) -> tuple[int, ...]:
        """Give the shape of one film of `size`, without the batch."""
        return (self.channels, *size) if self.layout == "NCHW" else (*size, self.channels)


@dataclass(frozen=True)
class Loaded:
    """An ONNX file's content."""

    model: onnx.ModelProto
    """Whole."""
    is_one_file: bool
    """Its weights lie in it; else beside it."""


def load(path: Path) -> Loaded:
    """Read and check an ONNX file, with the weights that lie beside it (newer exporters of torch put them there).

    Raises:
        BadModel: it is none, its weights are missing, or too many for one file.
    """
    import onnx  # noqa: PLC0415 - heavy
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # noqa: PLC0415 - it has no stubs

    try:
        model = onnx.load(path, load_external_data=False)
        is_one_file = not any(each.data_location == onnx.TensorProto.EXTERNAL for each in model.graph.initializer)
        if not is_one_file:
            onnx.load_external_data_for_model(model, str(path.parent))
        if model.ByteSize() > _LARGEST:
            raise BadModel(f"{path} and its weights exceed 2 GB, more than one ONNX file holds: shrink the model")
        onnx.checker.check_model(model)
    except FileNotFoundError as error:
        raise BadModel(f"{error.filename or path} is not there") from error
    except (DecodeError, onnx.checker.ValidationError, OSError) as error:
        raise BadModel(f"{path} is no valid ONNX file: {error}") from error
    return Loaded(model, is_one_file)


def inputs(model: onnx.ModelProto) -> tuple[Tensor, ...]:
    """Give the inputs that a caller must fill: those without a value in the file."""
    given = {each.name for each in model.graph.initializer}
    return tuple(_tensor(value) for value in model.graph.input if value.name not in given)


def outputs(model: onnx.ModelProto) -> tuple[Tensor, ...]:
    """Give the outputs."""
    return tuple(map(_tensor, model.graph.output))


def image_of(tensors: tuple[Tensor, ...]) -> Image:
    """Find the film's input.

    Raises:
        BadModel: there are several inputs, or none that a gray film of 32-bit floats can fill; with the remedy.
    """
    if len(tensors) != 1:
        raise BadModel(
            f"the model has {len(tensors)} inputs ({listed(tensors)}); a film pipeline fills one: fix the others as "
            "constants when you export it"
        )
    (image,) = tensors
    if image.element != "FLOAT":
        raise BadModel(
            f"input {image.name} is {image.element}; films come as 32-bit floats: put a Cast behind the input "
            "(onnxruntime.transformers.float16 does it with keep_io_types=True)"
        )
    if len(image.shape) != _IMAGE_RANK:
        raise BadModel(f"input {image} is no image with batch, channels, rows and columns: export it with four axes")
    batch, *rest = image.shape
    if rest[0] in _CHANNELS:
        return Image(image.name, rest[0], rest[1], rest[2], "NCHW", batch)
    if rest[2] in _CHANNELS:
        return Image(image.name, rest[2], rest[0], rest[1], "NHWC", batch)
    raise BadModel(
        f"input {image} has neither 1 nor 3 channels, second or last, and a gray film fills no other: export it with "
        "the number of channels fixed"
    )


def scores_of(tensors: tuple[Tensor, ...], name: str, labels: int) -> Tensor:
    """Find the output with a score a label: the one that is named, or the only one of that shape.

    Raises:
        BadModel: none or several fit; the message lists what there is.
    """
    chosen = _named(tensors, name) if name else [each for each in tensors if len(each.shape) == 2]
    if len(chosen) > 1:
        chosen = [each for each in chosen if each.shape[1] == labels] or chosen
    if len(chosen) != 1:
        raise BadModel(
            f"which output holds the scores [batch, {labels}]? The model has {listed(tensors)}: name it with "
            "--scores-output"
        )
    (scores,) = chosen
    if len(scores.shape) != 2 or scores.shape[1] not in (labels, OPEN):
        raise BadModel(
            f"output {scores} does not hold one score for each of {labels} labels: give --labels as many as it has, in "
            "its order (classes that are no finding too: --background names them), or another --scores-output"
        )
    return _as_float(scores)


def extra_of(tensors: tuple[Tensor, ...], name: str, rank: int, what: str) -> Tensor | None:
    """Find an output beside the scores by its name; None: no name was given.

    Raises:
        BadModel: it is not there, or of another rank than `what` has.
    """
    if not name:
        return None
    found = _named(tensors, name)
    if not found or len(found[0].shape) != rank:
        raise BadModel(f"the model has no output {name} for {what} ({rank} axes); it has {listed(tensors)}")
    return _as_float(found[0])


def _as_float(tensor: Tensor) -> Tensor:
    if tensor.element != "FLOAT":
        raise BadModel(f"output {tensor.name} is {tensor.element}: put a Cast to 32-bit float before it")
    return tensor


def _named(tensors: tuple[Tensor, ...], name: str) -> list[Tensor]:
    return [each for each in tensors if each.name == name]


def listed(tensors: tuple[Tensor, ...]) -> str:
    """Give tensors for a message."""
    return "; ".join(map(str, tensors)) or "none"


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    import onnx  # noqa: PLC0415 - heavy

    kind = value.type.tensor_type
    dims = tuple(dim.dim_value if dim.HasField("dim_value") else OPEN for dim in kind.shape.dim)
    return Tensor(value.name, onnx.TensorProto.DataType.Name(kind.elem_type), dims)
