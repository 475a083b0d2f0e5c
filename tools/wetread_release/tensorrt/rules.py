"""What can be known from the ONNX file alone, with no TensorRT: a list of rules, and only that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wetread_release.tensorrt.graph import OWN_DOMAINS, input_shapes, named_nodes
from wetread_release.tensorrt.loop_rules import loop_refusals
from wetread_release.tensorrt.operator_rules import operator_refusals
from wetread_release.tensorrt.profiles import AxisRange, batch_axes
from wetread_release.tensorrt.quantise_rules import quantise_refusals
from wetread_release.tensorrt.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

OLDEST_OPSET, NEWEST_OPSET = 9, 24  # what onnx-tensorrt's operators.md promises for TensorRT 10 and 11
GOOD_OPSET = 17


def rule_refusals(model: onnx.ModelProto, batch: AxisRange) -> tuple[Refusal, ...]:
    """Give all that the rules refuse.

    Args:
        model: a checked one.
        batch: rows that a request may have, which the first axis must allow.
    """
    weights = _constants(model.graph)
    refusals = [*_opset(model), *_tensors(model), *_batch(model, batch)]
    for named in named_nodes(model.graph):
        refusals += operator_refusals(named, weights)
        refusals += quantise_refusals(named, weights)
        refusals += loop_refusals(named, weights)
        refusals += _doubles(named.node, named.name)
    return tuple(refusals)


def _opset(model: onnx.ModelProto) -> Iterator[Refusal]:
    version = next((each.version for each in model.opset_import if each.domain in OWN_DOMAINS), 0)
    if not OLDEST_OPSET <= version <= NEWEST_OPSET:
        why = f"opset {version} is outside {OLDEST_OPSET}-{NEWEST_OPSET}, of which TensorRT's parser knows the meaning"
        remedy = f"Export with opset_version={GOOD_OPSET}, or convert the file with onnx.version_converter."
        yield Refusal("file", "opset", why, remedy)


def _tensors(model: onnx.ModelProto) -> Iterator[Refusal]:
    """Refuse types of inputs, outputs and weights that TensorRT has not."""
    from onnx import TensorProto  # noqa: PLC0415 - heavy

    weights = {weight.name for weight in model.graph.initializer}
    typed = [
        *(
            ("input", each.name, each.type.tensor_type.elem_type)
            for each in model.graph.input
            if each.name not in weights
        ),
        *(("output", each.name, each.type.tensor_type.elem_type) for each in model.graph.output),
        *(("weight", each.name, each.data_type) for each in model.graph.initializer),
    ]
    for what, name, kind in typed:
        remedy = _type_remedy(kind)
        if remedy:
            yield Refusal(name, what, f"it is {TensorProto.DataType.Name(kind)}, a type that {remedy[0]}", remedy[1])


def _type_remedy(kind: int) -> tuple[str, str] | None:
    from onnx import TensorProto  # noqa: PLC0415 - heavy

    if kind == TensorProto.DOUBLE:
        return (
            "TensorRT silently computes in FP32: answers would differ from the file's",
            "Export the model in FP32: model.float() before torch.onnx.export, numpy arrays as float32.",
        )
    if kind in (TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64, TensorProto.INT16):
        return "TensorRT has not", "Hand pixels over as FP32 (or UINT8) and scale them in preprocessing."
    if kind == TensorProto.STRING:
        return "TensorRT has not", "Take texts out of the model: encode them before it, as numbers."
    if kind in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
        return "TensorRT has not", "Carry real and imaginary part as two FP32 channels."
    return None


def _doubles(node: onnx.NodeProto, name: str) -> Iterator[Refusal]:
    """Refuse a node that makes doubles: a cast, or a constant."""
    from onnx import TensorProto  # noqa: PLC0415 - heavy

    cast = node.op_type == "Cast" and any(each.name == "to" and each.i == TensorProto.DOUBLE for each in node.attribute)
    constant = node.op_type == "Constant" and any(each.t.data_type == TensorProto.DOUBLE for each in node.attribute)
    remedy = _type_remedy(TensorProto.DOUBLE)
    if (cast or constant) and remedy:
        yield Refusal(name, node.op_type, f"it makes a DOUBLE, a type that {remedy[0]}", remedy[1])


def _batch(model: onnx.ModelProto, batch: AxisRange) -> Iterator[Refusal]:
    """Refuse a first axis that is fixed where Triton shall batch along it."""
    shapes = input_shapes(model)
    if batch_axes(shapes) or batch.maximum == 1:
        return
    for shape in shapes:
        size = shape.axes[0] if shape.axes else None
        if isinstance(size, int) and size < batch.maximum:
            why = f"its first axis is fixed at {size}, and batches up to {batch.maximum} are asked for"
            remedy = "Export with dynamic_axes={'" + shape.name + "': {0: 'batch'}}, or say --batch 1."
            yield Refusal(shape.name, "input", why, remedy)


def _constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Give weights and the values of Constant nodes by name, those of inner graphs too."""
    found: dict[str, onnx.TensorProto] = {}
    for named in named_nodes(graph):
        found.update((weight.name, weight) for weight in named.graph.initializer)
        if named.node.op_type == "Constant":
            for attribute in named.node.attribute:
                if attribute.name == "value":
                    found[named.node.output[0]] = attribute.t
    return found
