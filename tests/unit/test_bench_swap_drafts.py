"""Releases of the swap benchmark: what makes them different, and what is wrong with the broken ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper
from wetread_bench import swap_onnx
from wetread_bench.swap_drafts import FIRST, PIPELINE, Kind, make, plan_kinds, shift
from wetread_embedded.config import find_checkout
from wetread_release.checkout import Shipped, shipped_pipeline
from wetread_release.draft import Draft

if TYPE_CHECKING:
    from pathlib import Path

onnxruntime = pytest.importorskip("onnxruntime")
Floats = npt.NDArray[np.float32]
FILM = np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 1, 8, 8)


@pytest.fixture(scope="module")
def shipped() -> Shipped:
    """What the checkout ships."""
    return shipped_pipeline(find_checkout(), PIPELINE)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A classifier of one score, the mean of the film; any size."""
    nodes = [
        helper.make_node("Identity", ["IMAGE"], ["ACTIVATION"]),
        helper.make_node("ReduceMean", ["ACTIVATION"], ["LOGITS"], axes=[2, 3], keepdims=0),
    ]
    image = helper.make_tensor_value_info("IMAGE", TensorProto.FLOAT, ["batch", 1, 8, 8])
    outputs = [
        helper.make_tensor_value_info("LOGITS", TensorProto.FLOAT, ["batch", 1]),
        helper.make_tensor_value_info("ACTIVATION", TensorProto.FLOAT, ["batch", 1, 8, 8]),
    ]
    graph = helper.make_graph(nodes, "mean", [image], outputs)
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def run(path: Path, film: Floats = FILM) -> Floats:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    logits: Floats = session.run(["LOGITS"], {"IMAGE": film})[0]
    return logits


def test_twenty_cycles_hold_every_way_to_be_broken_once_and_end_as_they_begin() -> None:
    kinds = plan_kinds(20)
    broken = [kind for kind in kinds if kind.is_broken]
    assert sorted(broken) == sorted(kind for kind in Kind if kind.is_broken)
    assert len(broken) == 8
    assert kinds[0] is kinds[-1] is FIRST
    assert {Kind.SETTINGS, Kind.INPUT_SIZE} <= set(kinds)


def test_a_shift_moves_every_score(model: Path) -> None:
    before = run(model)
    swap_onnx.shift_logits(model, -0.25)
    assert run(model) == pytest.approx(before - 0.25)


def test_another_input_size_reads_other_films(model: Path) -> None:
    swap_onnx.resize_input(model, 4)
    assert run(model, FILM[:, :, :4, :4]).shape == (1, 1)
    with pytest.raises(Exception, match="invalid dimensions"):
        run(model)


def test_doubled_scores_come_twice(model: Path) -> None:
    before = run(model)
    swap_onnx.double_logits(model)
    assert run(model).tolist() == [[before[0, 0], before[0, 0]]]


def test_a_model_that_fails_when_run_loads_nevertheless(model: Path) -> None:
    swap_onnx.fail_when_run(model)
    onnx.checker.check_model(onnx.load(model))
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    with pytest.raises(Exception, match="indices element out of data bounds"):
        session.run(["LOGITS"], {"IMAGE": FILM})


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.name)
def test_every_kind_is_a_whole_draft_that_publish_takes(kind: Kind, shipped: Shipped, tmp_path: Path) -> None:
    make(shipped, kind, tmp_path / "draft")
    draft = Draft.load(tmp_path / "draft")
    assert draft.pipeline == PIPELINE
    if kind.is_broken:
        return
    shift(draft, tmp_path / "draft", 0.5)
    onnx.checker.check_model(onnx.load(tmp_path / "draft" / "parts" / "classifier" / "model.onnx"))


@pytest.mark.parametrize(
    ("kind", "roles"),
    [
        (Kind.WEIGHTS, set()),
        (Kind.RULES, set()),
        (Kind.ALL_PARTS, set()),
        (Kind.SETTINGS, {"classifier"}),
        (Kind.INPUT_SIZE, {"preprocess", "classifier", "postprocess"}),
        (Kind.BATCH_SIZE, {"classifier"}),
        (Kind.BACKEND, {"classifier"}),
        (Kind.CLASS_COUNT, {"classifier"}),
        (Kind.FAILING_WARM_UP, {"classifier"}),
    ],
    ids=lambda value: value.name if isinstance(value, Kind) else "",
)
def test_what_cannot_share_a_model_has_another_configuration(
    kind: Kind, roles: set[str], shipped: Shipped, tmp_path: Path
) -> None:
    draft = make(shipped, kind, tmp_path / "draft")
    other = {part.role for part in draft.parts if part.config.digest != shipped.draft.part(part.role).config.digest}
    assert other == roles


def test_the_parts_that_a_kind_changes_are_changed(shipped: Shipped, tmp_path: Path) -> None:
    make(shipped, Kind.ALL_PARTS, tmp_path / "all")
    make(shipped, Kind.WEIGHTS, tmp_path / "weights")
    for role, name in (("preprocess", "recipe.json"), ("postprocess", "pipeline.json")):
        ours, theirs = (
            json.loads((tmp_path / each / "parts" / role / name).read_text()) for each in ("all", "weights")
        )
        assert ours != theirs


def test_a_corrupt_file_is_no_onnx(shipped: Shipped, tmp_path: Path) -> None:
    make(shipped, Kind.CORRUPT_ONNX, tmp_path / "draft")
    with pytest.raises(Exception, match="pars"):
        onnx.load(tmp_path / "draft" / "parts" / "classifier" / "model.onnx")
