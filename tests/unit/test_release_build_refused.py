"""Files that do not fit their pipeline, and calls of the command that make no sense."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_network import small_network
from tiny_release import spec
from typer.testing import CliRunner
from wetread_release.building.check import check_model
from wetread_release.cli import app
from wetread_release.errors import BadModel
from wetread_release.film_pipeline import film_draft

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = film_draft("tiny", spec()).part("classifier").config


def rewired(path: Path, **changes: object) -> Path:
    """The small network with a tail or an end of another kind."""
    model = onnx.load(small_network(path))
    graph = model.graph
    match changes:
        case {"rename_input": str(name)}:
            graph.input[0].name = graph.node[0].input[0] = name
        case {"rename_output": str(name)}:
            graph.output[0].name = graph.node[-1].output[0] = name
        case {"fixed_batch": int(batch)}:
            for value in (*graph.input, *graph.output):
                value.type.tensor_type.shape.dim[0].dim_value = batch
        case {"tail": str(operator), "other": float(other)}:
            graph.node[-1].output[0] = "flat"
            graph.initializer.append(numpy_helper.from_array(np.array(other, np.float32), "other"))
            graph.node.append(helper.make_node(operator, ["flat", "other"], ["LOGITS"], "tail"))
        case {"mixing": True}:
            graph.node[-1].output[0] = "flat"
            graph.node.append(helper.make_node("ReduceMean", ["flat"], ["mean"], "mean", axes=[0], keepdims=1))
            graph.node.append(helper.make_node("Sub", ["flat", "mean"], ["LOGITS"], "centred"))
        case {"double": True}:
            graph.node[-1].output[0] = "flat"
            graph.node.append(helper.make_node("Cast", ["flat"], ["LOGITS"], "cast", to=TensorProto.DOUBLE))
            graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
        case {"second_input": True}:
            graph.input.append(helper.make_tensor_value_info("AGE", TensorProto.FLOAT, ["batch", 1]))
            graph.node[-1].output[0] = "flat"
            graph.node.append(helper.make_node("Add", ["flat", "AGE"], ["LOGITS"], "aged"))
    onnx.save(model, path)
    return path


def test_a_file_that_fits_passes(tmp_path: Path) -> None:
    check_model(small_network(tmp_path / "m.onnx"), CONFIG)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"rename_input": "x"}, r"no input IMAGE.*it has x FLOAT \[\?, 1, 16, 16\]: rename it"),
        ({"rename_output": "y"}, r"no output LOGITS.*it has y"),
        ({"fixed_batch": 1}, r"IMAGE has a batch of 1: export it with that axis open.*dynamic_axes"),
        ({"tail": "Div", "other": 0.0}, "LOGITS is NaN or infinite"),
        ({"mixing": True}, "depends on the films beside it"),
        ({"double": True}, "output LOGITS is FP64, the pipeline's is FP32: put a Cast"),
        ({"second_input": True}, "input AGE that the pipeline cannot fill"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_file_that_does_not_fit_is_refused_with_the_remedy(
    tmp_path: Path, change: dict[str, object], told: str
) -> None:
    with pytest.raises(BadModel, match=told):
        check_model(rewired(tmp_path / "m.onnx", **change), CONFIG)


def test_another_shape_is_another_pipeline(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match=r"shape \[1, 32, 32\] without the batch, the pipeline's is \[1, 16, 16\]"):
        check_model(small_network(tmp_path / "m.onnx", side=32), CONFIG)


def test_what_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(BadModel, match="is no valid ONNX file"):
        check_model(tmp_path / "m.onnx", CONFIG)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ([], 2, "name the ONNX file"),
        (["MODEL", "--precision", "int8"], 2, "needs --calibration DIR"),
        (["MODEL", "--accelerators", "warp"], 1, "each of tensorrt,cuda,openvino,cpu at most once"),
        (["MODEL", "--pipeline", "nowhere"], 1, "ships no pipeline nowhere"),
        (["MODEL"], 1, "no output ACTIVATION"),
    ],
)
def test_the_command_tells_what_is_wrong(tmp_path: Path, words: list[str], code: int, told: str) -> None:
    model = small_network(tmp_path / "m.onnx", side=224)
    given = [str(model) if word == "MODEL" else word for word in words]
    result = CliRunner().invoke(app, ["build", *given, "--state-dir", str(tmp_path / "state")])
    assert result.exit_code == code
    assert told in " ".join(result.output.split())
