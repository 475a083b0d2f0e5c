"""Golden films are the same each time and any film pipeline reads them; a device is named by what it computes with."""

from dataclasses import replace
from pathlib import Path

import pytest
from wetread_client import Client
from wetread_client.fake import FakeTransport, fake_answer
from wetread_preprocess import FilmOptions, FilmPreprocessor, Recipe
from wetread_release import device
from wetread_release.errors import Absent, ServeFailed
from wetread_release.golden import ask, draw_films, golden_films, golden_of, golden_seeds

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_golden_films_are_drawn_alike_each_time_and_cover_every_label():
    films = golden_films(ROOT)
    assert films == golden_films(ROOT)
    assert len(films) == len(golden_seeds()) >= 4
    assert len(set(films)) == len(films)
    assert len({label for label, _ in golden_seeds()}) == 2


def test_golden_films_are_read_by_the_shipped_recipe():
    with FilmPreprocessor.load(ROOT / "model_repository/chest_xray_preprocess/1") as preprocessor:
        for film in golden_films(ROOT):
            assert preprocessor.read(film, FilmOptions(declared_film=True, any_body_part=True)).image.shape == (
                1,
                224,
                224,
            )


def test_golden_films_are_read_by_a_pipeline_of_another_modality():
    recipe = Recipe.load(ROOT / "model_repository/chest_xray_preprocess/1")
    with FilmPreprocessor(replace(recipe, modalities=frozenset({"MG"}))) as preprocessor:
        for film in golden_films(ROOT):
            preprocessor.read(film, FilmOptions(declared_film=True, any_body_part=True))


def test_a_label_that_cannot_be_drawn_is_named():
    with pytest.raises(Absent, match="broken bone"):
        draw_films(ROOT, [("broken bone", 1)])


def test_without_a_film_model_it_is_said_what_is_missing(tmp_path):
    with pytest.raises(Absent, match=r"synthetic_films\.npz"):
        golden_films(tmp_path)


def test_the_film_model_is_recorded_by_its_digest():
    assert len(golden_of(ROOT, ()).film_model) == 64


def test_a_server_is_asked_film_by_film_whatever_the_file_says_it_shows():
    transport = FakeTransport([fake_answer((0.25,)), fake_answer((0.75,))])
    with Client(transport=transport) as client:
        record = ask(client, [b"one", b"two"], "onnxruntime", "cpu-avx2")
    assert (record.engine, record.device) == ("onnxruntime", "cpu-avx2")
    assert record.probabilities[-1] == (0.75,)
    assert len(record.positive) == 2
    assert all(request.parameters == {"declared_film": True, "any_body_part": True} for request in transport.requests)


def test_a_golden_film_that_is_not_read_is_named():
    with Client(transport=FakeTransport([fake_answer()])) as client, pytest.raises(ServeFailed, match="golden film 2"):
        ask(client, [b"one", b""], "onnxruntime", "cpu-avx2")


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ("fpu avx2 avx512f avx512_vnni amx_int8", "cpu-amx_int8"),
        ("fpu avx2 avx512f avx512_vnni", "cpu-avx512_vnni"),
        ("fpu avx2", "cpu-avx2"),
    ],
)
def test_a_cpu_is_named_by_its_best_vector_unit(tmp_path, flags, name):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    assert device.cpu_device(tmp_path / "cpuinfo") == name


def test_a_cpu_that_says_nothing_is_named_by_its_architecture(tmp_path, monkeypatch):
    monkeypatch.setattr(device.platform, "machine", lambda: "riscv64")
    assert device.cpu_device(tmp_path / "none") == "cpu-riscv64"


def test_a_gpu_counts_only_with_tensorrt(monkeypatch):
    monkeypatch.setattr(device, "find_gpu", lambda: device.Gpu((9, 0)))
    monkeypatch.setattr(device, "tensorrt_version", lambda: 11)
    assert (device.this_device(), device.this_target()) == ("sm_90", "sm_90-trt11")
    monkeypatch.setattr(device, "tensorrt_version", lambda: 0)
    assert device.this_target() == "cpu"
    assert device.this_device() == device.cpu_device()
