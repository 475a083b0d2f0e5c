"""ONNX models that TensorRT refuses, each made wrong in one way that real exports have, and the same put right."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization

FLOAT, HALF, DOUBLE, INT64, BOOL, UINT16 = (
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.DOUBLE,
    TensorProto.INT64,
    TensorProto.BOOL,
    TensorProto.UINT16,
)
SIDE = 16
IMAGE = ("IMAGE", FLOAT, ["batch", 1, SIDE, SIDE])
UNKNOWN = [None] * 4
SCORES = ("SCORES", FLOAT, UNKNOWN)
_random = np.random.default_rng(7)
KERNEL = _random.normal(size=(4, 1, 3, 3)).astype(np.float32)
BIAS = _random.normal(size=4).astype(np.float32)
STEM_WEIGHTS = (("kernel", KERNEL), ("bias", BIAS))
node = helper.make_node


def model(nodes, inputs=(IMAGE,), outputs=(SCORES,), weights=(), opset=17, domain="") -> onnx.ModelProto:
    """Put a graph together; inputs and outputs are (name, element type, shape)."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info(*each) for each in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights],
    )
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def stem(source: str = "IMAGE", result: str = "C") -> onnx.NodeProto:
    return node("Conv", [source, "kernel", "bias"], [result], pads=[1, 1, 1, 1], name="/stem/Conv")


@dataclass(frozen=True)
class Broken:
    """One mistake."""

    name: str
    write: Callable[[Path], None]
    """Writes the broken model to a path."""
    node: str
    """That must be named."""
    remedy: str
    """Words of what must be advised."""
    put_right: Callable[[Path], None] | None = None
    """Writes the model with the advice followed; None: there is no form that TensorRT takes."""
    rules_know: bool = True
    """Without NVIDIA our rules find it too."""
    nvidia_knows: bool = True
    """NVIDIA refuses it too, or is asked at all."""
    axes: str = ""
    """What --axis must say for the model put right."""


def _saved(made: Callable[[], onnx.ModelProto]) -> Callable[[Path], None]:
    return lambda path: onnx.save(made(), path)


def _net() -> onnx.ModelProto:
    """A small FP32 classifier, sound in itself."""
    nodes = [
        stem(),
        node("Relu", ["C"], ["R"], name="/stem/Relu"),
        node("GlobalAveragePool", ["R"], ["P"], name="/pool"),
        node("Flatten", ["P"], ["SCORES"], name="/flatten"),
    ]
    return model(nodes, weights=STEM_WEIGHTS, outputs=[("SCORES", FLOAT, ["batch", 4])])


class _Images(quantization.CalibrationDataReader):
    def __init__(self) -> None:
        random = np.random.default_rng(0)
        shape = (2, 1, SIDE, SIDE)
        self._left = [{"IMAGE": random.normal(size=shape).astype(np.float32)} for _ in range(3)]

    def get_next(self):
        return self._left.pop() if self._left else None


def sound_model(path: Path) -> None:
    onnx.save(_net(), path)


def _quantised(**options) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        plain = path.with_suffix(".fp32")
        onnx.save(_net(), plain)
        quantization.quantize_static(plain, path, _Images(), **options)

    return write


def _dynamically_quantised(path: Path) -> None:
    plain = path.with_suffix(".fp32")
    onnx.save(_net(), plain)
    quantization.quantize_dynamic(plain, path)


QUANTISED_WELL = _quantised(
    quant_format=quantization.QuantFormat.QDQ,
    activation_type=quantization.QuantType.QInt8,
    weight_type=quantization.QuantType.QInt8,
    per_channel=True,
    extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
)


def _nonzero() -> onnx.ModelProto:
    nodes = [stem(), node("NonZero", ["C"], ["N"], name="/find/NonZero")]
    return model([*nodes, node("Cast", ["N"], ["SCORES"], to=FLOAT, name="/cast")], weights=STEM_WEIGHTS)


def _masked() -> onnx.ModelProto:
    nodes = [
        stem(),
        node("Greater", ["C", "zero"], ["M"], name="/mask"),
        node("Where", ["M", "C", "zero"], ["SCORES"], name="/where"),
    ]
    return model(nodes, weights=(*STEM_WEIGHTS, ("zero", np.float32(0))))


def _scaled(kind: int, number: np.ndarray) -> onnx.ModelProto:
    nodes = [
        node("Cast", ["IMAGE"], ["D"], to=kind, name="/up/Cast"),
        node("Mul", ["D", "scale"], ["M"], name="/scale"),
        node("Cast", ["M"], ["SCORES"], to=FLOAT, name="/down/Cast"),
    ]
    return model(nodes, weights=[("scale", number)])


def _loop() -> onnx.ModelProto:
    """As many turns as the brightest pixel says, each of which doubles the rows."""
    body = helper.make_graph(
        [
            node("Identity", ["go"], ["go_on"], name="/body/Identity"),
            node("Concat", ["rows", "rows"], ["more"], axis=2, name="/body/Concat"),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", INT64, []),
            helper.make_tensor_value_info("go", BOOL, []),
            helper.make_tensor_value_info("rows", FLOAT, UNKNOWN),
        ],
        [helper.make_tensor_value_info("go_on", BOOL, []), helper.make_tensor_value_info("more", FLOAT, UNKNOWN)],
    )
    nodes = [
        node("ReduceMax", ["IMAGE"], ["brightest"], keepdims=0, name="/max"),
        node("Cast", ["brightest"], ["turns"], to=INT64, name="/turns"),
        node("Loop", ["turns", "yes", "IMAGE"], ["SCORES"], body=body, name="/grow/Loop"),
    ]
    return model(nodes, weights=[("yes", np.array(True))])


def _unrolled() -> onnx.ModelProto:
    nodes = [
        node("Concat", ["IMAGE", "IMAGE"], ["twice"], axis=2, name="/turn0/Concat"),
        node("Concat", ["twice", "twice"], ["SCORES"], axis=2, name="/turn1/Concat"),
    ]
    return model(nodes)


def _fused() -> onnx.ModelProto:
    """What ONNX Runtime saves of an optimised model."""
    fused = node("FusedConv", ["IMAGE", "kernel", "bias"], ["SCORES"], domain="com.microsoft", name="/stem/FusedConv")
    fused.attribute.extend([helper.make_attribute("activation", "Relu"), helper.make_attribute("pads", [1, 1, 1, 1])])
    return model([fused], weights=STEM_WEIGHTS, domain="com.microsoft")


def _conv_relu() -> onnx.ModelProto:
    return model([stem(), node("Relu", ["C"], ["SCORES"], name="/stem/Relu")], weights=STEM_WEIGHTS)


def _unpooled() -> onnx.ModelProto:
    nodes = [
        node("MaxPool", ["IMAGE"], ["P", "I"], kernel_shape=[2, 2], strides=[2, 2], name="/down/MaxPool"),
        node("MaxUnpool", ["P", "I"], ["SCORES"], kernel_shape=[2, 2], strides=[2, 2], name="/up/MaxUnpool"),
    ]
    return model(nodes)


def _resized(**attributes) -> onnx.ModelProto:
    nodes = [
        node("MaxPool", ["IMAGE"], ["P"], kernel_shape=[2, 2], strides=[2, 2], name="/down/MaxPool"),
        node("Resize", ["P", "", "scales"], ["SCORES"], name="/up/Resize", **attributes),
    ]
    return model(nodes, weights=[("scales", np.array([1, 1, 2, 2], np.float32))], opset=18)


def _normalised(training: bool) -> onnx.ModelProto:
    outputs = ["SCORES", "mean1", "var1"] if training else ["SCORES"]
    normalise = node(
        "BatchNormalization",
        ["IMAGE", "scale", "shift", "mean", "var"],
        outputs,
        training_mode=int(training),
        name="/norm/BatchNormalization",
    )
    return model([normalise], weights=[(name, np.ones(1, np.float32)) for name in ("scale", "shift", "mean", "var")])


def _dropped(training: bool) -> onnx.ModelProto:
    nodes = [node("Dropout", ["IMAGE", "ratio", "training"], ["SCORES"], name="/head/Dropout")]
    return model(nodes, weights=[("ratio", np.float32(0.5)), ("training", np.array(training))])


def _mixed(cast: bool) -> onnx.ModelProto:
    """Half times float, which ONNX itself forbids and exporters write."""
    nodes = [node("Cast", ["IMAGE"], ["H"], to=HALF, name="/half/Cast")]
    if cast:
        nodes.append(node("Cast", ["H"], ["F"], to=FLOAT, name="/back/Cast"))
    return model([*nodes, node("Mul", ["F" if cast else "H", "IMAGE"], ["SCORES"], name="/mix/Mul")])


def _pixels(kind: int) -> onnx.ModelProto:
    nodes = [node("Cast", ["IMAGE"], ["F"], to=FLOAT, name="/cast"), node("Relu", ["F"], ["SCORES"], name="/relu")]
    return model(nodes, inputs=[("IMAGE", kind, ["batch", 1, SIDE, SIDE])])


def _listed() -> onnx.ModelProto:
    nodes = [
        node("SplitToSequence", ["IMAGE"], ["S"], axis=2, name="/slices/SplitToSequence"),
        node("ConcatFromSequence", ["S"], ["SCORES"], axis=2, name="/slices/ConcatFromSequence"),
    ]
    return model(nodes)


def _split() -> onnx.ModelProto:
    nodes = [
        node("Split", ["IMAGE"], ["A", "B"], axis=2, name="/slices/Split"),
        node("Concat", ["A", "B"], ["SCORES"], axis=2, name="/slices/Concat"),
    ]
    return model(nodes)


def _shaped(shape: list[int | str], opset: int = 17) -> onnx.ModelProto:
    nodes = [node("Relu", ["IMAGE"], ["SCORES"], name="/relu")]
    return model(nodes, inputs=[("IMAGE", FLOAT, shape)], outputs=[("SCORES", FLOAT, shape)], opset=opset)


def _scattered(**attributes) -> onnx.ModelProto:
    scatter = node("ScatterElements", ["IMAGE", "places", "IMAGE"], ["SCORES"], axis=1, **attributes)
    scatter.name = "/vote/ScatterElements"
    shape = [1, 4]
    places = [("places", np.zeros(shape, np.int64))]
    return model([scatter], inputs=[("IMAGE", FLOAT, shape)], weights=places, opset=18)


def _without_its_weights(path: Path) -> None:
    onnx.save(_net(), path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=0)
    path.with_name(f"{path.name}.data").unlink()


def _cut_off(path: Path) -> None:
    path.write_bytes(_net().SerializeToString()[:-100])


BROKEN = (
    Broken(
        "ONNX Runtime's default static quantisation",
        _quantised(activation_type=quantization.QuantType.QInt8),
        "bias_DequantizeLinear",
        "'QuantizeBias': False",
        QUANTISED_WELL,
    ),
    Broken(
        "a quantised bias",
        _quantised(extra_options={"ActivationSymmetric": True}),
        "bias_DequantizeLinear",
        "'QuantizeBias': False",
        QUANTISED_WELL,
    ),
    Broken(
        "UINT8 zero points",
        _quantised(activation_type=quantization.QuantType.QUInt8, extra_options={"QuantizeBias": False}),
        "IMAGE_QuantizeLinear",
        "QuantType.QInt8",
        QUANTISED_WELL,
    ),
    Broken(
        "INT8 with zero points off zero",
        _quantised(activation_type=quantization.QuantType.QInt8, extra_options={"QuantizeBias": False}),
        "IMAGE_QuantizeLinear",
        "'ActivationSymmetric': True",
        QUANTISED_WELL,
    ),
    Broken(
        "quantised operators",
        _quantised(quant_format=quantization.QuantFormat.QOperator),
        "/stem/Conv_quant",
        "Q/DQ",
        QUANTISED_WELL,
    ),
    Broken(
        "dynamic quantisation",
        _dynamically_quantised,
        "IMAGE_QuantizeLinear",
        "Quantise statically",
        QUANTISED_WELL,
    ),
    Broken("NonZero", _saved(_nonzero), "/find/NonZero", "mask", _saved(_masked)),
    Broken(
        "a double",
        _saved(lambda: _scaled(DOUBLE, np.float64(2))),
        "/up/Cast",
        "in FP32",
        _saved(lambda: _scaled(FLOAT, np.float32(2))),
        nvidia_knows=False,  # TensorRT takes it, and computes in FP32
    ),
    Broken("a loop whose shape values decide", _saved(_loop), "/grow/Loop", "Unroll", _saved(_unrolled)),
    Broken("an operator of ONNX Runtime alone", _saved(_fused), "/stem/FusedConv", "standard", _saved(_conv_relu)),
    Broken(
        "pooling with indices", _saved(_unpooled), "/down/MaxPool", "Resize", _saved(lambda: _resized(mode="linear"))
    ),
    Broken(
        "antialiasing",
        _saved(lambda: _resized(mode="linear", antialias=1)),
        "/up/Resize",
        "antialias=False",
        _saved(lambda: _resized(mode="linear")),
    ),
    Broken(
        "batch normalisation in training",
        _saved(lambda: _normalised(True)),
        "/norm/BatchNormalization",
        "model.eval()",
        _saved(lambda: _normalised(False)),
    ),
    Broken(
        "dropout in training",
        _saved(lambda: _dropped(True)),
        "/head/Dropout",
        "model.eval()",
        _saved(lambda: _dropped(False)),
    ),
    Broken(
        "half times float",
        _saved(lambda: _mixed(cast=False)),
        "/mix/Mul",
        "Cast",
        _saved(lambda: _mixed(cast=True)),
        rules_know=False,
    ),
    Broken("UINT16 pixels", _saved(lambda: _pixels(UINT16)), "IMAGE", "FP32", _saved(lambda: _pixels(FLOAT))),
    Broken("lists of tensors", _saved(_listed), "/slices/SplitToSequence", "without lists of tensors", _saved(_split)),
    Broken(
        "an axis of any size",
        _saved(lambda: _shaped(["batch", 1, "rows", 16])),
        "IMAGE",
        "--axis rows=",
        _saved(lambda: _shaped(["batch", 1, "rows", 16])),
        nvidia_knows=False,  # the parser takes it; without sizes there is nothing to compile
        axes="rows=8,16,32",
    ),
    Broken(
        "a batch axis fixed at one",
        _saved(lambda: _shaped([1, 1, 16, 16])),
        "IMAGE",
        "dynamic_axes",
        _saved(lambda: _shaped(["batch", 1, 16, 16])),
        nvidia_knows=False,  # it compiles; Triton could not batch
    ),
    Broken(
        "an opset that nobody knows",
        _saved(lambda: _shaped(["batch", 1, 16, 16], opset=99)),
        "file",
        "opset_version=17",
        _saved(lambda: _shaped(["batch", 1, 16, 16])),
        nvidia_knows=False,  # it guesses
    ),
    Broken(
        "scattering with a maximum",
        _saved(lambda: _scattered(reduction="max")),
        "/vote/ScatterElements",
        "without reduction",
    ),
    Broken("weights left behind", _without_its_weights, "file", "beside it", sound_model, nvidia_knows=False),
    Broken("a file cut off", _cut_off, "file", "Copy or export it again", sound_model, nvidia_knows=False),
)
