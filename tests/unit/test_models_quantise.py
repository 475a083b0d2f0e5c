"""INT8 and FP16 files: what engines take, and what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, numpy_helper
from small_network import images, small_network
from wetread_models import quantise
from wetread_models.quantise import Int8Options, QuantiseError, fp16, int8
from wetread_models.quantise_layers import choose_float

if TYPE_CHECKING:
    from pathlib import Path

PAIRS = ("QuantizeLinear", "DequantizeLinear")
QUICK = Int8Options(calibration="minmax", float_share=0.0, correct_bias=False)


READS_THE_CPU = quantise._saturates


@pytest.fixture(autouse=True)
def eight_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers here are those of 8-bit weights, whatever this CPU's own drafts get."""
    monkeypatch.setattr("wetread_models.quantise._saturates", lambda: False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return small_network(tmp_path / "fp32.onnx")


def logits(path: Path, rows: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["LOGITS"], {"IMAGE": rows})[0][:, 0]


def error(source: Path, made: Path) -> float:
    """RMS over the spread, on pictures that calibrated nothing."""
    rows = images(seed=2)
    wanted = logits(source, rows)
    return float(np.sqrt(np.mean((logits(made, rows) - wanted) ** 2)) / wanted.std())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["percentile", "entropy", "minmax"])
def test_int8_follows_the_rules_that_tensorrt_asks_for(source: Path, tmp_path: Path, method: str) -> None:
    made = tmp_path / "int8.onnx"
    report = int8(source, made, {"IMAGE": images()}, Int8Options(calibration=method))
    model = onnx.load(made)
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    pairs = [node for node in model.graph.node if node.op_type in PAIRS]
    assert pairs
    assert [each.version for each in model.opset_import if not each.domain] == [17]
    for node in pairs:
        assert tensors[node.input[2]].dtype == np.int8, node.name
        assert not tensors[node.input[2]].any(), node.name
    made_by = {name: node for node in model.graph.node for name in node.output}
    quantised = [node for node in model.graph.node if node.op_type == "Conv" and node.input[1] in made_by]
    assert len(quantised) == report.layers > 0
    for node in quantised:
        assert node.input[0] in made_by, f"{node.name} reads floats"
        assert len(tensors[made_by[node.input[1]].input[1]]) == len(
            tensors[made_by[node.input[1]].input[0]]
        )  # channels
        assert node.input[2] not in made_by, f"{node.name} has a quantised bias"
    assert error(source, made) < 0.1


def test_the_layer_that_makes_the_answer_stays_in_float_and_so_does_what_is_named(source: Path, tmp_path: Path) -> None:
    made = tmp_path / "int8.onnx"
    report = int8(source, made, {"IMAGE": images()}, Int8Options(float_share=0.0, keep_float=("project",)))
    assert report.kept_float == ("project",)
    model = onnx.load(made)
    project = next(node for node in model.graph.node if node.name == "project")
    assert list(project.input)[:2] == ["r2", "w3"]
    with pytest.raises(QuantiseError, match="no node nowhere"):
        int8(source, made, {"IMAGE": images()}, Int8Options(keep_float=("nowhere",)))


def test_the_most_sensitive_layers_stay_in_float_and_the_answer_comes_nearer(source: Path, tmp_path: Path) -> None:
    rough, fine = tmp_path / "rough.onnx", tmp_path / "fine.onnx"
    data = {"IMAGE": images()}
    int8(source, rough, data, QUICK)
    report = int8(source, fine, data, Int8Options(calibration="minmax", float_share=0.6, correct_bias=False))
    assert report.layers == len(report.kept_float) == 2
    assert error(source, fine) < error(source, rough)


def test_layers_stay_in_float_by_error_for_what_they_move_until_the_share_is_full() -> None:
    errors = {"large": 9.0, "cheap": 5.0, "calm": 0.1, "last": 3.0}
    traffic = {"large": 90, "cheap": 10, "calm": 50, "last": 50}
    assert choose_float(errors, traffic, 0.05) == ["cheap"]
    assert choose_float(errors, traffic, 0.5) == ["cheap", "large"]
    assert choose_float(errors, traffic, 1.0) == ["cheap", "large", "last", "calm"]
    assert choose_float(errors, traffic, 0.0) == []


@pytest.mark.slow
def test_corrected_biases_take_up_the_mean_error_of_every_channel(source: Path, tmp_path: Path) -> None:
    plain, corrected = tmp_path / "plain.onnx", tmp_path / "corrected.onnx"
    data = {"IMAGE": images()}
    int8(source, plain, data, QUICK)
    int8(source, corrected, data, Int8Options(calibration="minmax", float_share=0.0, probes=64))
    for name in ("c1", "c2", "c3", "c4"):
        wanted = channel_means(source, name, data["IMAGE"])
        off = [np.abs(channel_means(made, name, data["IMAGE"]) - wanted).max() for made in (plain, corrected)]
        assert off[1] < 0.2 * off[0] or off[1] < 1e-5, name


def channel_means(path: Path, name: str, rows: np.ndarray) -> np.ndarray:
    model = onnx.load(path)
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([name], {"IMAGE": rows})[0].mean(axis=(0, 2, 3))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_file(source: Path, tmp_path: Path) -> None:
    options = Int8Options(calibration="minmax", probes=16, seed=3)
    for name in ("one.onnx", "two.onnx"):
        int8(source, tmp_path / name, {"IMAGE": images()}, options)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


def test_calibration_on_other_pictures_is_worse(source: Path, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.onnx", tmp_path / "bad.onnx"
    int8(source, good, {"IMAGE": images()}, QUICK)
    int8(source, bad, {"IMAGE": 0.02 * images()}, QUICK)
    assert error(source, bad) > 5 * error(source, good)


def test_batch_normalisation_is_folded_and_nameless_nodes_are_named(tmp_path: Path) -> None:
    source = small_network(tmp_path / "fp32.onnx", normalised=True, named=False)
    made = tmp_path / "int8.onnx"
    int8(source, made, {"IMAGE": images()}, QUICK)
    model = onnx.load(made)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert {each.domain for each in model.opset_import} <= {"", "ai.onnx"}
    assert error(source, made) < 0.1


def test_an_old_opset_and_data_that_do_not_fit_are_refused_with_the_remedy(tmp_path: Path) -> None:
    old = small_network(tmp_path / "old.onnx", opset=11)
    with pytest.raises(QuantiseError, match=r"opset 11: INT8 needs 13 or more, export it with 17"):
        int8(old, tmp_path / "x.onnx", {"IMAGE": images()})
    source = small_network(tmp_path / "fp32.onnx")
    for data, message in (
        ({"FILM": images()}, "inputs are IMAGE, the data are for FILM"),
        ({"IMAGE": images(side=8)}, r"wants shape \[0, 1, 16, 16\]"),
        ({"IMAGE": images()[:0]}, "equally many rows"),
        ({"IMAGE": np.full_like(images(), np.nan)}, "NaN"),
    ):
        with pytest.raises(QuantiseError, match=message):
            int8(source, tmp_path / "x.onnx", data)


def test_a_network_with_nothing_to_quantise_is_refused(tmp_path: Path) -> None:
    model = onnx.load(small_network(tmp_path / "fp32.onnx"))
    del model.graph.node[:]
    model.graph.node.append(onnx.helper.make_node("Identity", ["IMAGE"], ["LOGITS"], "same"))
    onnx.save(model, tmp_path / "same.onnx")
    with pytest.raises(QuantiseError, match="no layer to quantise"):
        int8(tmp_path / "same.onnx", tmp_path / "x.onnx", {"IMAGE": images()})


def test_fp16_keeps_inputs_and_outputs_and_nearly_the_answer(source: Path, tmp_path: Path) -> None:
    made = tmp_path / "fp16.onnx"
    fp16(source, made)
    model = onnx.load(made)
    assert {tensor.data_type for tensor in model.graph.initializer} == {TensorProto.FLOAT16}
    ends = [*model.graph.input, *model.graph.output]
    assert {value.type.tensor_type.elem_type for value in ends} == {TensorProto.FLOAT}
    assert error(source, made) < 0.01


def test_fp16_refuses_what_it_cannot_hold(source: Path, tmp_path: Path) -> None:
    model = onnx.load(source)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((8, 1, 3, 3), 1e5, np.float32), "w1"))
    onnx.save(model, source)
    with pytest.raises(QuantiseError, match=r"w1 has a value beyond 65504.*keep fp32"):
        fp16(source, tmp_path / "fp16.onnx")


@pytest.mark.parametrize(
    ("flags", "saturates"),
    [("fpu avx2", True), ("avx2 avx512f", True), ("avx2 avx_vnni", False), ("avx512_vnni avx2", False), ("sve", False)],
)
def test_weights_get_a_bit_less_where_sums_of_products_do_not_fit(tmp_path: Path, flags: str, saturates: bool) -> None:
    cpu = tmp_path / "cpuinfo"
    cpu.write_text(f"processor : 0\nflags : {flags}\n")
    assert READS_THE_CPU(cpu) is saturates
