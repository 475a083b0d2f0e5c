"""Any model on labelled pictures, alone and against another one."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner
from wetread_models.cli import app
from wetread_models.evaluate import evaluate
from wetread_models.synthetic import LABELS, FilmModel
from wetread_models.synthetic_fit import draw

REPOSITORY = Path(__file__).parents[2] / "model_repository"
MODEL = REPOSITORY / "chest_xray_classifier" / "1" / "model.onnx"
RULES = REPOSITORY / "chest_xray_postprocess" / "1"


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight drawn films of each class, two of each patient."""
    folder = tmp_path_factory.mktemp("films")
    drawn = FilmModel.load(REPOSITORY / "chest_xray_classifier" / "synthetic_films.npz")
    for label, (group, name) in zip(LABELS, (("NORMAL", "IM-{}-{}"), ("PNEUMONIA", "person{}_virus_{}")), strict=True):
        (folder / group).mkdir()
        for number, picture in enumerate(draw(drawn, label, range(8))):
            cv2.imwrite(str(folder / group / f"{name.format(number // 2, number)}.png"), picture)
    return folder


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with a bias that makes every film positive: ranks stay, decisions do not."""
    model = onnx.load(MODEL)
    (bias,) = (tensor for tensor in model.graph.initializer if tensor.name == "head.bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(30), bias.name))
    path = tmp_path_factory.mktemp("models") / "shifted.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.slow
def test_a_model_agrees_with_itself(films: Path) -> None:
    result = evaluate(films, MODEL, RULES, reference=MODEL)
    assert (result.films, result.patients, result.auc.value) == (16, 8, 1.0)
    assert result.compared.flips == ()
    assert result.compared.mean_change < 1e-6
    assert result.compared.auc_difference.p == result.compared.delong.p == 1.0


@pytest.mark.slow
def test_the_films_that_flip_are_named_and_the_calibration_error_tells(films: Path, shifted: Path) -> None:
    result = evaluate(films, shifted, RULES, reference=MODEL)
    assert len(result.compared.flips) == 8
    assert all(name.startswith("NORMAL/IM-") for name in result.compared.flips)
    assert result.compared.flip_share == 0.5
    assert result.compared.auc_difference.difference.value == 0.0
    assert result.calibration.expected > 0.4 > evaluate(films, MODEL, RULES).calibration.expected


@pytest.mark.slow
def test_a_test_split_reads_only_the_patients_kept_for_it(films: Path) -> None:
    every, test = evaluate(films, MODEL, RULES), evaluate(films, MODEL, RULES, test_split=0)
    assert 0 < test.patients < every.patients
    assert test.films == 2 * test.patients


@pytest.mark.slow
def test_the_command_prints_the_comparison(films: Path, shifted: Path) -> None:
    words = ["evaluate", "--data", str(films), "--model", str(shifted), "--card", str(RULES), "--reference", str(MODEL)]
    table = CliRunner().invoke(app, words)
    assert table.exit_code == 0, table.output
    assert "8 films, 50.00%" in table.output
    document = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert len(document["compared"]["flips"]) == 8
