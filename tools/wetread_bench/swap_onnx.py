"""Edits of a classifier's ONNX file: other answers, other shapes, and faults that show only when it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

LOGITS, IMAGE = "LOGITS", "IMAGE"
_BEYOND = 100
"""Behind the end of a table of one entry, whatever the batch."""


def shift_logits(path: Path, shift: float) -> None:
    """Add a constant to LOGITS."""
    import onnx  # noqa: PLC0415 - heavy

    model = onnx.load(path)
    _put_constant(model, "shift", np.array([shift], np.float32))
    _put_behind_logits(model, [onnx.helper.make_node("Add", ["unshifted", "shift"], [LOGITS])], "unshifted")
    onnx.save(model, path)


def resize_input(path: Path, side: int) -> None:
    """Let a fully convolutional model take square images of another side; sizes inside are worked out anew."""
    import onnx  # noqa: PLC0415 - heavy

    model = onnx.load(path)
    image = next(tensor for tensor in model.graph.input if tensor.name == IMAGE)
    for dim in image.type.tensor_type.shape.dim[2:]:
        dim.dim_value = side
    del model.graph.value_info[:]
    for tensor in model.graph.output:
        for dim in tensor.type.tensor_type.shape.dim[2:]:
            dim.ClearField("value")
    onnx.save(onnx.shape_inference.infer_shapes(model), path)


def double_logits(path: Path) -> None:
    """Give every score twice: [K] becomes [2K]."""
    import onnx  # noqa: PLC0415 - heavy

    model = onnx.load(path)
    twice = onnx.helper.make_node("Concat", ["single", "single"], [LOGITS], axis=1)
    _put_behind_logits(model, [twice], "single")
    logits = next(tensor for tensor in model.graph.output if tensor.name == LOGITS)
    logits.type.tensor_type.shape.dim[1].dim_value *= 2
    onnx.save(model, path)


def fail_when_run(path: Path) -> None:
    """Look an entry up that is not there: the file loads, and no run of it succeeds (ONNX Runtime checks the index)."""
    import onnx  # noqa: PLC0415 - heavy

    model = onnx.load(path)
    _put_constant(model, "table", np.zeros(1, np.float32))
    _put_constant(model, "beyond", np.array([_BEYOND], np.int64))
    make = onnx.helper.make_node
    nodes = [
        make("Shape", [IMAGE], ["rows"], start=0, end=1),
        make("Add", ["rows", "beyond"], ["index"]),
        make("Gather", ["table", "index"], ["entry"]),
        make("Add", ["unlooked", "entry"], [LOGITS]),
    ]
    _put_behind_logits(model, nodes, "unlooked")
    onnx.save(model, path)


def _put_constant(model: Any, name: str, value: np.ndarray[Any, Any]) -> None:
    import onnx  # noqa: PLC0415 - heavy

    model.graph.initializer.append(onnx.numpy_helper.from_array(value, _own(name)))


def _put_behind_logits(model: Any, nodes: list[Any], former: str) -> None:
    """Let the node that made LOGITS make `former` instead, and `nodes` make LOGITS of it."""
    for node in nodes:
        node.input[:] = [name if name == IMAGE else _own(name) for name in node.input]
        node.output[:] = [name if name == LOGITS else _own(name) for name in node.output]
        node.name = _own(f"{node.op_type}_{node.output[0]}")
    for node in model.graph.node:
        node.output[:] = [_own(former) if name == LOGITS else name for name in node.output]
        node.input[:] = [_own(former) if name == LOGITS else name for name in node.input]
    model.graph.node.extend(nodes)


def _own(name: str) -> str:
    """Keep the names of what is added apart from the model's."""
    return f"swap_bench/{name}"
