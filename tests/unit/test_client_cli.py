from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest
from client_stand_in import Refusal, StandIn
from PIL import Image
from pydicom.data import get_testdata_file
from wetread_client import cli
from wetread_client.cli import COMMANDS, Command, main
from wetread_client.fake import fake_answer

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(get_testdata_file("CT_small.dcm"))


def write_film(path: Path) -> Path:
    dataset = pydicom.dcmread(SOURCE)
    dataset.Modality = "CR"
    dataset.save_as(path)
    return path


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film(tmp_path_factory.mktemp("film") / "film.dcm")


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    write_film(folder / "good.dcm")
    (folder / "bad.dcm").write_bytes(b"\0" * 128 + b"DICM bad")
    (folder / "readme.txt").write_text("not a film")
    return folder


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def refuse_bad(film: bytes):
    return Refusal(400, "in ensemble 'chest_xray', InvalidDicom: cut short") if b"bad" in film else fake_answer([0.9])


def test_all_films_read_is_exit_code_0_and_json_has_the_agreed_shape(film, stand_in, capsys):
    assert run("read", film, "--json", "--url", stand_in.url) == 0
    (line,) = capsys.readouterr().out.splitlines()
    document = json.loads(line)
    assert list(document) == ["file", "pipeline", "release", "findings", "novelty", "ms"]
    assert (document["file"], document["pipeline"], document["release"]) == (str(film), "chest_xray", 1)
    (finding,) = document["findings"]
    assert list(finding) == ["label", "probability", "positive"]
    assert finding["label"] == "finding"
    assert isinstance(finding["positive"], bool)


def test_a_failed_film_is_exit_code_1_and_an_error_object(stand_in, films, capsys):
    stand_in.answer = refuse_bad
    assert run("read", films, "--json", "--url", stand_in.url) == 1
    documents = {Path(d["file"]).name: d for d in map(json.loads, capsys.readouterr().out.splitlines())}
    assert documents["bad.dcm"]["error"] == {"code": "InvalidDicom", "message": "cut short"}
    assert "findings" in documents["good.dcm"]
    assert len(documents) == 2


def test_the_table_shows_readings_failures_and_what_was_skipped(stand_in, films, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    stand_in.answer = lambda film: refuse_bad(film) if b"bad" in film else fake_answer([0.9], release=12, novelty=3.14)
    assert run("read", films, "--url", stand_in.url) == 1
    out = capsys.readouterr().out
    for text in ("good.dcm", "finding", "0.900", "yes", "3.14", "unlike training films", "12"):
        assert text in out
    for text in ("bad.dcm", "InvalidDicom", "cut short", "1 read, 1 not, 1 other files skipped"):
        assert text in out


def test_a_picture_is_read_as_a_declared_film(stand_in, tmp_path, capsys):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "film.png")
    assert run("read", tmp_path / "film.png", "--json", "--url", stand_in.url, "--any-body-part") == 0
    assert stand_in.headers[0]["parameters"] == {"declared_film": True, "any_body_part": True}
    assert json.loads(capsys.readouterr().out)["findings"]


@pytest.mark.slow
def test_heatmaps_are_asked_for_and_drawn_only_on_demand(film, stand_in, tmp_path, capsys):
    assert run("read", film, "--url", stand_in.url) == 0
    assert run("read", film, "--url", stand_in.url, "--heatmap", tmp_path / "maps") == 0
    asked = [{output["name"] for output in header["outputs"]} for header in stand_in.headers]
    assert ["HEATMAP" in names for names in asked] == [False, True]
    assert [file.name for file in (tmp_path / "maps").iterdir()] == ["film.dcm.png"]
    assert capsys.readouterr().err == ""


def test_a_film_that_cannot_be_drawn_was_still_read(stand_in, tmp_path, capsys):
    (tmp_path / "film.dcm").write_bytes(b"\0" * 128 + b"DICM")
    assert run("read", tmp_path, "--url", stand_in.url, "--heatmap", tmp_path / "maps") == 0
    assert "no picture of" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [[], ["--url", "nonsense", SOURCE], ["/no/such/file"], ["--no-such-option", SOURCE]]
)
def test_a_wrong_call_is_exit_code_2(arguments):
    assert run("read", *arguments) == 2


def test_a_folder_without_films_is_a_wrong_call(tmp_path, capsys):
    assert run("read", tmp_path) == 2
    assert "no films in" in capsys.readouterr().err


def test_a_server_that_is_not_there_is_named_with_the_way_to_start_one(film, capsys):
    with StandIn() as gone:
        url = gone.url
    assert run("read", film, "--url", url) == 1
    err = capsys.readouterr().err
    assert url in err
    assert "wetread serve" in err


def test_a_pipeline_that_is_not_served_is_named(film, stand_in, capsys):
    assert run("read", film, "--url", stand_in.url, "--pipeline", "knee") == 1
    assert "does not serve the pipeline knee" in capsys.readouterr().err


@pytest.mark.slow
def test_the_overview_lists_every_command_and_imports_nothing_heavy():
    program = (
        "import sys; from wetread_client.cli import main\n"
        "try: main(['--help'])\n"
        "finally: print([m for m in ('pydicom', 'PIL', 'rich', 'typer', 'tritonclient', 'grpc', 'torch', 'openvino')"
        " if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"
    assert all(command.name in out for command in COMMANDS)


def test_a_command_that_is_none_suggests_one(capsys):
    assert run("raed") == 2
    assert "read" in capsys.readouterr().err


def test_the_version_is_printed(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("wetread 0.")


def test_a_missing_extra_is_named(monkeypatch, capsys, tmp_path):
    (tmp_path / "needy_command.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(cli, "COMMANDS", (Command("needy", "needy_command:run", "gateway", ""),))
    assert run("needy") == 2
    err = capsys.readouterr().err
    assert "no_such_library" in err
    assert "pip install 'wetread[gateway]'" in err


@pytest.mark.slow
def test_doctor_is_content_with_a_server_that_serves_and_not_with_one_that_does_not(stand_in, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    run("doctor", "--url", stand_in.url)
    out = capsys.readouterr().out
    assert "ready, release 1, 3" in out
    assert "its model may not be there yet" in out  # chest_ct, which is no fault
    assert run("doctor", "--url", stand_in.url, "--pipeline", "knee") == 1
    assert "not served" in capsys.readouterr().out
