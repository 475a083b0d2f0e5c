"""Write a trained network as the ONNX file that Triton serves, and prove that both give the same numbers."""

from __future__ import annotations

import copy
import io
import warnings
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort
import torch

from wetread_models.network import IMAGE_SIZE, FilmClassifier
from wetread_models.onnx_graph import drop_unused

if TYPE_CHECKING:
    from pathlib import Path

OPSET = 17
OUTPUTS = ("LOGITS", "ACTIVATION", "FEATURES")
TOLERANCE = 1e-4
LARGEST_BYTES = 16 * 1024 * 1024


class ExportError(RuntimeError):
    """The exported file does not do what the network does, or is too large to ship."""


def export(network: FilmClassifier, path: Path) -> float:
    """Write model.onnx; return the largest difference to torch over random images, raise ExportError above 1e-4."""
    network = copy.deepcopy(network).eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    image = torch.randn(2, 1, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(0))
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The TorchScript exporter is deprecated, but needs no onnxscript and folds batch norm by itself.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (image,),
            buffer,
            input_names=["IMAGE"],
            output_names=list(OUTPUTS),
            dynamic_axes={name: {0: "batch"} for name in ("IMAGE", *OUTPUTS)},
            opset_version=OPSET,
            dynamo=False,
        )
    model = _with_padding_in_convolutions(onnx.load_from_string(buffer.getvalue()))
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    if path.stat().st_size > LARGEST_BYTES:
        raise ExportError(f"{path} has {path.stat().st_size} bytes, more than {LARGEST_BYTES}")
    return _difference(network, path)


def _difference(network: FilmClassifier, path: Path) -> float:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = 0.0
    for batch in (1, 3, 8):
        image = torch.randn(batch, 1, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(batch))
        with torch.no_grad():
            expected = network(image)
        got = session.run(list(OUTPUTS), {"IMAGE": image.numpy()})
        for name, a, b in zip(OUTPUTS, expected, got, strict=True):
            scale = max(1.0, float(a.abs().max()))
            gap = float(np.abs(a.numpy() - b).max()) / scale
            if gap > TOLERANCE:
                raise ExportError(f"{path}: {name} differs from torch by {gap:.2e}, more than {TOLERANCE}")
            worst = max(worst, gap)
    return worst


def _with_padding_in_convolutions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Move each zero Pad before a Conv into the Conv: TensorFlow's 'same' is asymmetric, which Conv can say itself.

    Every stride-2 layer has an even input here, so 'same' pads kernel - stride in all, the larger half at the end.
    """
    graph = model.graph
    pads = {node.output[0]: node for node in graph.node if node.op_type == "Pad"}
    for node in graph.node:
        if node.op_type != "Conv" or node.input[0] not in pads:
            continue
        ints = {a.name: list(a.ints) for a in node.attribute}
        total = [kernel - stride for kernel, stride in zip(ints["kernel_shape"], ints["strides"], strict=True)]
        amounts = [t // 2 for t in total] + [t - t // 2 for t in total]
        kept = [a for a in node.attribute if a.name != "pads"]
        del node.attribute[:]
        node.attribute.extend([*kept, onnx.helper.make_attribute("pads", amounts)])
        node.input[0] = pads[node.input[0]].input[0]
    drop_unused(graph)
    for output in graph.output:
        dims = output.type.tensor_type.shape.dim
        for dim in list(dims)[2:]:
            dim.Clear()
            dim.dim_value = IMAGE_SIZE // 32
    return model
