"""What is committed in the model repository does what its card says; needs no torch."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pydicom
import pytest
from typer.testing import CliRunner
from wetread_models import strangers
from wetread_models.cli import app
from wetread_models.data import list_films, read_pictures, split_patients
from wetread_models.evaluate import OnnxClassifier
from wetread_models.synthetic import LABELS, FilmModel, Label
from wetread_models.synthetic_fit import draw
from wetread_postprocess import Postprocessor

REPOSITORY = Path(__file__).parents[2] / "model_repository"
CLASSIFIER = REPOSITORY / "chest_xray_classifier"
MODEL = CLASSIFIER / "1" / "model.onnx"
POSTPROCESS = REPOSITORY / "chest_xray_postprocess" / "1"
GEOMETRY = b'{"rows": 224, "columns": 224}'


@pytest.fixture(scope="module")
def classifier() -> OnnxClassifier:
    return OnnxClassifier(MODEL, threads=1)


@pytest.fixture(scope="module")
def films() -> FilmModel:
    return FilmModel.load(CLASSIFIER / "synthetic_films.npz")


@pytest.fixture(scope="module")
def real_films(data_folder: Path) -> Path:
    return data_folder / "chest_xray"


def read(classifier: OnnxClassifier, pictures: np.ndarray) -> list[tuple[bool, float]]:
    postprocessor = Postprocessor.load(POSTPROCESS)
    outputs = classifier.outputs(pictures)
    readings = [
        postprocessor.read(np.float32([logit]), activation[None], features, GEOMETRY, with_heatmap=False)
        for logit, activation, features in zip(outputs.logits, outputs.activation, outputs.features, strict=True)
    ]
    return [(bool(r.positive[0]), float(r.novelty[0])) for r in readings]


@pytest.mark.slow
def test_the_logit_is_the_mean_activation_and_one_bias_in_every_batch_size(classifier: OnnxClassifier) -> None:
    rng = np.random.default_rng(0)
    biases, first = [], []
    image = rng.normal(0, 1, (8, 1, 224, 224)).astype(np.float32)
    for batch in range(1, 9):
        names = ["LOGITS", "ACTIVATION", "FEATURES"]
        logits, activation, features = classifier.session.run(names, {"IMAGE": image[:batch]})
        assert logits.shape == (batch, 1)
        assert activation.shape == (batch, 1, 7, 7)
        assert features.shape[0] == batch
        biases.extend(logits[:, 0] - activation.mean(axis=(1, 2, 3)))
        first.append(logits[0, 0])
    assert np.ptp(biases) < 1e-4
    assert np.ptp(first) < 1e-4


def test_the_model_is_small_has_opset_17_a_batch_axis_and_no_batch_norm() -> None:
    assert MODEL.stat().st_size <= 16 * 1024 * 1024
    model = onnx.load(MODEL)
    onnx.checker.check_model(model)
    assert [opset.version for opset in model.opset_import] == [17]
    assert all(v.type.tensor_type.shape.dim[0].dim_param == "batch" for v in (*model.graph.input, *model.graph.output))
    assert not {"BatchNormalization", "Pad"} & {node.op_type for node in model.graph.node}


@pytest.mark.slow
@pytest.mark.data
def test_real_held_out_films_read_right_and_are_not_novel(classifier: OnnxClassifier, real_films: Path) -> None:
    seed = json.loads((CLASSIFIER / "figures.json").read_text())["seed"]
    test = split_patients(list_films(real_films), seed).test
    of_class = [[f for f in test if f.label == label] for label in (0, 1)]
    chosen = [film for films in of_class for film in films[:: len(films) // 12][:12]]
    answers = read(classifier, read_pictures(chosen))
    right = sum(positive == bool(film.label) for film, (positive, _) in zip(chosen, answers, strict=True))
    assert right >= 21
    assert sum(novelty < 1 for _, novelty in answers) >= 22


@pytest.mark.slow
def test_pictures_that_are_no_chest_films_are_novel(classifier: OnnxClassifier) -> None:
    named = [*strangers.drawn(), *strangers.pydicom_files()]
    answers = read(classifier, np.stack([picture for _, picture in named]))
    below = [(name, novelty) for (name, _), (_, novelty) in zip(named, answers, strict=True) if novelty <= 1]
    assert not below


@pytest.mark.slow
@pytest.mark.data
def test_a_hip_film_and_slices_are_novel(classifier: OnnxClassifier, real_films: Path) -> None:
    named = list(strangers.real(real_films.parent / "dicom"))
    assert len(named) >= 3
    answers = read(classifier, np.stack([picture for _, picture in named]))
    below = [(name, novelty) for (name, _), (_, novelty) in zip(named, answers, strict=True) if novelty <= 1]
    assert not below


@pytest.mark.slow
@pytest.mark.parametrize("label", LABELS)
def test_synthetic_films_are_read_as_their_class(classifier: OnnxClassifier, films: FilmModel, label: Label) -> None:
    answers = read(classifier, draw(films, label, range(20)))
    assert sum(positive == (label == "pneumonia") for positive, _ in answers) >= 17


def test_a_synthetic_film_repeats_with_its_seed_and_differs_from_others(films: FilmModel) -> None:
    first = films.film(5, "normal", rows=300, columns=260)
    np.testing.assert_array_equal(first, films.film(5, "normal", rows=300, columns=260))
    assert first.shape == (300, 260)
    assert first.dtype == np.uint16
    assert first.max() <= 4095
    assert not np.array_equal(first, films.film(6, "normal", rows=300, columns=260))
    assert not np.array_equal(first, films.film(5, "pneumonia", rows=300, columns=260))
    assert films.film(5, "normal", bits=8).dtype == np.uint8


def test_a_synthetic_file_is_a_dx_film_that_says_it_is_synthetic(films: FilmModel) -> None:
    content = films.dicom(7, "pneumonia", rows=200, columns=180)
    assert content == films.dicom(7, "pneumonia", rows=200, columns=180)
    dataset = pydicom.dcmread(io.BytesIO(content))
    assert dataset.SOPClassUID.name == "Digital X-Ray Image Storage - For Presentation"
    assert (dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition) == ("DX", "CHEST", "PA")
    assert (dataset.PatientName, dataset.PatientID) == ("SYNTHETIC^FILM", "SYN-7")
    assert "SYNTHETIC" in dataset.ImageComments
    np.testing.assert_array_equal(dataset.pixel_array, films.film(7, "pneumonia", rows=200, columns=180))
    other = pydicom.dcmread(io.BytesIO(films.dicom(8, "pneumonia", rows=200, columns=180)))
    assert dataset.SOPInstanceUID != other.SOPInstanceUID
    assert dataset.StudyInstanceUID != other.StudyInstanceUID


def test_the_film_model_is_at_most_two_megabytes() -> None:
    assert (CLASSIFIER / "synthetic_films.npz").stat().st_size <= 2_000_000


def test_the_card_states_the_figures_that_are_beside_it() -> None:
    figures = json.loads((CLASSIFIER / "figures.json").read_text())
    card = (CLASSIFIER / "CARD.md").read_text()
    rule = json.loads((POSTPROCESS / "pipeline.json").read_text())["findings"][0]
    assert f"{figures['auc_held_out']['value']:.4f}" in card
    assert f"{figures['test']['specificity']:.4f}" in card
    assert rule["threshold"] == pytest.approx(figures["calibration"]["threshold"], abs=1e-5)
    assert rule["temperature"] == pytest.approx(figures["calibration"]["temperature"], abs=1e-5)
    for needed in ("CC BY 4.0", "not for clinical use", "adults"):
        assert needed in card


@pytest.mark.slow
def test_evaluate_prints_the_figures_of_a_folder_as_json(films: FilmModel, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2", reason="needs the preprocess extra")
    for label in LABELS:
        (tmp_path / label.upper()).mkdir()
        for seed, picture in enumerate(draw(films, label, range(8))):
            cv2.imwrite(str(tmp_path / label.upper() / f"drawn-{seed}.png"), picture)
    words = ["evaluate", "--data", str(tmp_path), "--model", str(MODEL), "--card", str(POSTPROCESS), "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert (answer["films"], answer["patients"]) == (16, 16)
    assert answer["auc"]["value"] > 0.9
    assert 0 <= answer["rates"]["specificity"] <= 1


def test_evaluate_names_the_folder_that_is_missing(tmp_path: Path) -> None:
    words = ["evaluate", "--data", str(tmp_path), "--model", str(MODEL), "--card", str(POSTPROCESS)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "NORMAL is missing" in result.stderr


@pytest.mark.slow
def test_evaluation_and_synthetic_films_need_no_torch() -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "import wetread_models.cli, wetread_models.evaluate, wetread_models.synthetic, wetread_models.strangers\n"
        "import wetread_models.synthetic_fit, wetread_models.novelty, wetread_models.figures\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
