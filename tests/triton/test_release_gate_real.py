"""The reference classifier in INT8 through the gate, over real films of patients that nobody has trained with."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner
from wetread_models.data import as_image, list_films, read_pictures, split_patients
from wetread_models.quantise import Int8Options, _saturates, int8
from wetread_release.checkout import shipped_pipeline
from wetread_release.draft import Draft, content_digest
from wetread_release.evidence import gate_records
from wetread_release.gate_command import gate
from wetread_release.manifest import GateSummary

pytestmark = [pytest.mark.triton, pytest.mark.data, pytest.mark.full]

ROOT = Path(__file__).parents[2]
SPLIT = 0  # of the shipped training


@pytest.fixture
def films(data_folder, monkeypatch) -> Path:
    monkeypatch.chdir(ROOT)
    return data_folder / "chest_xray"


def quantised(folder: Path, images: np.ndarray, options: Int8Options) -> Path:
    shipped_pipeline(ROOT, "chest_xray").lay_out(folder)
    source = ROOT / "model_repository/chest_xray_classifier/1/model.onnx"
    int8(source, folder / "parts/classifier/model.onnx", {"IMAGE": images}, options)
    replace(Draft.load(folder), precision="int8").save(folder)
    return folder


def gated(draft: Path, films: Path, state: Path) -> tuple[int, str, GateSummary]:
    app = typer.Typer()
    app.command()(gate)
    told = ["--data", films, "--test-split", SPLIT, "--reference", "checkout", "--state-dir", state, "--full-speed"]
    result = CliRunner().invoke(app, [str(word) for word in (draft, *told)])
    (summary,) = gate_records(draft, content_digest(draft, Draft.load(draft)))
    return result.exit_code, result.stderr, summary


@pytest.mark.skipif(
    _saturates(), reason="this CPU has no VNNI: 7-bit weights flip 1.4 % of the films, and the gate rightly stops that"
)
def test_the_int8_classifier_passes(tmp_path, films):
    train = split_patients(list_films(films), SPLIT).train
    drawn = np.random.default_rng(0).permutation(len(train))[:256]
    images = as_image(read_pictures([train[index] for index in drawn.tolist()]))
    code, told, summary = gated(quantised(tmp_path / "draft", images, Int8Options()), films, tmp_path / "state")
    assert code == 0, told
    assert summary.figures["films"] == len(split_patients(list_films(films), SPLIT).test)
    assert summary.figures["auc_drop"] <= 0.005
    assert summary.figures["flips_percent"] <= 1.0
    assert summary.figures["network_speedup"] > 1.0


def test_an_int8_calibrated_with_what_are_no_films_is_stopped(tmp_path, films):
    noise = np.random.default_rng(0).uniform(-0.05, 0.05, (32, 1, 224, 224)).astype(np.float32)
    options = Int8Options(calibration="minmax", float_share=0.0, correct_bias=False)
    code, told, summary = gated(quantised(tmp_path / "draft", noise, options), films, tmp_path / "state")
    assert code == 1
    assert not summary.passed
    assert any("flipped" in failure for failure in summary.failures)
    assert any("AUC" in failure for failure in summary.failures)
    assert "NORMAL/" in told or "PNEUMONIA/" in told
    assert (tmp_path / "draft/gate/report.html").read_text().count("data:image/png;base64,") >= 2
