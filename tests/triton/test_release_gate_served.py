"""The gate over a tiny pipeline in a real Triton: what passes, what is stopped, and what is left in the draft."""

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import typer
from killed_triton import KilledTriton
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from tiny_release import PIPELINE, SIDE, TinySite, constant_model, spec
from typer.testing import CliRunner
from wetread_embedded import EmbeddedTriton, ServerConfig
from wetread_models.quantise import Int8Options, int8
from wetread_release.draft import Draft, content_digest
from wetread_release.evidence import gate_records, golden_films
from wetread_release.gate.films import patient_hash
from wetread_release.gate.lay_out import provide_backends
from wetread_release.gate_command import gate

pytestmark = pytest.mark.triton
FILMS_A_CLASS = 24


def brightness_model() -> onnx.ModelProto:
    """LOGITS are 12 times the mean of IMAGE, -1 for black and 1 for white, less 2: positive is what is bright."""
    rng = np.random.default_rng(0)
    kernel = np.abs(rng.normal(1, 0.2, (4, 1, 4, 4)))
    weights = {
        "kernel": kernel / kernel.sum(axis=(1, 2, 3), keepdims=True),
        "mix": np.full((4, 4, 1, 1), 0.25),
        "layer": np.full((4, 1), 3.0),
        "bias": np.array([-2.0]),
    }
    nodes = [
        helper.make_node("Conv", ["IMAGE", "kernel"], ["seen"], "first", strides=[4, 4]),
        helper.make_node("Conv", ["seen", "mix"], ["mixed"], "second"),
        helper.make_node("GlobalAveragePool", ["mixed"], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "layer", "bias"], ["LOGITS"], "last"),
    ]
    image = helper.make_tensor_value_info("IMAGE", TensorProto.FLOAT, ["batch", 1, SIDE, SIDE])
    logits = helper.make_tensor_value_info("LOGITS", TensorProto.FLOAT, ["batch", 1])
    constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "brightness", [image], [logits], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model


@pytest.fixture
def site(tmp_path, monkeypatch) -> TinySite:
    """A checkout that ships the brightness model; the working folder is in it."""
    site = TinySite(tmp_path / "site")
    onnx.save(brightness_model(), site.root / f"model_repository/{PIPELINE}_classifier/1/model.onnx")
    monkeypatch.chdir(site.root)
    return site


@pytest.fixture(autouse=True)
def _killed(monkeypatch) -> None:
    """Let the gate kill its server in the end."""
    monkeypatch.setattr("wetread_release.gate.server.EmbeddedTriton", KilledTriton)


@pytest.fixture
def brief(monkeypatch) -> None:
    """Measure a little, where nobody looks at the speed: no limit hangs on films a second or on full batches."""
    for name, count in {"_ROUNDS": 1, "_LEAST_OF_A_ROUND": 8, "_BATCHES": 1}.items():
        monkeypatch.setattr(f"wetread_release.gate.measure.{name}", count)


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    """Noisy pictures, dark ones of healthy patients and bright ones of ill ones."""
    folder = tmp_path_factory.mktemp("films")
    rng = np.random.default_rng(1)
    for place, (name, level) in enumerate((("NORMAL/IM-{:04}-0001", 90), ("PNEUMONIA/person{}_virus_1", 160))):
        for number in range(FILMS_A_CLASS):
            pixels = np.clip(rng.normal(level + number, 6, (48, 40)), 0, 255).astype(np.uint8)
            path = folder / (name.format(number + 100 * place) + ".png")
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(path)
    return folder


def quantised(site: TinySite, span: float) -> Path:
    """Leave a draft whose classifier was quantised with images of values in -span..span: right is 1."""
    folder = site.draft(0.0, name="int8")
    rows = np.random.default_rng(2).uniform(-span, span, (64, 1, SIDE, SIDE)).astype(np.float32)
    fp32 = site.folder / "fp32.onnx"
    onnx.save(brightness_model(), fp32)
    model = folder / "parts/classifier/model.onnx"
    int8(fp32, model, {"IMAGE": rows}, Int8Options(calibration="minmax", float_share=0.0, correct_bias=False))
    replace(Draft.load(folder), precision="int8").save(folder)
    return folder


def run(*arguments: object) -> tuple[int, str, str]:
    app = typer.Typer()
    app.command()(gate)
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as limits:
        print("max_latency_ratio = 1000", file=limits, flush=True)  # of a few requests on a busy machine
        words = arguments if "--limits" in arguments else (*arguments, "--limits", limits.name)
        result = CliRunner().invoke(app, [*map(str, words), "--full-speed", "--times", "6"])
    return result.exit_code, result.stdout, result.stderr


def record(draft: Path) -> dict[str, object]:
    (path,) = (path for path in (draft / "gate").glob("*.json") if path.name != "golden.json")
    document = json.loads(path.read_text())
    assert isinstance(document, dict)
    return document


def test_a_well_quantised_draft_passes_and_leaves_what_publish_needs(site, films):
    draft = quantised(site, 1.0)
    code, out, err = run(draft, "--data", films, "--state-dir", site.state)
    assert code == 0, err
    assert "passed" in out
    (summary,) = gate_records(draft, content_digest(draft, Draft.load(draft)))
    assert summary.passed
    assert (summary.engine, summary.precision, summary.target) == ("onnxruntime", "int8", "cpu")
    assert summary.figures["films"] == 2 * FILMS_A_CLASS
    assert summary.figures["auc"] == 1.0
    assert {"p50_ms", "p99_ms", "films_per_s", "batch_ms", "memory_mib", "network_speedup"} <= summary.figures.keys()
    assert summary.figures["memory_mib"] > 10
    golden = golden_films(draft)
    assert golden is not None
    (answers,) = golden.records
    assert len(answers.probabilities) == len(golden.films) >= 4
    assert (draft / "gate/report.html").is_file()


@pytest.mark.full
def test_an_int8_of_the_wrong_calibration_is_stopped_and_its_films_are_shown(site, films):
    draft = quantised(site, 0.02)
    code, _, err = run(draft, "--data", films, "--state-dir", site.state)
    assert code == 1
    assert "flipped" in err
    assert "FAILED" in err
    written = record(draft)
    flips = written["flips"]
    assert isinstance(flips, list)
    assert flips
    assert flips[0]["film"] in err
    report = (draft / "gate/report.html").read_text()
    assert report.count("data:image/png;base64,") >= 2
    (summary,) = gate_records(draft, content_digest(draft, Draft.load(draft)))
    assert not summary.passed


@pytest.mark.usefixtures("brief")
def test_limits_of_a_file_can_stop_what_passes_by_default(site, films, tmp_path):
    (tmp_path / "gate.toml").write_text("min_films = 1000\n")
    draft = quantised(site, 1.0)
    code, _, err = run(draft, "--data", films, "--limits", tmp_path / "gate.toml", "--state-dir", site.state)
    assert code == 1
    assert "1000 are needed" in err


@pytest.mark.full
def test_without_films_synthetic_ones_are_read_and_that_is_said(site):
    draft = site.draft(0.0)
    shutil.copyfile(
        site.root / f"model_repository/{PIPELINE}_classifier/1/model.onnx", draft / "parts/classifier/model.onnx"
    )
    code, _, err = run(draft, "--state-dir", site.state)
    assert code == 0, err
    assert "synthetic" in err
    written = record(draft)
    assert written["films"]["synthetic"] is True  # type: ignore[index]
    assert "auc" not in written["summary"]["figures"]  # type: ignore[index]


def test_a_draft_that_does_not_load_is_told_with_triton_s_words(site, films):
    draft = site.draft(0.0)
    (draft / "parts/classifier/model.onnx").write_bytes(b"no model")
    code, _, err = run(draft, "--data", films, "--state-dir", site.state)
    assert code == 1
    assert "the draft does not load" in err
    assert f"{PIPELINE}_classifier_draft" in err
    assert "Traceback" not in err


def test_a_draft_of_other_shapes_is_told_with_the_film(site, films):
    draft = site.draft(0.0)
    loaded = Draft.load(draft)
    wrong = spec(SIDE * 2)
    parts = tuple(
        replace(part, config=replace(part.config, inputs=(wrong.image,))) if part.role == "classifier" else part
        for part in loaded.parts
    )
    replace(loaded, parts=parts).save(draft)
    code, _, err = run(draft, "--reference", "none", "--data", films, "--state-dir", site.state)
    assert code == 1
    assert "shape" in err
    assert "Traceback" not in err


@pytest.mark.usefixtures("brief")
def test_a_pipeline_without_a_reference_is_gated_alone(site, films):
    draft = quantised(site, 1.0)
    code, _, err = run(draft, "--data", films, "--reference", "none", "--state-dir", site.state)
    assert code == 0, err
    assert "there is no reference" in err
    assert record(draft)["reference"] is None


@pytest.mark.full
def test_a_triton_that_somebody_else_started_is_asked_about_this_draft_alone(site, films, tmp_path):
    draft, laid_out = quantised(site, 1.0), tmp_path / "laid-out"
    code, out, err = run(draft, "--lay-out", laid_out, "--state-dir", site.state)
    assert code == 0, err
    assert f"{PIPELINE}_draft and {PIPELINE}_reference" in out
    assert run(draft, "--lay-out", laid_out, "--state-dir", site.state)[0] == 1
    provide_backends(laid_out, site.root)
    config = ServerConfig.on_free_ports(root=laid_out, store=tmp_path / "store", state=tmp_path / "state")
    with EmbeddedTriton(config) as triton:
        told = ["--url", triton.http_url, "--data", films, "--state-dir", site.state]
        code, _, err = run(draft, *told)
        assert code == 0, err
        figures = record(draft)["summary"]["figures"]  # type: ignore[index]
        assert figures["films"] == 2 * FILMS_A_CLASS
        assert "memory_mib" not in figures
        onnx.save(constant_model(1.0), draft / "parts/classifier/model.onnx")
        code, _, err = run(draft, *told)
    assert code == 1
    assert "another tiny_draft" in err


def test_films_of_patients_of_the_calibration_are_refused_before_anything_is_served(site, films):
    draft = quantised(site, 1.0)
    patients = [patient_hash("virus-person100")]
    (draft / "build.json").write_text(json.dumps({"calibration": {"patients": patients}}))
    code, _, err = run(draft, "--data", films, "--state-dir", site.state)
    assert code == 1
    assert "PNEUMONIA/person100_virus_1.png" in err
    assert not (draft / "gate").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--reference", "7"], 1, "7"),
        (["--reference", "newest"], 1, "newest"),
        (["--data", "nowhere"], 1, "nowhere"),
        (["--test-split", "0"], 2, "--data"),
        (["--url", "grpc://127.0.0.1:1"], 1, "http://host:port"),
        (["--url", "http://127.0.0.1:1"], 1, "does not serve tiny_draft"),
        (["--url", "http://127.0.0.1:1", "--lay-out", "there"], 2, "--lay-out comes first"),
    ],
)
def test_a_wrong_call_is_told(site, films, arguments, code, words):
    # Films of a folder need not be drawn first.
    data = () if {"--data", "--test-split"} & {*arguments} else ("--data", films)
    got, _, err = run(site.draft(0.0), *arguments, *data, "--state-dir", site.state)
    assert got == code
    assert words in err
    assert "Traceback" not in err
