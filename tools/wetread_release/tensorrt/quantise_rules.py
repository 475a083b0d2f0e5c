"""What TensorRT asks of Q/DQ nodes: symmetric, INT8 or smaller, nothing of it at run time, no quantised bias."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wetread_release.tensorrt.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import onnx

    from wetread_release.tensorrt.graph import NamedNode

SYMMETRIC = (
    "Quantise symmetrically to INT8: activation_type and weight_type QuantType.QInt8 with extra_options "
    "{'ActivationSymmetric': True, 'WeightSymmetric': True}; `wetread model quantise` does."
)
NO_BIAS = "Leave the bias in FP32: extra_options {'QuantizeBias': False}; `wetread model quantise` does."
CONSTANT = "Calibrate, so that scales are constants in the file (static quantisation): `wetread model quantise` does."


def quantise_refusals(named: NamedNode, weights: Mapping[str, onnx.TensorProto]) -> Iterator[Refusal]:
    """Refuse a QuantizeLinear or DequantizeLinear that TensorRT does not take.

    Args:
        named: the node.
        weights: constants of the model by name.
    """
    import numpy as np  # noqa: PLC0415
    from onnx import TensorProto, numpy_helper  # noqa: PLC0415 - heavy

    node = named.node
    if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
        return
    source = weights.get(node.input[0])
    if node.op_type == "DequantizeLinear" and source is not None and source.data_type == TensorProto.INT32:
        yield _refused(named, f"its input {node.input[0]} is INT32, a quantised bias: TensorRT wants INT8", NO_BIAS)
        return
    if node.input[1] not in weights:
        yield _refused(named, f"its scale {node.input[1]} is computed at run time", CONSTANT)
    if len(node.input) < 3 or not node.input[2]:
        return
    zero = weights.get(node.input[2])
    if zero is None:
        yield _refused(named, f"its zero point {node.input[2]} is computed at run time", CONSTANT)
        return
    values = numpy_helper.to_array(zero)
    if zero.data_type == TensorProto.UINT8:
        yield _refused(named, f"its zero point {node.input[2]} is UINT8: TensorRT quantises to INT8", SYMMETRIC)
    elif np.any(values != 0):
        worst = int(values.flat[int(np.argmax(values != 0))])
        yield _refused(named, f"its zero point {node.input[2]} is {worst}: TensorRT takes only 0", SYMMETRIC)


def _refused(named: NamedNode, why: str, remedy: str) -> Refusal:
    return Refusal(named.name, named.operator, why, remedy)
