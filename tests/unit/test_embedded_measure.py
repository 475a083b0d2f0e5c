"""The stand-in's engines timed in turns, and INT8 files on both of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_network import SIDE, images, small_network
from wetread_models.quantise import Int8Options, int8

BACKEND = Path(__file__).parents[2] / "embedded" / "backends" / "onnxruntime"
sys.path.append(str(BACKEND))  # Triton puts it on the path, here we do

from wetread_onnx import ModelSpec, load_engine  # noqa: E402
from wetread_onnx.measure import measure  # noqa: E402

CONFIG = {
    "name": "small",
    "max_batch_size": 8,
    "input": [{"name": "IMAGE", "data_type": "TYPE_FP32", "dims": [1, SIDE, SIDE]}],
    "output": [{"name": "LOGITS", "data_type": "TYPE_FP32", "dims": [1]}],
}


def spec(engine="auto"):
    return ModelSpec.from_json(json.dumps(CONFIG | {"parameters": {"engine": {"string_value": engine}}}))


@pytest.fixture
def quantised(tmp_path):
    source = small_network(tmp_path / "fp32.onnx")
    int8(source, tmp_path / "int8.onnx", {"IMAGE": images()}, Int8Options(calibration="minmax", float_share=0.0))
    return tmp_path / "int8.onnx"


@pytest.mark.slow
def test_both_engines_say_the_same_of_an_int8_file(quantised):
    rows = {"IMAGE": images(8, seed=5)}
    answers = [
        load_engine(quantised, spec(name)).run(rows, ["LOGITS"])["LOGITS"] for name in ("openvino", "onnxruntime")
    ]
    assert np.abs(answers[0] - answers[1]).max() < 0.05 * np.abs(answers[1]).max()


@pytest.mark.slow
def test_every_file_engine_and_batch_is_timed_as_often(quantised, tmp_path):
    answers = measure(spec(), [tmp_path / "fp32.onnx", quantised], ("openvino", "onnxruntime"), (1, 3), 4)
    assert len(answers) == 8
    assert {(each["engine"], each["batch"]) for each in answers} == {
        (engine, batch) for engine in ("openvino", "onnxruntime") for batch in (1, 3)
    }
    assert all(len(each["ms"]) == 4 and min(each["ms"]) > 0 for each in answers)


def test_a_file_that_does_not_load_is_told_and_the_others_are_timed(quantised, tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    answers = measure(spec(), [tmp_path / "broken.onnx", quantised], ("onnxruntime",), (1,), 2)
    by_model = {Path(each["model"]).name: each for each in answers}
    assert by_model["broken.onnx"]["error"]
    assert "ms" not in by_model["broken.onnx"]
    assert len(by_model["int8.onnx"]["ms"]) == 2


@pytest.mark.slow
def test_it_runs_as_a_process_of_its_own_that_answers_in_json(quantised):
    job = {"config": CONFIG, "models": [str(quantised)], "engines": ["onnxruntime"], "batches": [8], "repeats": 2}
    done = subprocess.run(
        [sys.executable, "-m", "wetread_onnx.measure"],
        input=json.dumps(job),
        env=os.environ | {"PYTHONPATH": str(BACKEND)},
        capture_output=True,
        text=True,
        check=True,
    )
    (answer,) = json.loads(done.stdout)
    assert (answer["engine"], answer["batch"], len(answer["ms"])) == ("onnxruntime", 8, 2)
