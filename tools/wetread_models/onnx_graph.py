"""Edits of an ONNX graph that need no torch."""

import onnx


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes and weights that no output of the graph needs."""
    needed = {output.name for output in graph.output}
    live = []
    for node in reversed(graph.node):
        if any(name in needed for name in node.output):
            needed.update(node.input)
            live.append(node)
    del graph.node[:]
    graph.node.extend(reversed(live))
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(weights)
