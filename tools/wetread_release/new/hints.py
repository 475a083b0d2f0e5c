"""What a graph tells of the values it was trained on: its first arithmetic, its last operator, its metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    import onnx

Scores = Literal["logits", "class_logits", "probabilities"]
Values = Literal["levels", "unit", "symmetric", "imagenet"]
"""What the classifier wants for black to white: 0..255, 0..1, -1..1, 0..1 less ImageNet's mean over its deviation."""

_NOMINAL_RANGE: Mapping[str, Values] = {
    "NominalRange_0_255": "levels",
    "Normalized_0_1": "unit",
    "Normalized_1_1": "symmetric",
}
"""`Image.NominalPixelRange` of ONNX's own image metadata (onnx/docs/MetadataProps.md)."""
_LARGEST_UNIT = 1.5
"""A constant above it cannot be the mean or deviation of values in 0..1."""
_PASSED = ("Identity", "Cast", "Transpose")
_ENDS: Mapping[str, Scores] = {"Softmax": "probabilities", "Sigmoid": "probabilities"}


def values_hint(model: onnx.ModelProto, image: str) -> Values | None:
    """Give the range that the model's own normalisation, or its metadata, speaks of; None: it says nothing."""
    for entry in model.metadata_props:
        if entry.key == "Image.NominalPixelRange" and entry.value in _NOMINAL_RANGE:
            return _NOMINAL_RANGE[entry.value]
    constants = _constants(model.graph)
    name = image
    while (node := _reader(model.graph, name)) is not None and node.op_type in _PASSED:
        name = node.output[0]
    if node is None or node.op_type not in ("Sub", "Add", "Div", "Mul"):
        return None
    numbers = [constants[each] for each in node.input if each in constants and constants[each].size]
    if len(numbers) != 1:
        return None
    largest = float(np.abs(numbers[0]).max())
    if node.op_type == "Mul":
        return "levels" if largest < 1 / _LARGEST_UNIT / 10 else None
    return "levels" if largest > _LARGEST_UNIT else "unit" if node.op_type == "Sub" else None


def scores_hint(model: onnx.ModelProto, scores: str) -> Scores | None:
    """Give what the operator behind the output `scores` makes of it: after a softmax or sigmoid, probabilities."""
    makers = {output: node for node in model.graph.node for output in node.output}
    node = makers.get(scores)
    while node is not None and node.op_type in (*_PASSED, "Flatten", "Reshape", "Squeeze"):
        node = makers.get(node.input[0])
    return None if node is None else _ENDS.get(node.op_type)


def _reader(graph: onnx.GraphProto, name: str) -> onnx.NodeProto | None:
    """Give the only node that reads a tensor; None where several do, or none."""
    readers = [node for node in graph.node if name in node.input]
    return readers[0] if len(readers) == 1 else None


def _constants(graph: onnx.GraphProto) -> dict[str, npt.NDArray[np.generic]]:
    """Give the small constants of a graph by name: a normalisation has a number a channel."""
    from onnx import numpy_helper  # noqa: PLC0415 - heavy

    found = {each.name: numpy_helper.to_array(each) for each in graph.initializer if np.prod(each.dims) <= 4}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return {name: array for name, array in found.items() if array.size <= 4}
