"""The layers of a quantised graph: which of them move the answer, back to float with those, and their biases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from wetread_models.onnx_graph import drop_unused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Array = npt.NDArray[np.float32]
Feeds = dict[str, Array]

LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""What computes in INT8; everything else follows in float, or is fused by the engine."""
BATCH = 8


def sensitivity(
    quantised: onnx.ModelProto,
    source: onnx.ModelProto,
    layers: Sequence[str],
    probes: Feeds,
    progress: Callable[[str, int, int], None],
) -> dict[str, float]:
    """Mean square error of the first output with each layer alone quantised, by the layer's name."""
    output = [source.graph.output[0].name]
    wanted = _answers(source, output, probes)
    errors = {}
    for index, name in enumerate(layers):
        alone = restored(quantised, source, set(layers) - {name})
        errors[name] = float(np.mean((_answers(alone, output, probes)[0] - wanted[0]) ** 2))
        progress("looking for sensitive layers", index + 1, len(layers))
    return errors


def choose_float(errors: dict[str, float], traffic: dict[str, int], share: float) -> list[str]:
    """Give the layers to leave in float, those with the most error an element moved, as far as `share` of all reaches.

    What a layer gains in INT8 follows from what it reads and writes more than from its arithmetic.
    """
    left = share * sum(traffic.values())
    kept: list[str] = []
    for name in sorted(errors, key=lambda name: -errors[name] / max(traffic[name], 1)):
        if traffic[name] > left:
            break
        kept.append(name)
        left -= traffic[name]
    return kept


def traffic(source: onnx.ModelProto, layers: Sequence[str], probes: Feeds) -> dict[str, int]:
    """Elements that each layer reads and writes in the first run of the probes, weights included."""
    nodes = [node for node in source.graph.node if node.name in set(layers)]
    sizes = {tensor.name: numpy_helper.to_array(tensor).size for tensor in source.graph.initializer}
    first = next(runs(probes, batch_of(source)))
    sizes |= {name: array.size for name, array in first.items()}
    names = sorted({name for node in nodes for name in (*node.input, *node.output) if name and name not in sizes})
    session = _session(_prefix(source, len(source.graph.node), *names))
    sizes |= {name: array.size for name, array in zip(names, session.run(names, first), strict=True)}
    return {node.name: sum(sizes[name] for name in (*node.input, *node.output) if name) for node in nodes}


def restored(quantised: onnx.ModelProto, source: onnx.ModelProto, layers: set[str]) -> onnx.ModelProto:
    """Give the quantised model with `layers` in float again, and without Q/DQ that no layer reads."""
    model = onnx.ModelProto()
    model.CopyFrom(quantised)
    graph = model.graph
    made = {name: node for node in graph.node for name in node.output}
    original = {node.name: node for node in source.graph.node}
    weights = {tensor.name: tensor for tensor in source.graph.initializer}
    there = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.name not in layers:
            continue
        for position, name in enumerate(original[node.name].input):
            node.input[position] = name
            if name in weights and name not in there:
                graph.initializer.append(weights[name])
                there.add(name)
    _bypass_unread(graph, made)
    drop_unused(graph)
    return model


def correct_biases(
    quantised: onnx.ModelProto,
    source: onnx.ModelProto,
    probes: Feeds,
    progress: Callable[[str, int, int], None],
) -> None:
    """Move the bias of each convolution, in the graph's order, by the mean difference of its channels, in place.

    Each is measured with the corrected ones before it, so that errors which cancel are not corrected twice.
    """
    outputs = [node.output[0] for node in source.graph.node if node.op_type == "Conv"]
    wanted = dict(zip(outputs, _channel_means(source, outputs, probes), strict=True))
    tensors = {tensor.name: tensor for tensor in quantised.graph.initializer}
    total = len(outputs)
    done = 0
    for index, node in enumerate(quantised.graph.node):
        if node.op_type != "Conv" or node.output[0] not in wanted:
            continue
        got = _channel_means(_prefix(quantised, index + 1, node.output[0]), [node.output[0]], probes)[0]
        shift = (wanted[node.output[0]] - got).astype(np.float32)
        if len(node.input) > 2 and node.input[2]:
            old = numpy_helper.to_array(tensors[node.input[2]])
            tensors[node.input[2]].CopyFrom(numpy_helper.from_array(old + shift, node.input[2]))
        else:
            name = f"{node.name}_bias"
            quantised.graph.initializer.append(numpy_helper.from_array(shift, name))
            del node.input[2:]
            node.input.append(name)
        done += 1
        progress("correcting biases", done, total)


def relative_error(quantised: onnx.ModelProto, source: onnx.ModelProto, probes: Feeds) -> float:
    """RMS difference of the first output over its standard deviation."""
    output = [source.graph.output[0].name]
    wanted, got = (_answers(model, output, probes)[0].astype(np.float64) for model in (source, quantised))
    spread = float(wanted.std())
    return float(np.sqrt(np.mean((wanted - got) ** 2))) / spread if spread else 0.0


def batch_of(model: onnx.ModelProto) -> int:
    """Rows of a run: the model's own batch where it is fixed, BATCH where it is open."""
    return model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or BATCH


def runs(feeds: Feeds, batch: int) -> Iterator[Feeds]:
    """Cut the rows into runs."""
    rows = len(next(iter(feeds.values())))
    for start in range(0, rows, batch):
        yield {name: array[start : start + batch] for name, array in feeds.items()}


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put every node behind those whose outputs it reads, in place; otherwise the order stays."""
    made = {name for node in graph.node for name in node.output}
    ready: set[str] = set()
    ordered: list[onnx.NodeProto] = []
    waiting = list(graph.node)
    while waiting:
        left = []
        for node in waiting:
            if all(name in ready or name not in made for name in node.input):
                ordered.append(node)
                ready.update(node.output)
            else:
                left.append(node)
        if len(left) == len(waiting):
            raise ValueError(f"the graph has a cycle at {left[0].name}")
        waiting = left
    del graph.node[:]
    graph.node.extend(ordered)


def _answers(model: onnx.ModelProto, outputs: Sequence[str], feeds: Feeds) -> list[Array]:
    session = _session(model)
    parts = [session.run(list(outputs), run) for run in runs(feeds, batch_of(model))]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def _channel_means(model: onnx.ModelProto, outputs: Sequence[str], feeds: Feeds) -> list[npt.NDArray[np.float64]]:
    """Mean over rows and places, [channels] each."""
    exposed = _prefix(model, len(model.graph.node), *outputs)
    session = _session(exposed)
    sums: list[npt.NDArray[np.float64]] = []
    for run in runs(feeds, batch_of(model)):
        means = [a.mean(axis=tuple(range(2, a.ndim)), dtype=np.float64).sum(axis=0) for a in session.run(outputs, run)]
        sums = [old + new for old, new in zip(sums, means, strict=True)] if sums else means
    return [each / len(next(iter(feeds.values()))) for each in sums]


def _session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # The same numbers in half the time: its INT8 kernels fit other places of Q/DQ nodes.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _prefix(model: onnx.ModelProto, nodes: int, *outputs: str) -> onnx.ModelProto:
    """Give the first `nodes` nodes as a model with these outputs."""
    part = onnx.ModelProto()
    part.CopyFrom(model)
    kept = list(part.graph.node)[:nodes]
    del part.graph.node[:]
    part.graph.node.extend(kept)
    del part.graph.output[:]
    part.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs)
    drop_unused(part.graph)
    return part


def _bypass_unread(graph: onnx.GraphProto, made: dict[str, onnx.NodeProto]) -> None:
    """Let what follows a Q/DQ pair read the tensor before it, where no layer reads the pair."""
    for pair in [node for node in graph.node if node.op_type == "DequantizeLinear"]:
        readers = [node for node in graph.node if pair.output[0] in node.input]
        quantise = made.get(pair.input[0])
        if quantise is None or any(node.op_type in LAYERS for node in readers):
            continue
        for node in readers:
            for position, name in enumerate(node.input):
                if name == pair.output[0]:
                    node.input[position] = quantise.input[0]
