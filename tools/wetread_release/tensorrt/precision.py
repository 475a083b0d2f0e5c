"""A model in the precision that a plan shall have: TensorRT is strongly typed, so it stands in the ONNX file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from wetread_release.errors import BadModel
from wetread_release.tensorrt.graph import input_shapes, named_nodes, read_model

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from wetread_release.tensorrt.profiles import AxisRange, InputShape

Precision = Literal["fp32", "fp16", "int8"]
_ROWS = 2


def precision_of(model: onnx.ModelProto) -> Precision:
    """Tell a file's precision: INT8 by its Q/DQ nodes, FP16 by its weights."""
    from onnx import TensorProto  # noqa: PLC0415 - heavy

    if any(named.node.op_type in ("QuantizeLinear", "DequantizeLinear") for named in named_nodes(model.graph)):
        return "int8"
    halves = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    constants = (attribute.t for named in named_nodes(model.graph) for attribute in named.node.attribute)
    tensors = (*model.graph.initializer, *constants)
    return "fp16" if any(tensor.data_type in halves for tensor in tensors) else "fp32"


def in_precision(path: Path, precision: Precision | None, folder: Path, axes: Mapping[str, AxisRange]) -> Path:
    """Give the file itself where it has the precision, else one made in `folder`.

    INT8 is calibrated on noise here: good for asking whether TensorRT takes the form, useless for reading films.

    Args:
        path: of the model.
        precision: None: as it is.
        folder: for the new file.
        axes: ranges of axes that may differ, for the noise.

    Raises:
        BadModel: an FP16 or INT8 file cannot be given another precision, or this one not that.
    """
    model = read_model(path)
    has = precision_of(model)
    if precision in (None, has):
        return path
    if has != "fp32":
        raise BadModel(f"{path} is {has} already and cannot be made {precision}: give the FP32 file")
    from wetread_models import quantise  # noqa: PLC0415 - heavy

    made = folder / f"{precision}.onnx"
    try:
        if precision == "fp16":
            quantise.fp16(path, made)
        else:
            form = quantise.Int8Options(calibration="minmax", float_share=0.0, correct_bias=False, probes=_ROWS)
            quantise.int8(path, made, _noise(input_shapes(model), axes), form)
    except quantise.QuantiseError as error:
        raise BadModel(str(error)) from error
    return made


def _noise(inputs: tuple[InputShape, ...], axes: Mapping[str, AxisRange]) -> dict[str, NDArray[np.float32]]:
    """Give rows of noise for every input."""
    import numpy as np  # noqa: PLC0415

    random = np.random.default_rng(0)
    shapes = {each.name: [_size(axis, axes) for axis in each.axes[1:]] for each in inputs}
    return {name: random.random((_ROWS, *shape), dtype=np.float32) for name, shape in shapes.items()}


def _size(axis: int | str, axes: Mapping[str, AxisRange]) -> int:
    if isinstance(axis, int):
        return axis
    return axes[axis].minimum if axis in axes else 1
