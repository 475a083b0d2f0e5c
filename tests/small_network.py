"""A small convolutional network with random weights, for tests of what is done to networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from pathlib import Path

SIDE = 16


def small_network(
    path: Path, *, opset: int = 17, normalised: bool = False, named: bool = True, side: int = SIDE
) -> Path:
    """IMAGE [batch,1,side,side] through four convolutions, one of them depthwise, to LOGITS [batch,1]."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.normal(0, 0.5, (8, 1, 3, 3)),
        "w2": rng.normal(0, 0.5, (8, 1, 3, 3)),
        "w3": rng.normal(0, 0.4, (8, 8, 1, 1)),
        "w4": rng.normal(0, 0.4, (1, 8, 1, 1)),
        "b1": rng.normal(0, 0.1, 8),
        "b2": rng.normal(0, 0.1, 8),
    }
    nodes = [
        helper.make_node("Conv", ["IMAGE", "w1", "b1"], ["c1"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "depthwise", pads=[1, 1, 1, 1], group=8),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("Conv", ["r2", "w3"], ["c3"], "project"),
        helper.make_node("Add", ["c3", "r1"], ["sum"], "shortcut"),
        helper.make_node("Conv", ["sum", "w4"], ["c4"], "head"),
        helper.make_node("GlobalAveragePool", ["c4"], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["LOGITS"], "flatten"),
    ]
    if normalised:
        for name, value in (("scale", 1.5), ("shift", 0.1), ("mean", 0.2), ("variance", 0.7)):
            weights[name] = np.full(8, value)
        nodes[0].output[0] = "raw"
        inputs = ["raw", "scale", "shift", "mean", "variance"]
        nodes.insert(1, helper.make_node("BatchNormalization", inputs, ["c1"], "norm"))
    if not named:
        for node in nodes:
            node.name = ""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("IMAGE", TensorProto.FLOAT, ["batch", 1, side, side])],
        [helper.make_tensor_value_info("LOGITS", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def images(rows: int = 64, seed: int = 1, side: int = SIDE) -> np.ndarray:
    """Smooth pictures, [rows,1,side,side]."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(-1, 1, (rows, 1, side // 4, side // 4))
    return np.kron(coarse, np.ones((1, 1, 4, 4))).astype(np.float32)
