"""Operators and attributes that TensorRT has nothing for, each with what to do instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wetread_release.tensorrt.graph import OWN_DOMAINS, NamedNode
from wetread_release.tensorrt.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import onnx

_STATIC_QDQ = (
    "Quantise statically with Q/DQ nodes instead: `wetread model quantise`, or onnxruntime.quantization with "
    "QuantFormat.QDQ, QInt8, symmetric and QuantizeBias False."
)
_DATA_DEPENDENT = (
    "Keep every shape independent of the values: mark entries with a mask (Where, Mul) instead of picking them out, "
    "and do the picking after the model."
)
_SEQUENCES = "Export without lists of tensors: Split, Concat and Gather on tensors of fixed number do the same."
_STRINGS = "Take texts out of the model: encode them before it, as numbers."
_INTEGERS = "Do this arithmetic in FP32 or INT32 (Mul, Div, Floor, Mod), or before the model."
_TRAINING = "Export the model in evaluation mode: model.eval() before torch.onnx.export."
_DETECTION = "Compute it with Gather, MatMul and Conv, or cut the model before it and do the rest outside TensorRT."
_LOSS = "Cut the loss off: export only what answers."

REMEDIES: dict[str, str] = {
    **dict.fromkeys(
        ("DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"), _STATIC_QDQ
    ),
    **dict.fromkeys(("NonZero", "Compress", "Unique"), _DATA_DEPENDENT),
    **dict.fromkeys(
        (
            "SplitToSequence",
            "ConcatFromSequence",
            "SequenceAt",
            "SequenceConstruct",
            "SequenceEmpty",
            "SequenceErase",
            "SequenceInsert",
            "SequenceLength",
            "SequenceMap",
            "Optional",
            "OptionalGetElement",
            "OptionalHasElement",
        ),
        _SEQUENCES,
    ),
    **dict.fromkeys(("RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer"), _STRINGS),
    **dict.fromkeys(("BitCast", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"), _INTEGERS),
    **dict.fromkeys(("Bernoulli", "Multinomial"), "Draw nothing at inference: use the mean or the most likely value."),
    **dict.fromkeys(("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"), _LOSS),
    **dict.fromkeys(("MaxRoiPool", "DeformConv", "Det", "Col2Im", "AffineGrid", "CumProd", "SwiGLU"), _DETECTION),
    **dict.fromkeys(("DFT", "MelWeightMatrix"), "Write the transform as a MatMul with a constant matrix."),
    "MaxUnpool": "Upsample with Resize or ConvTranspose instead, which need no indices.",
    "CenterCropPad": "Use Slice and Pad with constant sizes.",
    "ImageDecoder": "Decode before the model: preprocessing hands over pixels.",
}
"""What to do about operators that TensorRT's parser does not take; asked of TensorRT 11.4's, a test asks again."""

CUSTOM = (
    "Export it as standard ONNX operators (torch.onnx.export with a symbolic or decomposition), or provide a TensorRT "
    "plugin of that name on the server: this check cannot see plugins."
)


def operator_refusals(named: NamedNode, weights: Mapping[str, onnx.TensorProto]) -> Iterator[Refusal]:
    """Refuse an operator that TensorRT has no layer for, or one with an attribute that its layer lacks.

    Args:
        named: the node.
        weights: constants of the model by name.
    """
    node = named.node
    if node.domain not in OWN_DOMAINS:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):  # of com.microsoft: taken as ONNX's own
            yield _refused(
                named, f"{named.operator} is no operator of ONNX, and TensorRT knows no plugin for it", CUSTOM
            )
    elif node.op_type in REMEDIES:
        dependent = node.op_type in ("NonZero", "Compress", "Unique")
        why = "the size of its output depends on the values" if dependent else "TensorRT has no layer for it"
        yield _refused(named, why, REMEDIES[node.op_type])
    else:
        yield from _attributes(named, weights)


def _attributes(named: NamedNode, weights: Mapping[str, onnx.TensorProto]) -> Iterator[Refusal]:
    node, operator = named.node, named.node.op_type
    if operator == "MaxPool" and len([name for name in node.output if name]) > 1:
        remedy = "Ask for the values alone (return_indices=False), and upsample with Resize where indices were used."
        yield _refused(named, "TensorRT's pooling gives no indices", remedy)
    elif operator in ("AveragePool", "MaxPool") and any(step != 1 for step in _ints(named, "dilations")):
        yield _refused(named, "TensorRT's pooling has no dilation", "Pool without dilation, or use a dilated Conv.")
    elif operator == "BatchNormalization" and (_int(named, "training_mode", 0) or len(node.output) > 1):
        yield _refused(named, "it is in training mode and would change with every batch", _TRAINING)
    elif operator == "Dropout" and len(node.input) > 2 and _may_be_true(weights.get(node.input[2])):
        yield _refused(named, "it is in training mode and would drop values at random", _TRAINING)
    elif operator == "Resize":
        yield from _resize(named)
    elif operator in ("ScatterElements", "ScatterND") and _text(named, "reduction", "none") != "none":
        remedy = "Scatter without reduction, or compute it with ReduceSum or ReduceMax over a one-hot mask."
        yield _refused(named, "TensorRT scatters without reduction only", remedy)


def _resize(named: NamedNode) -> Iterator[Refusal]:
    if _int(named, "antialias", 0):
        remedy = "Export with antialias=False, and smooth with an AveragePool before a reduction."
        yield _refused(named, "TensorRT resizes without antialiasing", remedy)
    mode = _text(named, "coordinate_transformation_mode", "half_pixel")
    if mode in ("tf_crop_and_resize", "half_pixel_symmetric"):
        remedy = "Export with half_pixel or align_corners, and crop with Slice."
        yield _refused(named, f"TensorRT does not resize by coordinates {mode}", remedy)


def _may_be_true(flag: onnx.TensorProto | None) -> bool:
    from onnx import numpy_helper  # noqa: PLC0415 - heavy

    return flag is None or bool(numpy_helper.to_array(flag))


def _refused(named: NamedNode, why: str, remedy: str) -> Refusal:
    return Refusal(named.name, named.operator, why, remedy)


def _int(named: NamedNode, name: str, default: int) -> int:
    return next((attribute.i for attribute in named.node.attribute if attribute.name == name), default)


def _ints(named: NamedNode, name: str) -> list[int]:
    return next((list(attribute.ints) for attribute in named.node.attribute if attribute.name == name), [])


def _text(named: NamedNode, name: str, default: str) -> str:
    return next((attribute.s.decode() for attribute in named.node.attribute if attribute.name == name), default)
