"""Batches against a real server: from folders, from memory and from S3, and over a server that dies meanwhile."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import fsspec
import pytest
from killed_triton import KilledTriton
from tiny_release import PIPELINE, TinySite
from volume_release import SEGMENTER, Filling, VolumeSite, phantom
from wetread_client import Client, Retry
from wetread_client.batch.archive import Archive
from wetread_client.batch.desk import DeskOptions
from wetread_client.batch.inventory import Inventory, Shard
from wetread_client.batch.out import FolderOut
from wetread_client.batch.pace import Pace
from wetread_client.batch.run import Batch, run
from wetread_client.cli import main
from wetread_models.synthetic import FilmModel
from wetread_models.volume_networks import level_segmenter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wetread_embedded import EmbeddedTriton

pytestmark = pytest.mark.triton

ROOT = Path(__file__).parents[2]
FILMS = 12
RECIPE = {
    "buckets": {"multiple": [16, 16, 16], "fill": 0.0},
    "steps": [
        {"step": "resample", "spacing_mm": 1.0},
        {"step": "normalise", "method": "range", "percentiles": [0, 100]},
    ],
}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three films in each folder, and one that is none."""
    folder = tmp_path_factory.mktemp("films")
    model = FilmModel.load(ROOT / "model_repository" / "chest_xray_classifier" / "synthetic_films.npz")
    for number in range(FILMS):
        path = folder / f"study{number // 3}" / f"{number}.dcm"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(model.dicom(number, "normal" if number % 2 else "pneumonia", rows=256, columns=256))
    (folder / "study0" / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM broken")
    return folder


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = pytest.importorskip("moto.server", reason="no moto: S3 is not tested")
    s3fs = pytest.importorskip("s3fs")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": "of-no-worth",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    fsspec.filesystem("s3").mkdir("hospital")
    yield "s3://hospital"
    s3fs.S3FileSystem.clear_instance_cache()
    running.stop()


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["batch", *map(str, arguments)])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def results(out: str) -> list[dict[str, object]]:
    found = fsspec.open_files(f"{out}/results-*.jsonl", "rb")
    lines: list[dict[str, object]] = []
    for one in found:
        with one as content:
            lines += [json.loads(line) for line in content]
    return lines


def check_films(lines: list[dict[str, object]], films: Path, server: EmbeddedTriton) -> None:
    """Each film has one line, with what the client reads."""
    told = {Path(str(line["file"])).name: line for line in lines}
    assert len(lines) == len(told) == FILMS + 1
    assert told.pop("broken.dcm")["outcome"] == "refused"
    with Client(server.http_url) as client:
        for file in sorted(films.rglob("*.dcm")):
            if file.name != "broken.dcm":
                reading = client.read(file, heatmap=False)
                line = told[file.name]
                assert (line["outcome"], line["release"]) == ("read", reading.release)
                assert line["findings"][0]["probability"] == pytest.approx(reading.findings[0].probability, abs=1e-6)
                assert line["sop_uid"] == reading.notes.geometry.sop_instance_uid


def test_a_folder_is_read_in_shares_and_a_second_call_reads_nothing(server, films, tmp_path, capsys):
    out = tmp_path / "out"
    for index in range(3):
        assert call(films, "--out", out, "--url", server.http_url, "--index", index, "--of", 3) == 0
    check_films(results(str(out)), films, server)
    capsys.readouterr()
    assert call(films, "--out", out, "--url", server.http_url) == 0
    assert "This run: 0 films and series" in capsys.readouterr().out


def test_an_archive_in_memory_is_read(server, films, tmp_path):
    fsspec.filesystem("memory").put(f"{films}/", "/archive", recursive=True)
    assert call("memory://archive", "--out", tmp_path / "out", "--url", server.http_url) == 0
    check_films(results(str(tmp_path / "out")), films, server)
    fsspec.filesystem("memory").rm("/archive", recursive=True)


def test_an_archive_on_s3_is_listed_once_and_read_with_results_on_s3(server, films, tmp_path, s3):
    fsspec.filesystem("s3").put(f"{films}/", "hospital/archive/", recursive=True)
    manifest = tmp_path / "manifest.jsonl"
    assert call(f"{s3}/archive", "--list-only", manifest) == 0
    fsspec.filesystem("s3").put(str(manifest), "hospital/manifest.jsonl")
    command = (f"{s3}/manifest.jsonl", "--out", f"{s3}/out", "--url", server.http_url, "--scratch", tmp_path)
    assert call(*command, "--limit", 4) == 0
    assert len(results(f"{s3}/out")) == 4
    assert call(*command) == 0
    lines = results(f"{s3}/out")
    check_films(lines, films, server)
    assert all(str(line["entry"]).startswith("s3://hospital/archive/study") for line in lines)
    assert list(tmp_path.iterdir()) == [manifest], "what was brought here is removed"


@pytest.mark.slow
def test_series_are_read_whole_from_wherever_they_lie(tmp_path):
    archive = fsspec.filesystem("memory")
    for series in range(2):
        for number, content in enumerate(phantom((8, 20, 24), series).files):
            archive.pipe_file(f"/volumes/patient{series}/mr/{number}.dcm", bytes(content))
    site = VolumeSite(tmp_path / "site", [Filling("brain_mr", "brain_mr", SEGMENTER, level_segmenter(), RECIPE)])
    with site.served() as running:
        command = ("memory://volumes", "--out", tmp_path / "out", "--url", running.http_url, "--study-depth", 1)
        assert call(*command, "--pipeline", "brain_mr", "--any-body-part") == 0
    lines = results(str(tmp_path / "out"))
    assert [(line["outcome"], line["files"], line["pipeline"]) for line in lines] == [("read", 8, "brain_mr")] * 2
    assert all(line["segments"] and line["series_uid"] for line in lines)
    archive.rm("/volumes", recursive=True)


class _ServerDies(Pace):
    """Ends the server before the fifth film is sent and starts another on its ports."""

    def __init__(self, server: EmbeddedTriton) -> None:
        super().__init__()
        urls = {"http_port": server.http_url, "grpc_port": server.grpc_url, "metrics_port": server.metrics_url}
        ports = {name: urlsplit(url).port for name, url in urls.items()}
        self._server, self.next = server, KilledTriton(replace(server.config, **ports))
        self._films = 0
        self.starting = threading.Thread(target=self.next.start)
        self._one = threading.Lock()

    def await_leave(self, *, again: bool = False) -> None:
        with self._one:
            self._films += not again
            if self._films == 5 and not self.starting.ident:
                self._server.stop()
                self.starting.start()
        super().await_leave(again=again)


@pytest.mark.slow
def test_a_server_that_dies_in_the_midst_fails_no_study(films, tmp_path):
    with KilledTriton(TinySite(tmp_path / "site").config()) as server:
        pace = _ServerDies(server)
        quick = Retry(times=0, first_wait_s=0.1, longest_wait_s=0.5)
        summary = run(
            Batch(
                inventory=Inventory(Archive(), str(films)),
                shard=Shard(),
                out=FolderOut(tmp_path / "out"),
                connect=lambda name: Client(server.http_url, name, retry=quick, timeout_s=10.0),
                options=DeskOptions(PIPELINE, backoff=quick),
                pace=pace,
            )
        )
        pace.starting.join()
        pace.next.stop()
        assert summary.outcomes == Counter(read=FILMS, refused=1)
        assert len(results(str(tmp_path / "out"))) == FILMS + 1
