"""The client and `wetread read` against a real server: one answer by every way, and a folder read with one call."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest
from volume_release import CLASSIFIER, SEGMENTER, Asker, Filling, Sent, VolumeSite, phantom
from wetread_client import Client, Rejected, Retry, ServerError
from wetread_client.cli import main
from wetread_models.volume_networks import level_segmenter, random_classifier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wetread_embedded import EmbeddedTriton

pytestmark = pytest.mark.triton

BUCKETS = {"multiple": [16, 16, 16], "fill": 0.0}
RANGE = [{"step": "resample", "spacing_mm": 1.0}, {"step": "normalise", "method": "range", "percentiles": [0, 100]}]
LUNG = [{"step": "hounsfield"}, {"step": "resample", "spacing_mm": 1.0}, {"step": "window", "name": "lung"}]
NO_RETRY = Retry(times=0)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedTriton]:
    fillings = [
        Filling("brain_mr", "brain_mr", SEGMENTER, level_segmenter(), {"buckets": BUCKETS, "steps": RANGE}),
        Filling("chest_ct", "chest_ct", CLASSIFIER, random_classifier(), {"buckets": BUCKETS, "steps": LUNG}),
    ]
    with VolumeSite(tmp_path_factory.mktemp("volumes"), fillings).served() as running:
        yield running


@pytest.fixture(scope="module")
def brain() -> Sent:
    uneven = np.array([[0.0, 0.2 * at, at] for at in (0, 1.5, 2, 4.5, 6, 7, 9, 10, 12, 14, 15, 17.5)])
    return phantom((12, 30, 36), 1, positions_mm=uneven, pixel_spacing_mm=(0.8, 0.9))


def client_of(server: EmbeddedTriton, way: str, pipeline: str = "brain_mr") -> Client:
    url = server.grpc_url if way.endswith("grpc") else server.http_url
    return Client(url, pipeline, transport=way.split(maxsplit=1)[0], retry=NO_RETRY)


@pytest.mark.parametrize("way", ["shm", "http", "grpc", "shm grpc"])
def test_a_series_has_one_answer_by_every_way_and_it_is_the_servers(server, brain, way):
    asker = Asker(server)
    expected = asker.ask("brain_mr", brain)["SEGMENTATION"]
    asker.close()
    with client_of(server, way) as client:
        assert client.takes_series()
        for files in (brain.files, brain.files[::-1]):
            reading = client.read_series(files)
            assert reading.segmentation is not None
            np.testing.assert_array_equal(reading.segmentation, expected)
    series = reading.notes.series
    assert series is not None
    assert reading.segmentation.shape == (series.slices, series.rows, series.columns) == (12, 30, 36)
    assert [segment.value for segment in reading.segments] == [1, 2]
    thickness = (np.diff([-1.5, *series.distances_mm, 20.0])[:-1] + np.diff([-1.5, *series.distances_mm, 20.0])[1:]) / 2
    ml = [float(((expected == value).sum((1, 2)) * thickness).sum() * 0.8 * 0.9 / 1000) for value in (1, 2)]
    assert reading.segment_ml == pytest.approx(ml)
    assert (reading.release, reading.findings, reading.pipeline) == (1, (), "brain_mr")


@pytest.mark.parametrize("way", ["shm", "http", "grpc"])
def test_a_classifier_of_series_gives_findings(server, way):
    with client_of(server, way, "chest_ct") as client:
        reading = client.read_series(phantom((20, 30, 40), 3, modality="CT").files)
        card = client.card(reading.release)
    assert card is not None
    assert [finding.label for finding in reading.findings] == [finding.label for finding in card.findings]
    assert reading.segmentation is None
    assert reading.notes.series is not None


@pytest.mark.parametrize("way", ["shm", "http", "grpc"])
def test_a_file_that_is_broken_is_named_and_the_server_reads_on(server, brain, tmp_path, way):
    paths = write(tmp_path / "bad", brain)
    paths[6].write_bytes(paths[6].read_bytes()[:-100])  # its header is whole, so it is a slice of the series
    with client_of(server, way) as client:
        with pytest.raises(Rejected) as caught:
            client.read_series(paths)
        assert caught.value.code == "InvalidDicom"
        assert caught.value.file == str(paths[6])
        assert "file 7 of 12" in caught.value.message
        assert client.read_series(brain.files).segmentation is not None


def test_a_film_sent_to_a_pipeline_of_series_is_the_callers_fault_and_not_the_films(server, brain):
    with client_of(server, "http") as client, pytest.raises(ServerError, match="reads no films"):
        client.read(brain.files[0])


def write(folder: Path, sent: Sent) -> list[Path]:
    folder.mkdir(parents=True)
    paths = [folder / f"{len(sent.files) - number:04}" for number in range(len(sent.files))]
    for path, content in zip(paths, sent.files, strict=True):
        path.write_bytes(content)
    return paths


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_a_folder_of_series_is_read_with_one_call(server, brain, tmp_path, capsys):
    study, masks = tmp_path / "study", tmp_path / "masks"
    write(study / "mr", brain)
    write(study / "ct", phantom((20, 30, 40), 3, modality="CT"))
    write(study / "scout", Sent(phantom((12, 30, 36), 2).files[:2]))
    assert run("read", study, "--json", "--url", server.http_url, "--segmentation", masks) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    by_name = {line["folder"].rpartition("/")[2]: line for line in lines}
    assert set(by_name) == {"mr", "ct", "scout"}
    assert by_name["mr"]["why"] == "MR, Body Part Examined BRAIN: brain_mr"
    assert by_name["ct"]["why"] == "CT, Body Part Examined CHEST: chest_ct"
    assert by_name["ct"]["findings"]
    assert "slices" in by_name["scout"]["error"]["message"]
    assert all(segment["ml"] > 0 for segment in by_name["mr"]["segments"])
    asker = Asker(server)
    expected = asker.ask("brain_mr", brain)["SEGMENTATION"]
    asker.close()
    image = nibabel.load(by_name["mr"]["segmentation"])
    np.testing.assert_array_equal(np.asarray(image.dataobj).transpose(), expected)
