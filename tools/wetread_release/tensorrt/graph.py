"""An ONNX file as rules and remedies need it: nodes with a name for each, inner graphs included."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wetread_release.errors import BadModel
from wetread_release.tensorrt.profiles import InputShape

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

OWN_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class NamedNode:
    """A node and what a human may call it."""

    node: onnx.NodeProto
    name: str
    """Its own, or `#3 (makes C)` where the exporter gave none."""
    graph: onnx.GraphProto

    @property
    def operator(self) -> str:
        """Give the operator, with its domain where that is not ONNX's own."""
        domain = self.node.domain
        return self.node.op_type if domain in OWN_DOMAINS else f"{domain}::{self.node.op_type}"


def read_model(path: Path, weights: bool = True) -> onnx.ModelProto:
    """Read and check an ONNX file.

    Raises:
        BadModel: it is no ONNX file, is cut off, or breaks ONNX's own rules.
    """
    import onnx  # noqa: PLC0415 - heavy
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore] # noqa: PLC0415

    try:
        return onnx.load(path, load_external_data=weights)
    except FileNotFoundError as error:
        missing = Path(error.filename or path)
        beside = "" if missing == path else f"; the weights that {path.name} keeps outside must lie beside it"
        raise BadModel(f"{missing} is missing{beside}") from error
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise BadModel(f"{path} is no ONNX file, was cut off, or its outside weights are missing: {error}") from error


def named_nodes(graph: onnx.GraphProto) -> Iterator[NamedNode]:
    """Give every node of a graph and of the graphs within it."""
    for index, node in enumerate(graph.node):
        yield NamedNode(node, node.name or f"#{index} (makes {', '.join(filter(None, node.output))})", graph)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    yield from named_nodes(inner)


def operators(path: Path) -> list[str]:
    """Give the operators of a file, each once."""
    model = read_model(path, weights=False)
    return sorted({named.node.op_type for named in named_nodes(model.graph)})


def input_shapes(model: onnx.ModelProto) -> tuple[InputShape, ...]:
    """Give the inputs that a caller fills; an axis without size or name is called `<input>:<axis>`."""
    weights = {weight.name for weight in model.graph.initializer}
    shapes = []
    for tensor in model.graph.input:
        if tensor.name not in weights:
            dims = enumerate(tensor.type.tensor_type.shape.dim)
            axes = tuple(dim.dim_value or dim.dim_param or f"{tensor.name}:{index}" for index, dim in dims)
            shapes.append(InputShape(tensor.name, axes))
    return tuple(shapes)
