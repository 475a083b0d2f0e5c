"""Loops whose shapes depend on the values: TensorRT wants the same shapes in every turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wetread_release.tensorrt.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import onnx

    from wetread_release.tensorrt.graph import NamedNode

UNROLL = (
    "Unroll the loop at export with a constant number of turns (trace it instead of scripting it), and give every turn "
    "tensors of one shape, padded and masked where they would grow."
)
_CHANGES_SHAPE = ("Concat", "Pad", "Slice", "Expand", "Tile", "NonZero", "Compress", "Unsqueeze", "Squeeze", "Resize")
_CONTROLS = 2  # a loop's trip count and condition; the tensors that it carries follow


def loop_refusals(named: NamedNode, weights: Mapping[str, onnx.TensorProto]) -> Iterator[Refusal]:
    """Refuse a Loop that carries a tensor of changing shape, or collects one slice a turn over an unknown count.

    Args:
        named: the node.
        weights: constants of the model by name.
    """
    if named.node.op_type != "Loop":
        return
    body = next(attribute.g for attribute in named.node.attribute if attribute.name == "body")
    carried = len(named.node.input) - _CONTROLS
    for output in body.output[1 : 1 + carried]:
        maker = _reshaper(body, output.name, {value.name for value in body.input})
        if maker is not None:
            why = f"it carries {output.name}, whose shape {maker.op_type} {maker.name} changes in every turn"
            yield Refusal(named.name, "Loop", why, UNROLL)
            return
    collects = len(body.output) > 1 + carried
    if collects and named.node.input[0] not in weights:
        why = f"it collects as many slices as {named.node.input[0] or 'its condition'} says: a shape that values decide"
        yield Refusal(named.name, "Loop", why, UNROLL)


def _reshaper(body: onnx.GraphProto, name: str, carried: set[str]) -> onnx.NodeProto | None:
    """Give the node that makes a carried tensor of another shape out of one that was carried in."""
    for node in body.node:
        if name in node.output and node.op_type in _CHANGES_SHAPE and carried & set(node.input):
            return node
    return None
