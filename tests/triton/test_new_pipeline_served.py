"""A pipeline made of somebody else's model, in a real server: it answers what the model says, and only what it can."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tritonclient.http
from films import film, radiograph, to_bytes
from foreign_models import IMAGENET, foreign_classifier
from killed_triton import KilledTriton
from tritonclient.utils import InferenceServerException
from typer.testing import CliRunner
from wetread_client import Client, Rejected
from wetread_embedded import EmbeddedTriton, ServerConfig
from wetread_embedded.errors import ServerCallFailed
from wetread_preprocess import FilmPreprocessor
from wetread_release.cli import app
from wetread_release.draft import Draft
from wetread_release.gate.lay_out import provide_backends, side_of_draft

pytestmark = pytest.mark.triton

CHECKOUT = Path(__file__).parents[2]
LABELS = "normal,fracture,effusion"
KNEES = [to_bytes(film(radiograph(400, 300 + 20 * seed, seed=seed), BodyPartExamined="KNEE")) for seed in range(6)]


@pytest.fixture(scope="module")
def drafts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A softmax over three classes, 3 x 320 x 320; and logits of one, 64 x 64 x 1 with its channel last."""
    folder = tmp_path_factory.mktemp("drafts")
    models = {
        "knee": (
            foreign_classifier(),
            ["--labels", LABELS, "--background", "normal", "--values", "imagenet"],
        ),
        "wrist": (
            foreign_classifier(classes=1, side=64, channels=1, nhwc=True, end=""),
            ["--labels", "fracture", "--values", "unit", "--scores", "logits"],
        ),
    }
    for name, (model, words) in models.items():
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
        call = ["new", name, str(folder / f"{name}.onnx"), "--out", str(folder / name)]
        result = CliRunner().invoke(app, [*call, "--modality", "DX", "--body-part", "KNEE", *words])
        assert result.exit_code == 0, result.stderr
    return {name: folder / name for name in models}


@pytest.fixture(scope="module")
def triton(drafts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedTriton]:
    root, folder = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("served")
    provide_backends(root, CHECKOUT)
    for draft in drafts.values():
        side_of_draft(draft, Draft.load(draft), "cpu").write(root)
    config = ServerConfig.on_free_ports(root=root, store=folder / "store", state=folder / "state", exit_timeout_s=1.0)
    with KilledTriton(config) as running:
        yield running


def scores(draft: Path, dicom: bytes) -> np.ndarray:
    """What the model says of a film that the recipe read, without any server."""
    session = onnxruntime.InferenceSession(draft / "parts" / "classifier" / "model.onnx")
    with FilmPreprocessor.load(draft / "parts" / "preprocess") as preprocessor:
        image = preprocessor.read(dicom).image
    return session.run(None, {"input": image[None]})[0][0]


def test_every_finding_has_the_models_own_probability(drafts, triton):
    with Client(triton.http_url, "knee_draft") as client:
        for dicom in KNEES:
            reading = client.read(dicom)
            expected = scores(drafts["knee"], dicom)
            assert [finding.label for finding in reading.findings] == ["fracture", "effusion"]
            got = [finding.probability for finding in reading.findings]
            np.testing.assert_allclose(got, expected[1:], atol=2e-5)
            assert [finding.positive for finding in reading.findings] == [p >= 0.5 for p in got]
            assert reading.heatmap is None
            assert reading.novelty is None
        assert np.ptp([scores(drafts["knee"], dicom)[1] for dicom in KNEES]) > 0.01, "the films must differ"


def test_films_share_a_batch_and_keep_their_answers(drafts, triton):
    with Client(triton.http_url, "knee_draft") as client:
        alone = [client.read(dicom).findings[0].probability for dicom in KNEES]

    http = tritonclient.http.InferenceServerClient(triton.http_url.removeprefix("http://"), concurrency=len(KNEES))
    waiting = []
    for dicom in KNEES:
        tensor = tritonclient.http.InferInput("DICOM", [1, len(dicom)], "UINT8")
        tensor.set_data_from_numpy(np.frombuffer(dicom, np.uint8)[None])
        waiting.append(http.async_infer("knee_draft", [tensor]))
    together = [float(each.get_result().as_numpy("PROBABILITY")[0, 0]) for each in waiting]
    http.close()
    np.testing.assert_allclose(together, alone, atol=2e-5)


def test_a_channel_behind_the_columns_and_a_logit_are_served_too(drafts, triton):
    with Client(triton.http_url, "wrist_draft") as client:
        for dicom in KNEES[:3]:
            expected = 1 / (1 + np.exp(-scores(drafts["wrist"], dicom)))
            np.testing.assert_allclose([client.read(dicom).findings[0].probability], expected, atol=2e-5)


def test_imagenets_values_reach_the_model(drafts):
    with FilmPreprocessor.load(drafts["knee"] / "parts" / "preprocess") as preprocessor:
        image = preprocessor.read(KNEES[0]).image
    mean, deviation = (each[:, None, None] for each in IMAGENET)
    levels = image * deviation + mean
    assert levels.min() >= -1e-5
    assert levels.max() <= 1 + 1e-5
    np.testing.assert_allclose(levels[0], levels[2], atol=1e-5)


def test_a_film_of_another_part_is_refused_by_name(triton):
    chest = to_bytes(film(radiograph(300, 300), BodyPartExamined="CHEST"))
    with Client(triton.http_url, "knee_draft") as client, pytest.raises(Rejected, match="CHEST"):
        client.read(chest)


def test_an_output_that_is_not_there_is_told_by_the_server(triton):
    http = tritonclient.http.InferenceServerClient(triton.http_url.removeprefix("http://"))
    tensor = tritonclient.http.InferInput("DICOM", [1, len(KNEES[0])], "UINT8")
    tensor.set_data_from_numpy(np.frombuffer(KNEES[0], np.uint8)[None])
    with pytest.raises(InferenceServerException, match="HEATMAP"):
        http.infer("knee_draft", [tensor], outputs=[tritonclient.http.InferRequestedOutput("HEATMAP")])
    http.close()


def test_the_card_that_clients_get_is_the_drafts(drafts, triton):
    http = tritonclient.http.InferenceServerClient(triton.http_url.removeprefix("http://"))
    tensor = tritonclient.http.InferInput("DICOM", [1, len(KNEES[0])], "UINT8")
    tensor.set_data_from_numpy(np.frombuffer(KNEES[0], np.uint8)[None])
    card = http.infer("knee_draft", [tensor]).as_numpy("CARD").tobytes()
    http.close()
    assert card == (drafts["knee"] / "parts" / "postprocess" / "pipeline.json").read_bytes()
    assert json.loads(card)["scores"] == "probabilities"


@pytest.mark.parametrize(
    ("label", "words"), [("fracture", {"column": 7}), ("effusion", {"threshold": 1.5})], ids=["column", "threshold"]
)
def test_rules_that_do_not_fit_the_configuration_are_not_loaded(triton, label, words):
    models = triton.config.store_dir / "model_repository"
    right, wrong = "knee_postprocess_draft", f"knee_postprocess_{label}"
    shutil.copytree(models / right, models / wrong)
    config, rules = models / wrong / "config.pbtxt", models / wrong / "1" / "pipeline.json"
    config.write_text(config.read_text().replace(right, wrong))
    triton.rest.load(wrong, timeout_s=60)
    card = json.loads(rules.read_text())
    card["findings"] = [finding | (words if finding["label"] == label else {}) for finding in card["findings"]]
    rules.write_text(json.dumps(card))
    with pytest.raises(ServerCallFailed, match=next(iter(words))):
        triton.rest.load(wrong, timeout_s=60)
