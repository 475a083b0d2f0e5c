"""Stand-ins for models of series, written as ONNX without a training framework: UNTRAINED, for tests and benchmarks.

random_classifier    a 3D ResNet of the shape that real ones have; its weights are drawn, its answers mean nothing
level_segmenter      a voxel belongs to the class whose level its smoothed value is nearest to
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Sequence

OPSET, IR = 18, 9
UNTRAINED = "untrained"
"""Key of the file's metadata: `true` in all that is made here."""
_SIDES = ("a", "b", "c")
_WIDTHS = (1, 2, 4)
"""Of the stages, in multiples of the first's; each halves the volume."""


def random_classifier(
    labels: int = 1, *, width: int = 8, seed: int = 0, mask: bool = False, features: bool = False
) -> onnx.ModelProto:
    """Give a 3D ResNet with drawn weights: VOLUME [batch, 1, a, b, c] to LOGITS [batch, labels], 57,000 weights.

    Args:
        labels: K.
        width: channels of the first stage.
        seed: of the weights.
        mask: it has the input MASK, UINT8 [batch, 1, a, b, c]; what it covers with 0 counts for nothing.
        features: it also gives FEATURES [batch, 4 * width].
    """
    graph = _Graph(seed)
    value = graph.entry("VOLUME", mask)
    value = graph.relu(graph.convolution(value, 1, width, side=5, stride=2))
    before = width
    for multiple in _WIDTHS:
        value = graph.residual(value, before, width * multiple)
        before = width * multiple
    pooled = graph.node("ReduceMean", [value, graph.constant(np.array([2, 3, 4], np.int64))], "FEATURES", keepdims=0)
    weights = graph.drawn((labels, before), before)
    graph.node("Gemm", [pooled, weights, graph.constant(np.zeros(labels, np.float32))], "LOGITS", transB=1)
    outputs = [_tensor("LOGITS", ["batch", labels])]
    if features:
        outputs.append(_tensor("FEATURES", ["batch", before]))
    return graph.model("untrained 3D ResNet", _inputs("VOLUME", mask), outputs)


def level_segmenter(
    levels: Sequence[float] = (0.0, 0.5, 1.0),
    *,
    names: tuple[str, str] = ("VOLUME", "LOGITS"),
    smooth: bool = True,
    mask: bool = False,
) -> onnx.ModelProto:
    """Give a segmenter that tells classes by their level: [batch, 1, a, b, c] to scores [batch, S, a, b, c].

    Args:
        levels: of each class, the background's first; S is their number.
        names: of input and output.
        smooth: the mean of 3 x 3 x 3 voxels decides, zeros beyond the border.
        mask: it has the input MASK, UINT8; where that is 0 the value counts as 0.
    """
    graph = _Graph(0)
    volume, logits = names
    value = graph.entry(volume, mask)
    if smooth:
        box = graph.constant(np.full((1, 1, 3, 3, 3), 1 / 27, np.float32))
        value = graph.node("Conv", [value, box], pads=[1] * 6)
    at = np.array(levels, np.float32)
    weights = graph.constant(at.reshape(-1, 1, 1, 1, 1))  # nearest level: the largest of level * value - level^2 / 2
    graph.node("Conv", [value, weights, graph.constant(-at * at / 2)], logits)
    return graph.model("level segmenter", _inputs(volume, mask), [_tensor(logits, ["batch", len(levels), *_SIDES])])


class _Graph:
    """Nodes and weights as they are added."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def entry(self, volume: str, mask: bool) -> str:
        """Give the volume, times MASK where there is one."""
        if not mask:
            return volume
        return self.node("Mul", [volume, self.node("Cast", ["MASK"], to=TensorProto.FLOAT)])

    def residual(self, value: str, before: int, after: int) -> str:
        """Two convolutions beside a shortcut; the volume is halved."""
        inner = self.relu(self.convolution(value, before, after, side=3, stride=2))
        inner = self.convolution(inner, after, after, side=3, stride=1)
        shortcut = self.convolution(value, before, after, side=1, stride=2)
        return self.relu(self.node("Add", [inner, shortcut]))

    def convolution(self, value: str, before: int, after: int, *, side: int, stride: int) -> str:
        weights = self.drawn((after, before, side, side, side), before * side**3)
        return self.node("Conv", [value, weights], strides=[stride] * 3, pads=[side // 2] * 6)

    def relu(self, value: str) -> str:
        return self.node("Relu", [value])

    def drawn(self, shape: tuple[int, ...], fan_in: int) -> str:
        """Draw weights that keep the variance (He et al. 2015)."""
        return self.constant(self._random.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32))

    def constant(self, values: npt.NDArray[Any]) -> str:
        name = f"weights{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(values, name))
        return name

    def node(self, operator: str, inputs: list[str], output: str = "", **attributes: object) -> str:
        name = output or f"value{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def model(
        self, name: str, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
    ) -> onnx.ModelProto:
        graph = helper.make_graph(self._nodes, name, inputs, outputs, self._weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR
        helper.set_model_props(model, {UNTRAINED: "true"})
        onnx.checker.check_model(model)
        return model


def _inputs(volume: str, mask: bool) -> list[onnx.ValueInfoProto]:
    shape: list[str | int] = ["batch", 1, *_SIDES]
    masks = [helper.make_tensor_value_info("MASK", TensorProto.UINT8, shape)] if mask else []
    return [_tensor(volume, shape), *masks]


def _tensor(name: str, shape: Sequence[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
