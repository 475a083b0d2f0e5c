"""NVIDIA's refusals in a human's words: which node, why, what to do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from wetread_release.tensorrt.graph import NamedNode, named_nodes
from wetread_release.tensorrt.operator_rules import CUSTOM, REMEDIES
from wetread_release.tensorrt.quantise_rules import NO_BIAS, SYMMETRIC
from wetread_release.tensorrt.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

    from wetread_release.tensorrt.jobs import Compiled, ParserError

_CUDA_NOISE = "catchCudaError"
_API_ERROR = re.compile(r"API Usage Error \((?P<text>.*?)\. In \w+ at", re.DOTALL)
_OF_OPERATOR = re.compile(r"(?:import|check)(?P<operator>[A-Z]\w+)")
_UNKNOWN_REMEDY = (
    "Export the model without this node, or with another form of it; NVIDIA's list of operators says what it takes: "
    "https://github.com/onnx/onnx-tensorrt/blob/main/docs/operators.md"
)
_BY_TEXT: tuple[tuple[str, str], ...] = (
    ("has type Int32 but must have type", NO_BIAS),
    ("zero point", SYMMETRIC),
    ("Plugin not found", CUSTOM),
    (
        "must have same input types",
        "Bring both inputs to one type with a Cast: TensorRT is strongly typed. onnxruntime.transformers.float16 "
        "converts a whole model; `wetread release build --precision fp16` does.",
    ),
    ("legalUINT8", "Use FP32 or INT32 within the model; UINT8 may only be an input, followed by a Cast."),
    ("IRecurrenceLayer must have inputs with same shape", "Give every turn of the loop tensors of one shape."),
    (
        "libnvinfer_lean",
        "A plan for later versions carries NVIDIA's lean runtime: build it where TensorRT's libnvinfer_lean is "
        "installed, or without that option.",
    ),
    ("missing dimensions in profile", "Say the sizes of this axis: --axis name=smallest,best,largest."),
    ("failed to broadcast", "The weights do not fit the tensor before them: export the model again."),
)


def explained(model: onnx.ModelProto, compiled: Compiled) -> tuple[Refusal, ...]:
    """Give the refusals of parser and compiler, each node once."""
    nodes = list(named_nodes(model.graph))
    found = [_of_parser(error, model, nodes) for error in compiled.errors]
    found += [
        Refusal(named.name, named.operator, "TensorRT has no layer for it", _remedy(named.node.op_type, ""), "parser")
        for named in nodes
        if named.node.op_type in compiled.unknown_operators
    ]
    if not compiled.errors and not compiled.plan_bytes:
        found += _of_compiler(compiled, nodes, [each.name for each in model.graph.input])
    unique = {refusal.node: refusal for refusal in reversed(found)}
    return tuple(reversed(unique.values()))


def _of_parser(error: ParserError, model: onnx.ModelProto, nodes: list[NamedNode]) -> Refusal:
    name, operator = _where(error, model, nodes)
    why = _why(error.text).removeprefix(f"{name}: ") or "TensorRT has no layer for it"
    return Refusal(name, operator, why, _remedy(operator, error.text), "parser")


def _of_compiler(compiled: Compiled, nodes: list[NamedNode], inputs: list[str]) -> Iterator[Refusal]:
    """Give what the compiler said; the layers of its messages carry the nodes' names, where these had one."""
    if not compiled.log:
        yield Refusal("file", "-", "the compiler made no plan and said nothing", _UNKNOWN_REMEDY, "compiler")
    for text in compiled.log:
        name, operator = _layer(text, nodes, inputs)
        yield Refusal(name, operator, _why(text), _remedy(operator, text), "compiler")


def _layer(text: str, nodes: list[NamedNode], inputs: list[str]) -> tuple[str, str]:
    """Find the node, or the input, that a message of the compiler speaks of."""
    if "Recurrence" in text:  # it builds loops of layers without names
        nodes = [named for named in nodes if named.node.op_type == "Loop"]
        return (nodes[0].name, "Loop") if nodes else ("file", "-")
    matches = [named for named in nodes if named.node.name and named.node.name in text]
    if matches:
        longest = max(matches, key=lambda named: len(named.name))
        return longest.name, longest.operator
    return next(((name, "input") for name in inputs if f"input tensor {name} " in text), ("file", "-"))


def _where(error: ParserError, model: onnx.ModelProto, nodes: list[NamedNode]) -> tuple[str, str]:
    """Find the node of an error: by name, by place, or by the only operator that the parser's function is for."""
    if error.name:
        return error.name, error.operator
    outer = list(model.graph.node)
    if 0 <= error.node < len(outer) and outer[error.node].op_type == error.operator:
        place = next(named for named in nodes if named.node is outer[error.node] or named.node == outer[error.node])
        return place.name, place.operator
    function = _OF_OPERATOR.match(error.function)
    operator = error.operator or (function["operator"] if function else "")
    candidates = [named for named in nodes if named.node.op_type == operator]
    if len(candidates) == 1:
        return candidates[0].name, candidates[0].operator
    if operator == "Input":
        return ", ".join(each.name for each in model.graph.input), "input"
    return ", ".join(each.name for each in candidates) or "file", operator or "-"


def _why(text: str) -> str:
    """Take the sentence out of an assertion."""
    usage = _API_ERROR.search(text)
    if usage:
        return usage["text"].strip()
    lines = [line for line in text.splitlines() if _CUDA_NOISE not in line]
    plain = " ".join(lines).removeprefix("Assertion failed: ").strip()
    if plain in ("false", ""):
        return ""
    quoted = re.findall(r'"([^"]{12,})"', plain)
    if quoted:
        return str(quoted[-1])
    return plain.rsplit(": ", 1)[-1] if ": " in plain and "::" not in plain else plain


def _remedy(operator: str, text: str) -> str:
    for fragment, remedy in _BY_TEXT:
        if fragment in text:
            return remedy
    return REMEDIES.get(operator, _UNKNOWN_REMEDY)
