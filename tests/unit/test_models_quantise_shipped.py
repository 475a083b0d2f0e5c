"""The INT8 of the shipped classifier, on patients that neither trained nor calibrated it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from wetread_models.data import as_image, list_films, read_pictures, split_patients
from wetread_models.evaluate import evaluate
from wetread_models.quantise import Int8Options, int8

REPOSITORY = Path(__file__).parents[2] / "model_repository"
MODEL = REPOSITORY / "chest_xray_classifier" / "1" / "model.onnx"
RULES = REPOSITORY / "chest_xray_postprocess" / "1"
SEED = 0  # of the training, see figures.json


@pytest.mark.data
@pytest.mark.full
def test_int8_of_the_shipped_classifier_decides_as_fp32_does(data_folder: Path, tmp_path: Path) -> None:
    folder = data_folder / "chest_xray"
    train = split_patients(list_films(folder), SEED).train
    drawn = np.sort(np.random.default_rng(SEED).permutation(len(train))[:128])
    films = as_image(read_pictures([train[index] for index in drawn.tolist()]))
    made = tmp_path / "int8.onnx"
    report = int8(MODEL, made, {"IMAGE": films}, Int8Options(seed=SEED))
    assert report.layers >= 40  # of 50: the gain is in them
    result = evaluate(folder, made, RULES, reference=MODEL, test_split=SEED)
    assert result.films > 500
    assert result.compared.auc_difference.difference.value >= -0.005
    assert result.compared.flip_share <= 0.01, result.compared.flips
