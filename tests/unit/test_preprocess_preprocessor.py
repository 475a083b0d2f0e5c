"""One entry for films and series: the recipe's kind decides, and a series' files are cut apart by their lengths."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from films import film, radiograph, to_bytes
from volume_release import phantom
from wetread_preprocess import InvalidDicom, Request, load_preprocessor
from wetread_preprocess.preprocessor import _VOLUME, FilmReader, SeriesReader, split
from wetread_preprocess.volumes.recipe import KIND

MODELS = Path(__file__).parents[2] / "model_repository"


@pytest.mark.parametrize(
    ("pipeline", "kind"), [("chest_xray", FilmReader), ("chest_ct", SeriesReader), ("brain_mr", SeriesReader)]
)
def test_the_recipe_says_what_is_read(pipeline, kind):
    preprocessor = load_preprocessor(MODELS / f"{pipeline}_preprocess" / "1")
    assert type(preprocessor) is kind
    preprocessor.close()


def test_the_kind_is_the_volume_recipes_own():
    assert _VOLUME == KIND


@pytest.mark.slow
def test_a_server_of_films_imports_nothing_of_volumes():
    told = f"""
import sys
from pathlib import Path
from wetread_preprocess import load_preprocessor
load_preprocessor(Path({str(MODELS / "chest_xray_preprocess" / "1")!r})).close()
assert not [name for name in sys.modules if name.startswith(("wetread_preprocess.volumes", "numba", "SimpleITK"))]
"""
    subprocess.run([sys.executable, "-c", told], check=True)


def test_a_film_is_read_with_what_its_request_says():
    dicom = to_bytes(film(radiograph(300, 300), BodyPartExamined="KNEE"))
    reader = load_preprocessor(MODELS / "chest_xray_preprocess" / "1")
    tensors = reader.read(Request(dicom, parameters={"any_body_part": True}))
    reader.close()
    assert set(tensors) == {"IMAGE", "GEOMETRY"}
    assert json.loads(tensors["GEOMETRY"].tobytes())["rows"] == 300


def test_files_are_cut_apart_as_views_in_their_order():
    files = [b"one", b"twelve", b"3"]
    whole = np.frombuffer(b"".join(files), np.uint8)
    parts = split(whole, [len(file) for file in files])
    assert [part.tobytes() for part in parts] == files
    assert all(np.shares_memory(part, whole) for part in parts)


@pytest.mark.parametrize("whole", [b"onetwelve", memoryview(b"onetwelve")])
def test_any_buffer_is_cut(whole):
    assert [part.tobytes() for part in split(whole, [3, 6])] == [b"one", b"twelve"]


@pytest.mark.parametrize(
    ("lengths", "words"),
    [
        ([], "LENGTHS is empty"),
        ([3, 0, 6], "states 0 bytes for file 2 of 3"),
        ([-3, 12], "states -3 bytes for file 1 of 2"),
        ([3, 5], "adds up to 8 bytes for 2 files, and DICOM holds 9"),
        ([3, 7], "adds up to 10 bytes"),
        ([2**62, 2**62, 2**62, 2**62 + 9], "adds up to"),
    ],
)
def test_lengths_that_do_not_add_up_are_refused(lengths, words):
    with pytest.raises(InvalidDicom, match=words):
        split(b"onetwelve", lengths)


def test_a_series_becomes_volume_mask_and_geometry():
    sent = phantom((12, 20, 24))
    reader = load_preprocessor(MODELS / "brain_mr_preprocess" / "1")
    tensors = reader.read(Request(sent.dicom, sent.lengths))
    reader.close()
    geometry = json.loads(tensors["GEOMETRY"].tobytes())
    padded = (1, *geometry["volume"]["padded"])
    assert (tensors["VOLUME"].shape, tensors["MASK"].shape) == (padded, padded)
    assert (tensors["VOLUME"].dtype, tensors["MASK"].dtype) == (np.float32, np.uint8)
    assert geometry["volume"]["orientation"] == "LIA"
    assert tensors["MASK"].sum() == np.prod(geometry["volume"]["shape"])


LOAD = """
import importlib.util, sys, time, types

sys.modules["triton_python_backend_utils"] = types.ModuleType("stands in for what only Triton's process has")
spec = importlib.util.spec_from_file_location("model", sys.argv[1])
model = importlib.util.module_from_spec(spec)
spec.loader.exec_module(model)
model._SLOW_LOAD_S = 0.3

def reads_the_recipe(folder):
    time.sleep(float(sys.argv[2]))
    return types.SimpleNamespace(start=lambda: None)

model.load_preprocessor = reads_the_recipe
model.TritonPythonModel().initialize({"model_repository": "/", "model_version": "1"})
time.sleep(float(sys.argv[3]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("takes_s", "then_s", "told"), [(1.0, 0.0, True), (0.0, 1.0, False)])
def test_a_load_that_does_not_end_says_in_the_log_where_it_is(takes_s, then_s, told):
    adapter = MODELS.parent / "preprocess_backend" / "model.py"
    command = [sys.executable, "-c", LOAD, str(adapter), str(takes_s), str(then_s)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ("in reads_the_recipe" in ended.stderr) == told
