"""ONNX classifiers as other makers export them: small, seeded, each unlike the reference classifier in some way."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 8
IMAGENET = (np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32))


def foreign_classifier(
    *,
    classes: int = 3,
    side: int | str = 320,
    channels: int = 3,
    end: str = "Softmax",
    batch: int | str = "batch",
    seed: int = 0,
    normalise: tuple[str, Sequence[float]] | None = None,
    nhwc: bool = False,
    maps: bool = False,
    fixed_reshape: bool = False,
) -> onnx.ModelProto:
    """A convolution, a pool and a layer of random weights; `end`: the operator behind them, empty for none."""
    rng = np.random.default_rng(seed)
    weights = {
        "kernel": rng.normal(0, 0.2, (WIDTH, channels, 7, 7)),
        "kernel_bias": rng.normal(0, 0.1, WIDTH),
        "layer": rng.normal(0, 2, (WIDTH, classes)),
        "layer_bias": rng.normal(0, 0.2, classes),
    }
    nodes, image = [], "input"
    if normalise is not None:
        operator, constant = normalise
        weights["constant"] = np.asarray(constant, np.float32).reshape(1, -1, 1, 1)
        nodes.append(helper.make_node(operator, [image, "constant"], ["normal"], "normalise"))
        image = "normal"
    if nhwc:
        nodes.append(helper.make_node("Transpose", [image], ["channels_first"], "transpose", perm=[0, 3, 1, 2]))
        image = "channels_first"
    nodes += [
        helper.make_node("Conv", [image, "kernel", "kernel_bias"], ["convolved"], "conv", strides=[4, 4]),
        helper.make_node("Relu", ["convolved"], ["active"], "relu"),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"], "pool"),
    ]
    if fixed_reshape:
        weights["shape"] = np.array([1, WIDTH], np.int64)
        nodes.append(helper.make_node("Reshape", ["pooled", "shape"], ["flat"], "flatten"))
    else:
        nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"))
    nodes.append(helper.make_node("Gemm", ["flat", "layer", "layer_bias"], ["scores" if not end else "raw"], "layer"))
    if end:
        nodes.append(helper.make_node(end, ["raw"], ["scores"], "end"))
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, classes])]
    if maps:
        weights["map"] = rng.normal(0, 1, (classes, WIDTH, 1, 1))
        nodes += [
            helper.make_node("Conv", ["active", "map"], ["maps"], "maps"),
            helper.make_node("Identity", ["flat"], ["embedding"], "embedding"),
        ]
        outputs += [
            helper.make_tensor_value_info("maps", TensorProto.FLOAT, [batch, classes, None, None]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [batch, WIDTH]),
        ]
    shape = [batch, side, side, channels] if nhwc else [batch, channels, side, side]
    constants = [
        numpy_helper.from_array(value if value.dtype == np.int64 else value.astype(np.float32), name)
        for name, value in weights.items()
    ]
    image_info = helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "foreign", [image_info], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model
