"""The stand-in for the onnxruntime backend: two engines, one answer, any tensors."""

import contextlib
import json
import os
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

CHECKOUT = Path(__file__).parents[2]
sys.path.append(str(CHECKOUT / "embedded" / "backends" / "onnxruntime"))  # Triton puts it on the path, here we do

from wetread_models.volume_networks import level_segmenter  # noqa: E402
from wetread_onnx import EngineError, InvalidInput, ModelSpec, execute, load_engine, load_gently, warm_up  # noqa: E402
from wetread_onnx.compiled import KEPT, compiled_folder  # noqa: E402
from wetread_onnx.gentle import LOWEST, MARKS  # noqa: E402
from wetread_onnx.openvino_engine import RUN_ROWS, parts  # noqa: E402

CLASSIFIER = CHECKOUT / "model_repository" / "chest_xray_classifier" / "1" / "model.onnx"
ENGINES = ("openvino", "onnxruntime")
ELEMENTS = {
    "TYPE_BOOL": TensorProto.BOOL,
    "TYPE_UINT8": TensorProto.UINT8,
    "TYPE_INT8": TensorProto.INT8,
    "TYPE_INT16": TensorProto.INT16,
    "TYPE_INT32": TensorProto.INT32,
    "TYPE_INT64": TensorProto.INT64,
    "TYPE_FP16": TensorProto.FLOAT16,
    "TYPE_FP32": TensorProto.FLOAT,
    "TYPE_FP64": TensorProto.DOUBLE,
}


def spec_of(inputs, outputs, max_batch_size=8, **parameters):
    tensors = [
        [{"name": n, "data_type": t, "dims": [str(d) for d in dims]} for n, t, dims in ts] for ts in (inputs, outputs)
    ]
    config = {
        "name": "m",
        "max_batch_size": max_batch_size,
        "input": tensors[0],
        "output": tensors[1],
        "parameters": {key: {"string_value": value} for key, value in parameters.items()},
    }
    return ModelSpec.from_json(json.dumps(config))


def save(path, nodes, inputs, outputs) -> Path:
    infos = [[helper.make_tensor_value_info(*tensor) for tensor in tensors] for tensors in (inputs, outputs)]
    model = helper.make_model(helper.make_graph(nodes, "g", *infos), opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, path)
    return path


def pair_model(path) -> Path:
    """TOTAL [b] = sum over the rest of A * B, and TWICE = A + A of any width."""
    return save(
        path / "model.onnx",
        [
            helper.make_node("Mul", ["A", "B"], ["p"]),
            helper.make_node("ReduceMean", ["p"], ["TOTAL"], axes=[1], keepdims=1),
            helper.make_node("Add", ["A", "A"], ["TWICE"]),
        ],
        [("A", TensorProto.FLOAT, ["b", "w"]), ("B", TensorProto.FLOAT, ["b", "w"])],
        [("TOTAL", TensorProto.FLOAT, ["b", 1]), ("TWICE", TensorProto.FLOAT, ["b", "w"])],
    )


PAIR = (
    [("A", "TYPE_FP32", [-1]), ("B", "TYPE_FP32", [-1])],
    [("TOTAL", "TYPE_FP32", [1]), ("TWICE", "TYPE_FP32", [-1])],
)


@pytest.mark.slow
def test_both_engines_agree_on_the_classifier_at_every_batch_size():
    inputs = [("IMAGE", "TYPE_FP32", [1, 224, 224])]
    outputs = [("LOGITS", "TYPE_FP32", [1]), ("ACTIVATION", "TYPE_FP32", [1, 7, 7]), ("FEATURES", "TYPE_FP32", [-1])]
    names = [name for name, _, _ in outputs]
    one, other = (load_engine(CLASSIFIER, spec_of(inputs, outputs, engine=name)) for name in ENGINES)
    assert (one.name, other.name) == ENGINES
    random = np.random.default_rng(0)
    for batch in range(1, 9):
        image = random.standard_normal((batch, 1, 224, 224), dtype=np.float32)
        answers = [engine.run({"IMAGE": image}, names) for engine in (one, other)]
        for name in names:
            np.testing.assert_allclose(answers[0][name], answers[1][name], atol=1e-3, err_msg=name)
        assert np.ptp(answers[0]["FEATURES"], axis=0).max() > 0 or batch == 1


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(("data_type", "element"), ELEMENTS.items())
@pytest.mark.parametrize("shape", [["b", 3], ["b", "h", "w"], [2, 2]])
def test_any_data_type_and_shape(tmp_path, name, data_type, element, shape):
    node = helper.make_node("Not" if data_type == "TYPE_BOOL" else "Identity", ["X"], ["Y"])
    path = save(tmp_path / "model.onnx", [node], [("X", element, shape)], [("Y", element, shape)])
    batched = isinstance(shape[0], str)
    dims = [-1 if isinstance(dim, str) else dim for dim in (shape[1:] if batched else shape)]
    spec = spec_of([("X", data_type, dims)], [("Y", data_type, dims)], 8 if batched else 0, engine=name)
    engine = load_engine(path, spec)
    concrete = [dim if isinstance(dim, int) else 5 for dim in shape]
    x = (np.arange(np.prod(concrete)).reshape(concrete) % 2).astype(spec.inputs[0].dtype)
    [answer] = execute(engine, spec, [{"X": x}], [["Y"]])
    assert answer["Y"].dtype == x.dtype
    np.testing.assert_array_equal(answer["Y"], ~x if data_type == "TYPE_BOOL" else x)


@pytest.mark.parametrize("name", ENGINES)
def test_volumes_with_a_mask_share_a_run_where_they_are_of_one_size(tmp_path, name):
    """As a pipeline of series sends them: five dimensions, all but the channel open, the mask in bytes."""
    path = tmp_path / "model.onnx"
    onnx.save(level_segmenter(mask=True), path)
    inputs = [("VOLUME", "TYPE_FP32", [1, -1, -1, -1]), ("MASK", "TYPE_UINT8", [1, -1, -1, -1])]
    spec = spec_of(inputs, [("LOGITS", "TYPE_FP32", [3, -1, -1, -1])], 4, engine=name)
    engine, runs = load_engine(path, spec), []
    run = engine.run
    engine.run = lambda tensors, outputs: runs.append(len(tensors["VOLUME"])) or run(tensors, outputs)
    random = np.random.default_rng(0)
    requests = []
    for sides in ((16, 32, 16), (16, 32, 16), (32, 16, 16), (16, 32, 16)):
        mask = (random.random((1, 1, *sides)) > 0.3).astype(np.uint8)
        requests.append({"VOLUME": random.random(mask.shape, np.float32), "MASK": mask})
    together = execute(engine, spec, requests, [["LOGITS"]] * 4)
    assert sorted(runs) == [1, 3]
    for request, answer in zip(requests, together, strict=True):
        [alone] = execute(engine, spec, [request], [["LOGITS"]])
        np.testing.assert_allclose(answer["LOGITS"], alone["LOGITS"], atol=1e-6)
        assert answer["LOGITS"].shape[2:] == request["VOLUME"].shape[2:]
    unmasked = {**requests[0], "MASK": np.ones_like(requests[0]["MASK"])}
    [other] = execute(engine, spec, [unmasked], [["LOGITS"]])
    assert np.abs(other["LOGITS"] - together[0]["LOGITS"]).max() > 0.1


def test_strings_go_to_onnxruntime(tmp_path):
    tensors = [("X", TensorProto.STRING, ["b", 2])], [("Y", TensorProto.STRING, ["b", 2])]
    path = save(tmp_path / "model.onnx", [helper.make_node("Identity", ["X"], ["Y"])], *tensors)
    spec = spec_of([("X", "TYPE_STRING", [2])], [("Y", "TYPE_STRING", [2])])
    x = np.array([["é".encode(), b""]], dtype=np.object_)
    engine = load_engine(path, spec)
    assert engine.name == "onnxruntime"
    [answer] = execute(engine, spec, [{"X": x}], [["Y"]])
    assert answer["Y"].tolist() == x.tolist()


@pytest.mark.parametrize("name", ENGINES)
def test_requests_of_one_shape_share_a_run_and_others_have_their_own(tmp_path, name):
    spec = spec_of(*PAIR, engine=name)
    engine = load_engine(pair_model(tmp_path), spec)
    runs = []
    run = engine.run
    engine.run = lambda inputs, outputs: runs.append(inputs["A"].shape) or run(inputs, outputs)
    requests = [
        {"A": np.full((rows, width), n, np.float32), "B": np.ones((rows, width), np.float32)}
        for n, (rows, width) in enumerate([(1, 4), (2, 4), (1, 6), (3, 4), (2, 6)])
    ]
    wanted = [["TOTAL"], ["TWICE", "TOTAL"], ["TWICE"], ["TOTAL"], ["TOTAL"]]
    answers = execute(engine, spec, requests, wanted)
    assert runs == [(6, 4), (3, 6)]
    for n, (request, names, answer) in enumerate(zip(requests, wanted, answers, strict=True)):
        assert list(answer) == names
        if "TOTAL" in names:
            np.testing.assert_allclose(answer["TOTAL"], np.full((len(request["A"]), 1), n))
        if "TWICE" in names:
            np.testing.assert_array_equal(answer["TWICE"], 2 * request["A"])


def test_a_request_of_a_wrong_shape_fails_alone(tmp_path):
    spec = spec_of(*PAIR)
    good = {"A": np.ones((1, 4), np.float32), "B": np.ones((1, 4), np.float32)}
    bad = {"A": np.ones((1, 4, 4), np.float32), "B": np.ones((1, 4), np.float32)}
    first, second, third = execute(load_engine(pair_model(tmp_path), spec), spec, [good, bad, good], [["TOTAL"]] * 3)
    assert isinstance(second, InvalidInput)
    assert str(second) == "A has shape [1, 4, 4], the model wants [-1, -1]"
    assert first["TOTAL"] == third["TOTAL"] == 1.0


def test_a_request_that_makes_the_run_fail_fails_alone(tmp_path):
    path = save(
        tmp_path / "model.onnx",
        [helper.make_node("GatherElements", ["A", "I"], ["Y"], axis=1)],
        [("A", TensorProto.FLOAT, ["b", 4]), ("I", TensorProto.INT64, ["b", 4])],
        [("Y", TensorProto.FLOAT, ["b", 4])],
    )
    inputs = [("A", "TYPE_FP32", [4]), ("I", "TYPE_INT64", [4])]
    spec = spec_of(inputs, [("Y", "TYPE_FP32", [4])], engine="onnxruntime")
    requests = [
        {"A": np.arange(4, dtype=np.float32)[None], "I": np.full((1, 4), index, np.int64)} for index in (1, 99, 2)
    ]
    answers = execute(load_engine(path, spec), spec, requests, [["Y"]] * 3)
    assert isinstance(answers[1], EngineError)
    assert answers[0]["Y"].tolist() == [[1.0] * 4]
    assert answers[2]["Y"].tolist() == [[2.0] * 4]


def test_an_output_that_is_not_wanted_writes_to_nobodys_memory(tmp_path):
    """A run for some outputs must not fill the arrays that an earlier run handed out for the others."""
    shape = ["b", 64]
    path = save(
        tmp_path / "model.onnx",
        [helper.make_node("Add", ["X", "X"], ["Y"]), helper.make_node("Neg", ["X"], ["Z"])],
        [("X", TensorProto.FLOAT, shape)],
        [("Y", TensorProto.FLOAT, shape), ("Z", TensorProto.FLOAT, shape)],
    )
    outputs = [("Y", "TYPE_FP32", [64]), ("Z", "TYPE_FP32", [64])]
    engine = load_engine(path, spec_of([("X", "TYPE_FP32", [64])], outputs, engine="openvino"))
    first = engine.run({"X": np.ones((1, 64), np.float32)}, ["Y", "Z"])
    engine.run({"X": np.full((1, 64), 5, np.float32)}, ["Y"])
    assert set(first["Z"].ravel()) == {-1.0}
    assert set(first["Y"].ravel()) == {2.0}


def test_compiled_models_are_kept_whole_or_not_at_all(tmp_path):
    model, cache = tmp_path / "model.onnx", tmp_path / "cache"
    model.write_bytes(b"one")
    with contextlib.suppress(KeyboardInterrupt), compiled_folder(cache, model, "v1") as folder:
        (folder / "half").touch()
        raise KeyboardInterrupt
    assert list(cache.iterdir()) == []
    with compiled_folder(cache, model, "v1") as slower, compiled_folder(cache, model, "v1") as quicker:
        assert slower != quicker
        (slower / "blob").touch()
        (quicker / "blob").touch()
    with compiled_folder(cache, model, "v1") as found:
        assert [path.name for path in found.iterdir()] == ["blob"]
    assert list(cache.iterdir()) == [found]
    with compiled_folder(cache, model, "v2") as other:
        assert list(other.iterdir()) == []


def test_compiled_models_of_long_ago_are_forgotten(tmp_path):
    model, cache = tmp_path / "model.onnx", tmp_path / "cache"
    model.write_bytes(b"one")
    for version in range(KEPT + 3):
        with compiled_folder(cache, model, version) as folder:
            (folder / str(version)).touch()
    assert len(list(cache.iterdir())) == KEPT


def test_an_engine_from_the_cache_answers_as_the_one_that_filled_it(tmp_path):
    spec = spec_of(*PAIR, engine="openvino")
    path = pair_model(tmp_path)
    x = {name: np.ones((3, 4), np.float32) for name in ("A", "B")}
    first, again = (load_engine(path, spec, tmp_path / "cache").run(x, ["TOTAL"]) for _ in range(2))
    np.testing.assert_array_equal(first["TOTAL"], again["TOTAL"])
    assert list((tmp_path / "cache" / "openvino").glob("*/*"))


@pytest.mark.parametrize("total", range(1, 20))
def test_parts_cover_every_row_once(total):
    covered = [row for start, rows in parts(total, RUN_ROWS) for row in range(start, start + rows)]
    assert covered == list(range(total))


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        ([("A", "TYPE_FP32", [-1])], PAIR[1], "lacks the model's input B"),
        (PAIR[0], [("SUM", "TYPE_FP32", [1])], "the model has no output SUM, only TOTAL, TWICE"),
        ([("A", "TYPE_FP32", [-1]), ("B", "TYPE_INT8", [-1])], PAIR[1], "input B is float32, not int8"),
    ],
)
def test_a_configuration_that_is_not_the_models_is_refused(tmp_path, inputs, outputs, words):
    with pytest.raises(EngineError, match=words):
        load_engine(pair_model(tmp_path), spec_of(inputs, outputs))


def test_where_openvino_cannot_onnxruntime_does(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "wetread_onnx.openvino_engine", raising=False)
    path = pair_model(tmp_path)
    assert load_engine(path, spec_of(*PAIR)).name == "onnxruntime"
    assert "ONNX Runtime does" in caplog.text


@pytest.mark.parametrize(("key", "value"), [("engine", "tensorrt"), ("intra_op_thread_count", "two")])
def test_a_parameter_that_is_not_understood_is_refused(key, value):
    with pytest.raises(ValueError, match=key):
        spec_of(*PAIR, **{key: value})


def mark(store: Path, name: str) -> None:
    (store / MARKS).mkdir()
    (store / MARKS / name).touch()


def test_a_marked_version_is_loaded_by_a_thread_of_the_lowest_priority(tmp_path):
    def priority() -> tuple[int, bool]:
        own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        return own, threading.current_thread() is threading.main_thread()

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    version = tmp_path / "model_repository" / "m" / "3"
    assert load_gently(version, priority) == (before, True)
    mark(tmp_path, "m.3")
    assert load_gently(version, priority) == (LOWEST, False)
    assert load_gently(version.with_name("4"), priority) == (before, True)
    assert priority() == (before, True)


def test_a_marked_versions_error_reaches_the_caller(tmp_path):
    mark(tmp_path, "m.3")
    with pytest.raises(ZeroDivisionError):
        load_gently(tmp_path / "model_repository" / "m" / "3", lambda: 1 // 0)


WARM = {"name": "w", "batch_size": 2, "inputs": {"X": {"data_type": "TYPE_FP32", "dims": ["3"], "random_data": True}}}


def test_warm_ups_are_run_before_triton_runs_them_and_one_that_fails_is_a_load_that_fails(tmp_path):
    class Counts:
        inputs = outputs = ()

        def __init__(self, broken=False):
            self.broken, self.seen = broken, []

        def run(self, inputs, outputs):
            if self.broken:
                raise EngineError("out of range")
            self.seen.append(inputs["X"])
            return dict.fromkeys(outputs, inputs["X"])

    tensors = {"data_type": "TYPE_FP32", "dims": ["3"]}
    config = {
        "name": "m",
        "max_batch_size": 8,
        "input": [{"name": "X", **tensors}],
        "output": [{"name": "Y", **tensors}],
    }
    engine = Counts()
    warm_up(engine, json.dumps(config))
    assert engine.seen == []
    warm_up(engine, json.dumps(config | {"model_warmup": [WARM]}))
    assert [array.shape for array in engine.seen] == [(2, 3)]
    assert engine.seen[0].any()
    with pytest.raises(EngineError, match="warm-up w: out of range"):
        warm_up(Counts(broken=True), json.dumps(config | {"model_warmup": [WARM]}))
