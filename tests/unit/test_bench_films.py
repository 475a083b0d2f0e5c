from __future__ import annotations

import io
import sqlite3
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
from client_stand_in import Refusal, StandIn
from wetread_bench.encode import SYNTAXES, encode, verify
from wetread_bench.load import LoadGenerator
from wetread_bench.perf_analyzer import read_report
from wetread_bench.plain_stack import make_app
from wetread_preprocess import FilmPreprocessor

CHECKOUT = Path(__file__).parents[2]
MODELS = CHECKOUT / "model_repository"


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    rng = np.random.default_rng(3)
    slope = np.add.outer(np.arange(256), np.arange(320)) * 7
    return np.clip(slope + rng.normal(0, 4, slope.shape), 0, 4095).astype(np.uint16)


def frame(file: bytes) -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(file))
    return next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_syntax_holds_the_film_bit_for_bit(pixels: np.ndarray, syntax: str) -> None:
    file = encode(pixels, 0, syntax, 12)
    verify(file, pixels, syntax)
    assert pydicom.dcmread(io.BytesIO(file)).file_meta.TransferSyntaxUID == SYNTAXES[syntax]
    changed = pixels.copy()
    changed[5, 7] ^= 1
    with pytest.raises(ValueError, match="does not decode to its pixels"):
        verify(file, changed, syntax)


def test_jpeg_2000_films_have_five_decomposition_levels(pixels: np.ndarray) -> None:
    stream = frame(encode(pixels, 0, "j2k", 12))
    cod = stream.index(b"\xff\x52")
    assert stream[cod + 9] == 5
    assert stream[cod + 13] == 1  # the reversible 5-3 wavelet (ISO/IEC 15444-1 Table A.20)


def test_jpeg_lossless_films_have_the_first_selection_value(pixels: np.ndarray) -> None:
    stream = frame(encode(pixels, 0, "jpll", 12))
    scan = stream.index(b"\xff\xda")
    assert stream[scan + 7] == 1  # ITU-T T.81 B.2.3: Ss of one component


@pytest.mark.slow
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_the_pipeline_reads_the_benchmarks_films(pixels: np.ndarray, syntax: str) -> None:
    with FilmPreprocessor.load(MODELS / "chest_xray_preprocess" / "1") as preprocessor:
        film = preprocessor.read(encode(pixels, 0, syntax, 12))
        raw = preprocessor.read(encode(pixels, 0, "raw", 12))
    np.testing.assert_array_equal(film.image, raw.image)


def generator(stand_in: StandIn, tmp_path: Path, way: str) -> LoadGenerator:
    films = [tmp_path / f"{number}.dcm" for number in range(3)]
    for number, film in enumerate(films):
        film.write_bytes(bytes([80 * number]) * 2000)
    load = LoadGenerator()
    load.load([str(film) for film in films])
    load.aim(way, stand_in.url)
    return load


@pytest.mark.parametrize("way", ["shm", "shm_no_pool", "http"])
def test_the_load_generator_sends_each_film_as_it_is(way: str, tmp_path: Path) -> None:
    with StandIn() as stand_in:
        load = generator(stand_in, tmp_path, way)
        assert load.probabilities() == pytest.approx([0, 80 / 255, 160 / 255])
        load.release()


def test_without_the_pool_every_film_gets_a_region_of_its_own(tmp_path: Path) -> None:
    registered = {}
    for way in ("shm", "shm_no_pool"):
        with StandIn() as stand_in:
            load = generator(stand_in, tmp_path, way)
            load.probabilities()
            load.probabilities()
            registered[way] = sum(path.endswith("/register") for path in stand_in.paths)
            load.release()
    assert registered == {"shm": 1, "shm_no_pool": 6}


def test_failed_requests_are_counted_and_never_tried_again(tmp_path: Path) -> None:
    with StandIn(answer=lambda _: Refusal(503, "busy")) as stand_in:
        load = generator(stand_in, tmp_path, "http")
        # By a timetable: what was to leave in these 0.2 s is sent, however late.
        seen = load.run(threads=2, start_at=time.monotonic(), seconds=0.2, warm_s=0.0, rate=50.0, seed=1)
        load.release()
    assert sum(seen["errors"].values()) == len(stand_in.films) > 0


@pytest.mark.slow
def test_latency_counts_from_the_intended_moment(tmp_path: Path) -> None:
    with StandIn() as stand_in:
        load = generator(stand_in, tmp_path, "http")
        begun = time.monotonic() - 1.5  # the timetable began long ago, so every film is late
        seen = load.run(threads=1, start_at=begun, seconds=4.5, warm_s=0.0, rate=20.0, seed=1)
        load.release()
    assert not seen["errors"]
    assert max(seen["latencies_ms"]) > 1000


@pytest.mark.slow
def test_the_plain_stack_answers_and_writes_its_log(pixels: np.ndarray, tmp_path: Path) -> None:
    database = tmp_path / "log.sqlite"
    client = make_app(MODELS / "chest_xray_classifier" / "1" / "model.onnx", database).test_client()
    answers = [client.post("/read", data=encode(pixels, 0, syntax, 12)).get_json() for syntax in ("raw", "j2k")]
    assert answers[0]["probability"] == pytest.approx(answers[1]["probability"])
    log = sqlite3.connect(database)
    rows = log.execute("SELECT uid, probability FROM readings").fetchall()
    log.close()
    assert rows == [(answer["sop_instance_uid"], answer["probability"]) for answer in answers]


def test_perf_analyzers_report_is_read_in_milliseconds() -> None:
    report = "Concurrency,Inferences/Second,Client Send,p50 latency,p90 latency,p99 latency\n8,164.5,4,45307,1,123159\n"
    assert read_report(report) == {"films_per_s": 164.5, "p50_ms": 45.307, "p99_ms": 123.159}
