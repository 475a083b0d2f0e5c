"""Model slots on a real server: an empty one is left out with one line, and a release fills it while it runs."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from killed_triton import KilledTriton
from tiny_release import TinySite
from typer.testing import CliRunner
from volume_release import SEGMENTER, Asker, Filling, VolumeSite, phantom
from wetread_client import Client
from wetread_models.volume_networks import level_segmenter
from wetread_release.cli import app
from wetread_release.volume_pipeline import SHIPPED

pytestmark = pytest.mark.triton
QUICK = {"buckets": {"multiple": [16, 16, 16], "fill": 0.0}}


def command(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def tiny(tmp_path: Path) -> TinySite:
    """A site with a film pipeline, and beside it the slot of `brain_mr` as it ships: empty."""
    site = TinySite(tmp_path / "films")
    volumes = VolumeSite(tmp_path / "volumes", [Filling("brain_mr", "brain_mr", SEGMENTER, None, QUICK)])
    for repository in ("ensembles", "model_repository"):
        shutil.copytree(volumes.root / repository, site.root / repository, dirs_exist_ok=True)
    return site


def test_an_empty_slot_is_left_out_with_one_line_and_all_else_is_served(tiny, caplog):
    with caplog.at_level(logging.WARNING), KilledTriton(tiny.config()) as server:
        assert server.pipelines == ["tiny"]
        with Client(server.http_url, "tiny") as client:
            assert client.read(tiny.film).release == 1
        assert not server.rest.is_ready("brain_mr")
        assert not list((tiny.folder / "served" / "model_repository").glob("brain_mr*"))
    lines = [record.getMessage() for record in caplog.records if "brain_mr" in record.getMessage()]
    assert len(lines) == 1
    for said in ("model slot is empty", "brain_mr_segmenter/1/model.onnx", "wetread release new brain_mr MODEL.onnx"):
        assert said in lines[0]
    assert "\n" not in lines[0]


def test_a_file_in_the_slot_is_served_at_the_next_start(tiny):
    onnx.save(level_segmenter(), tiny.root / "model_repository" / "brain_mr_segmenter" / "1" / "model.onnx")
    with KilledTriton(tiny.config()) as server:
        assert server.pipelines == ["brain_mr", "tiny"]
        asker = Asker(server)
        assert asker.ask("brain_mr", phantom((12, 30, 36)))["SEGMENTATION"].any()
        asker.close()


def test_an_engineers_model_fills_the_slot_by_a_release_and_can_be_replaced(tiny, tmp_path):
    """`release new` and `publish` as the card of the slot says; the file's own tensor names hang on the wires."""
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(QUICK))
    models = {
        "first": level_segmenter(names=("volume", "logits")),
        "second": level_segmenter((0.0, 0.9, 0.3), names=("x", "y")),
    }
    for name, model in models.items():
        onnx.save(model, tmp_path / f"{name}.onnx")
        draft = tmp_path / "drafts" / name
        command("new", "brain_mr", tmp_path / f"{name}.onnx", "--recipe", recipe, "--out", draft)

    series = phantom((12, 30, 36), 3)
    site = ("--state-dir", tiny.state, "--reason", "a test", "--timeout", "300")
    approved = (*site, "--approved-by", "somebody else")
    answers = {}
    with KilledTriton(tiny.config()) as server:
        asker = Asker(server)
        for name in models:
            command("publish", tmp_path / "drafts" / name, "--force", "no gate for series yet", *site)
            command("promote", "brain_mr", *approved)
            answers[name] = asker.ask("brain_mr", series)
        command("rollback", "brain_mr", *approved)
        again = asker.ask("brain_mr", series)
        asker.close()
    assert set(np.unique(answers["first"]["SEGMENTATION"])) == {0, 1, 2}
    assert (answers["first"]["SEGMENTATION"] != answers["second"]["SEGMENTATION"]).any()
    np.testing.assert_array_equal(again["SEGMENTATION"], answers["first"]["SEGMENTATION"])
    assert again["CARD"].tobytes() == (tmp_path / "drafts" / "first/parts/postprocess/pipeline.json").read_bytes()


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.full
def test_meshnet_in_the_slot_finds_white_and_grey_matter_in_the_sources_pixels(data_folder, tmp_path):
    """The figures of an adult's brain, and white matter that lies in grey matter; by the recipe that ships."""
    site = VolumeSite(
        tmp_path, [Filling("brain_mr", "brain_mr", SHIPPED["brain_mr"], data_folder / "models" / "meshnet_gw_wm.onnx")]
    )
    files = [path.read_bytes() for path in sorted((data_folder / "dicom" / "mr_t1").iterdir())]
    with site.served() as server, Client(server.http_url, "brain_mr", timeout_s=600) as client:
        reading = client.read_series(files)
    labels = reading.segmentation
    assert labels.shape == (384, 384, 274)
    millilitres = 0.6666667 * 0.6666667 * 0.6999878 / 1000
    white, grey = ((labels == value).sum() * millilitres for value in (1, 2))
    assert 900 < white + grey < 1300
    assert 0.7 < grey / white < 1.6
    inside = labels == 1
    shell = np.zeros_like(inside)
    for axis in range(3):
        for step in (-1, 1):
            shell |= np.roll(inside, step, axis)
    shell &= ~inside
    assert (labels[shell] == 2).mean() > 0.7, "white matter borders on grey matter"
    left, right = (np.count_nonzero(half) for half in np.array_split(labels, 2, axis=2))
    assert 0.75 < left / right < 1.33
