"""Make an INT8 or FP16 model.onnx of an FP32 one, so that ONNX Runtime, OpenVINO and TensorRT all take it; no torch.

INT8 is static quantisation with Q/DQ nodes by TensorRT's rules: signed, symmetric (zero points 0), weights per
channel, no quantised bias, and Q/DQ only before the layers that compute in INT8, where an engine can fuse all that
follows. The few layers whose rounding moves the answer most stay in float, and the biases take up the mean error.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from wetread_models import quantise_layers
from wetread_models.quantise_layers import LAYERS, Feeds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Calibration = Literal["percentile", "entropy", "minmax"]
METHODS = {
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
    "minmax": CalibrationMethod.MinMax,
}
SENSITIVITY_ROWS = 16
"""Of the probes: enough to rank layers, and every layer takes a run of the whole network."""
LEAST_OPSET = 13
"""From here on DequantizeLinear has an axis, without which weights have one scale for all channels."""


class QuantiseError(ValueError):
    """A model or the calibration data does not allow it; the message names the remedy."""


@dataclass(frozen=True)
class Int8Options:
    """How to quantise. The defaults are those of the shipped INT8 classifier."""

    calibration: Calibration = "percentile"
    """How a tensor's range is found: percentile of its values, least information lost, or lowest and highest."""
    percentile: float = 99.999
    float_share: float = 0.2
    """Share of the network, by what its layers read and write, that stays in float: where the first output gains most.
    """
    keep_float: tuple[str, ...] = ()
    """Names of nodes that stay in float whatever they do."""
    correct_bias: bool = True
    """Put the mean error of each channel into its bias (Nagel et al., 2019, arXiv 1906.04721)."""
    probes: int = 48
    """Rows of the calibration data, drawn with `seed`, that sensitivity and bias are measured on."""
    seed: int = 0


@dataclass(frozen=True)
class Int8Report:
    """What came of it."""

    layers: int
    """Layers that compute in INT8."""
    kept_float: tuple[str, ...]
    """Layers left in float, the most sensitive first."""
    relative_error: float
    """RMS difference of the first output on the probes over its standard deviation."""
    rows: int
    """Rows of calibration data."""
    seconds: float


def int8(
    source: Path,
    target: Path,
    feeds: Feeds,
    options: Int8Options = Int8Options(),
    progress: Callable[[str, int, int], None] = lambda _what, _done, _all: None,
) -> Int8Report:
    """Write the INT8 twin of `source`; `feeds` holds the calibration data: each input's rows, [n, ...] float32.

    Raises:
        QuantiseError: the opset is too old, nothing can be quantised, a node to keep is not there, or data do not fit.
    """
    started = time.monotonic()
    model = prepared(source)
    rows = check_feeds(model, feeds)
    outputs = {value.name for value in model.graph.output}
    layers = [node for node in model.graph.node if node.op_type in LAYERS]
    names = {node.name for node in model.graph.node}
    if missing := [name for name in options.keep_float if name not in names]:
        raise QuantiseError(f"{source} has no node {', '.join(missing)} to keep in float")
    # What makes an output stays in float: little to gain, and its rounding is the answer's.
    fixed = {node.name for node in layers if outputs & set(node.output)} | set(options.keep_float)
    if not (chosen := [node.name for node in layers if node.name not in fixed]):
        raise QuantiseError(
            f"{source} has no layer to quantise ({', '.join(sorted(LAYERS))}) beside the last: use fp16"
        )
    progress("calibrating", 0, 1)
    quantised = _quantised(model, feeds, options, fixed)
    drawn = np.random.default_rng(options.seed).permutation(rows)[: options.probes]
    probes = {name: array[np.sort(drawn)] for name, array in feeds.items()}
    kept: list[str] = []
    if options.float_share > 0:
        few = {name: array[:SENSITIVITY_ROWS] for name, array in probes.items()}
        errors = quantise_layers.sensitivity(quantised, model, chosen, few, progress)
        moved = quantise_layers.traffic(model, chosen, probes)
        kept = quantise_layers.choose_float(errors, moved, options.float_share)
        quantised = quantise_layers.restored(quantised, model, set(kept))
    if options.correct_bias:
        quantise_layers.correct_biases(quantised, model, probes, progress)
    _check_rules(quantised)
    _save(quantised, target)
    return Int8Report(
        len(chosen) - len(kept),
        (*kept, *sorted(fixed)),
        quantise_layers.relative_error(quantised, model, probes),
        rows,
        round(time.monotonic() - started, 1),
    )


def fp16(source: Path, target: Path) -> None:
    """Write the FP16 twin of `source`: weights and computation in half precision, inputs and outputs FP32 as before.

    Raises:
        QuantiseError: a value of the model is beyond what FP16 can hold.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16  # noqa: PLC0415 -- drags much along

    model = onnx.load(source)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and np.abs(numpy_helper.to_array(tensor)).max(initial=0) > 65504:
            raise QuantiseError(f"{source}: {tensor.name} has a value beyond 65504, the largest of FP16: keep fp32")
    converted = convert_float_to_float16(model, keep_io_types=True)
    quantise_layers.sort_nodes(converted.graph)  # it appends the casts of inputs at the end
    _save(converted, target)


def prepared(source: Path) -> onnx.ModelProto:
    """Give the model with every node named and batch normalisation folded into the convolutions."""
    model = onnx.load(source)
    opset = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0)
    if opset < LEAST_OPSET:
        raise QuantiseError(f"{source} has opset {opset}: INT8 needs {LEAST_OPSET} or more, export it with 17")
    if any(node.op_type == "BatchNormalization" for node in model.graph.node):
        with tempfile.TemporaryDirectory() as folder:
            folded = Path(folder) / "folded.onnx"
            quant_pre_process(str(source), str(folded), skip_symbolic_shape=True)
            model = onnx.load(folded)
    used = {node.domain or "" for node in model.graph.node} | {""}
    kept = [each for each in model.opset_import if (each.domain or "") in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    return model


def check_feeds(model: onnx.ModelProto, feeds: Feeds) -> int:
    """Give the number of rows; QuantiseError where the data do not fit the inputs."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: value for value in model.graph.input if value.name not in weights}
    if inputs.keys() != feeds.keys():
        raise QuantiseError(f"the model's inputs are {', '.join(inputs)}, the data are for {', '.join(feeds)}")
    rows = {len(array) for array in feeds.values()}
    if len(rows) != 1 or not min(rows):
        raise QuantiseError(f"every input wants equally many rows of data, these have {sorted(rows)}")
    for name, array in feeds.items():
        dims = [dim.dim_value for dim in inputs[name].type.tensor_type.shape.dim]
        if len(dims) != array.ndim or any(
            want not in (0, got) for want, got in zip(dims[1:], array.shape[1:], strict=True)
        ):
            raise QuantiseError(f"{name} wants shape {dims} (0: open), the data have {list(array.shape)}")
        if not np.isfinite(array).all():
            raise QuantiseError(f"the data for {name} hold NaN or infinity")
    return rows.pop()


class _Reader(CalibrationDataReader):
    """Hands out the data in runs, of which onnxruntime may ask for a range: it keeps all activations of a range."""

    def __init__(self, feeds: Feeds, batch: int) -> None:
        self._runs = list(quantise_layers.runs(feeds, batch))
        self._left = iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Start over with runs start_index to end_index - 1."""
        self._left = iter(self._runs[start_index:end_index])

    def get_next(self) -> Feeds | None:
        """Give the next run."""
        return next(self._left, None)


def _quantised(model: onnx.ModelProto, feeds: Feeds, options: Int8Options, excluded: set[str]) -> onnx.ModelProto:
    kinds = sorted(LAYERS)
    extra = {
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "QuantizeBias": False,  # TensorRT refuses an INT32 bias through DequantizeLinear
        "CalibTensorRangeSymmetric": True,
        "CalibStridedMinMax": 1,
        "OpTypesToExcludeOutputQuantization": kinds,
        **({"CalibPercentile": options.percentile} if options.calibration == "percentile" else {}),
    }
    with tempfile.TemporaryDirectory() as folder, _quiet():
        original, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        original.write_bytes(model.SerializeToString())  # given the model itself, it would move its weights out
        quantize_static(
            str(original),
            str(target),
            _Reader(feeds, quantise_layers.batch_of(model)),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=_saturates(),
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=kinds,
            nodes_to_exclude=sorted(excluded),
            calibrate_method=METHODS[options.calibration],
            extra_options=extra,
        )
        return onnx.load(target)


def _saturates(cpu: Path = Path("/proc/cpuinfo")) -> bool:
    """Tell whether this CPU adds products of 8-bit numbers in 16 bits, where two may not fit: x86 without VNNI.

    There weights get 7 bits. A draft suits the machine that quantises it; each kind that serves it has its own gate.
    """
    flags = set(cpu.read_text().split()) if cpu.is_file() else set()
    return "avx2" in flags and not flags & {"avx512_vnni", "avx_vnni", "amx_int8"}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep onnxruntime's prints and its advice to preprocess, which was done as far as it helps, off the terminal."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _check_rules(model: onnx.ModelProto) -> None:
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) > 2:
            zero = tensors[node.input[2]]
            if zero.data_type != TensorProto.INT8 or numpy_helper.to_array(zero).any():
                raise QuantiseError(f"{node.name}: its zero point is not INT8 and 0, TensorRT would refuse it")


def _save(model: onnx.ModelProto, target: Path) -> None:
    onnx.checker.check_model(model)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(model.SerializeToString())
