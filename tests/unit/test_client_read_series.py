"""`wetread read` over folders of films and series: which pipeline reads what, and a bad series fails alone."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest
from client_stand_in import Refusal, StandIn
from series_files import series_datasets, series_files
from wetread_client.choosing import RULES, choose
from wetread_client.cli import main
from wetread_client.fake import fake_segmentation
from wetread_client.film_files import find_films
from wetread_client.nifti import is_even, nifti
from wetread_client.notes import Notes
from wetread_client.sorting import sort

if TYPE_CHECKING:
    from collections.abc import Iterator

LABELS = np.zeros((3, 4, 5), np.uint8)
LABELS[0, :2] = 1
LABELS[2, 3, 4] = 2


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    answer = fake_segmentation(
        LABELS,
        segments=["grey matter", "white matter"],
        spacing_mm=(10.0, 10.0, 10.0),
        warnings=["derived images"],
        left_out=[{"file": 2, "sop_instance_uid": "2.25.7", "why": "a localiser"}],
    )
    with StandIn(answer_series=lambda _: answer) as server:
        yield server


def write(folder: Path, *, count: int = 3, **options) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, content in enumerate(series_files(np.zeros((count, 4, 5), np.int16), **options)):
        files.append(folder / f"{options.get('modality', 'CT')}{options.get('series_uid', '')}.{number}")
        files[-1].write_bytes(content)
    return files


def write_film(path: Path) -> Path:
    (dataset,) = series_datasets(np.zeros((1, 4, 5), np.int16), attributes={"Modality": "CR"})
    dataset.save_as(path)
    return path


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """An MR series, a CT series of other files between them, a film, a dose report and a text."""
    folder = tmp_path / "study"
    write(folder, modality="MR", body_part="BRAIN", attributes={"SeriesNumber": 4})
    write(folder / "below", modality="CT", attributes={"BodyPartExamined": None})
    write_film(folder / "film.dcm")
    write(folder, count=1, modality="CT", series_uid="1.9", attributes={"Modality": "SR"})
    (folder / "readme.txt").write_text("no film")
    return folder


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def lines(capsys) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("modality", "body_part", "pipeline"),
    [
        ("CR", "HIP", "chest_xray"),
        ("DX", "CHEST", "chest_xray"),
        ("OT", "", "chest_xray"),
        ("", "", "chest_xray"),
        ("CT", "", "chest_ct"),
        ("CT", "CHEST", "chest_ct"),
        ("CT", "HEAD", "chest_ct"),  # whether it is read is for the release to say
        ("MR", "BRAIN", "brain_mr"),
        ("MR", "HEADNECK", "brain_mr"),
        ("MR", "", "brain_mr"),
        ("MG", "BREAST", None),
    ],
)
def test_the_pipeline_is_picked_by_modality_and_body_part(modality, body_part, pipeline):
    choice = choose(modality, body_part)
    assert choice.pipeline == pipeline
    if modality:
        assert modality in choice.why
    assert all((body_part or "no Body Part Examined") in choice.why for _ in range(bool(pipeline and modality)))
    if pipeline is None:
        assert all(rule.pipeline in choice.why for rule in RULES)
        assert "--pipeline" in choice.why


def test_a_folder_is_sorted_into_series_whatever_the_files_are_called(study, tmp_path):
    mixed = write(study, modality="MR", body_part="BRAIN", series_uid="1.2.3")
    found = sort(find_films([study]).files)
    assert found.skipped == 1
    kinds = sorted((work.modality, len(work.files), work.is_series) for work in found.works)
    assert kinds == [("CR", 1, False), ("CT", 3, True), ("MR", 3, True), ("MR", 3, True)]
    assert [work.files for work in found.works if set(work.files) & set(mixed)] == [tuple(mixed)]


def test_what_cannot_be_looked_into_is_left_for_the_server_to_name(tmp_path):
    broken, empty, text = tmp_path / "broken", tmp_path / "empty", tmp_path / "text"
    broken.write_bytes(b"\0" * 128 + b"DICM" + bytes(range(200)))
    empty.write_bytes(b"")
    text.write_text("hello " * 100)
    files = (broken, empty, text, tmp_path / "missing")
    found = sort(files)
    assert [work.files for work in found.works] == [(file,) for file in files]
    assert not any(work.is_series for work in found.works)


@pytest.mark.slow
def test_films_and_series_are_read_in_one_call_each_by_its_pipeline(stand_in, study, capsys):
    stand_in.served = ("chest_xray", "brain_mr", "chest_ct")
    assert run("read", study, "--json", "--url", stand_in.url, "--any-body-part") == 0
    documents = {document["folder"]: document for document in lines(capsys) if "files" in document}
    mr = documents[str(study)]
    assert list(mr) == [
        "folder", "series", "files", "why", "pipeline", "release", "findings", "novelty", "segments", "warnings",
        "left_out", "ms",
    ]  # fmt: skip
    assert (mr["folder"], mr["series"], mr["files"]) == (str(study), 4, 3)
    assert mr["why"] == "MR, Body Part Examined BRAIN: brain_mr"
    assert mr["segments"] == [{"label": "grey matter", "ml": 10.0}, {"label": "white matter", "ml": 1.0}]
    assert mr["warnings"] == ["derived images"]
    assert mr["left_out"] == [{"file": str(study / "MR.1"), "why": "a localiser"}]
    assert {model: len(files) for model, files in stand_in.series} == {"brain_mr": 3, "chest_ct": 3}
    assert len(stand_in.films) == 1
    assert all(header["parameters"]["any_body_part"] for header in stand_in.headers)


@pytest.mark.slow
def test_no_uid_of_a_patients_series_is_printed(stand_in, study, capsys):
    run("read", study, "--json", "--url", stand_in.url)
    out = capsys.readouterr()
    assert "1.2.826." not in out.out + out.err
    assert "2.25." not in out.out + out.err


@pytest.mark.slow
def test_the_table_tells_what_was_chosen_and_why_and_the_volumes(stand_in, study, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    stand_in.served = ("chest_xray", "brain_mr", "chest_ct")
    assert run("read", study, "--url", stand_in.url) == 0
    out = capsys.readouterr().out
    for text in (
        "MR, Body Part Examined BRAIN: brain_mr (1 series)",
        "CT, no Body Part Examined: chest_ct (1 series)",
        "chest_xray (1 film)",
        "study series 4 (3 files)",
        "grey matter",
        "10.0 ml",
        "1 left out: a localiser",
        "derived images",
        "3 read, 0 not, 2 other files skipped",
    ):
        assert text in out, text


def test_a_series_that_no_pipeline_reads_or_that_the_server_does_not_serve_fails_alone(stand_in, study, capsys):
    write(study, modality="CT", series_uid="1.8", attributes={"Modality": "PT"})
    assert run("read", study, "--json", "--url", stand_in.url) == 1
    documents = lines(capsys)
    errors = {document["why"].split(",")[0][:2]: document["error"] for document in documents if "error" in document}
    assert len(documents) == 4
    assert set(errors) == {"CT", "no"}
    assert "does not serve the pipeline chest_ct" in errors["CT"]["message"]
    assert "wetread release publish" in errors["CT"]["message"]
    assert "no pipeline reads Modality (0008,0060) PT" in errors["no"]["message"]


def test_a_bad_series_fails_alone_and_names_its_bad_file(stand_in, tmp_path, capsys, monkeypatch):
    good = write(tmp_path / "good", modality="MR", body_part="BRAIN")
    bad = write(tmp_path / "bad", modality="MR", body_part="BRAIN")
    bad[1].write_bytes(bad[1].read_bytes() + b"spoilt")
    message = "in ensemble 'brain_mr', InvalidDicom: file 2 of 3: Rows (0028,0010) is missing"
    whole = stand_in.answer_series
    stand_in.answer_series = lambda files: Refusal(400, message) if b"spoilt" in files else whole(files)
    assert run("read", tmp_path, "--json", "--url", stand_in.url) == 1
    documents = {Path(document["folder"]).name: document for document in lines(capsys)}
    assert documents["bad"]["error"] == {
        "code": "InvalidDicom", "message": "file 2 of 3: Rows (0028,0010) is missing", "file": str(bad[1]),
    }  # fmt: skip
    assert documents["good"]["segments"]
    assert ("brain_mr", [file.read_bytes() for file in good]) in stand_in.series
    monkeypatch.setenv("COLUMNS", "160")
    assert run("read", tmp_path, "--url", stand_in.url) == 1
    out = capsys.readouterr().out
    assert f"bad/{bad[1].name}" in out
    assert "1 read, 1 not" in out


def test_a_pipeline_that_is_named_reads_all_series_whatever_they_are(stand_in, study, capsys):
    assert run("read", study / "below", "--json", "--url", stand_in.url, "--pipeline", "brain_mr") == 0
    (document,) = lines(capsys)
    assert (document["pipeline"], document["why"]) == ("brain_mr", "--pipeline brain_mr")


def test_a_pipeline_of_films_that_is_named_reads_each_file_of_a_series(stand_in, study, capsys):
    assert run("read", study / "below", "--json", "--url", stand_in.url, "--pipeline", "chest_xray") == 0
    assert len(lines(capsys)) == 3


def test_segmentations_are_written_and_open_where_the_slices_lie(stand_in, tmp_path, capsys):
    write(tmp_path / "a", modality="MR", body_part="BRAIN")
    write(tmp_path / "b" / "a", modality="MR", body_part="BRAIN")
    out = tmp_path / "out"
    assert run("read", tmp_path / "a", tmp_path / "b", "--json", "--url", stand_in.url, "--segmentation", out) == 0
    assert sorted(file.name for file in out.iterdir()) == ["a_1.2.json", "a_1.2.nii.gz", "a_1.json", "a_1.nii.gz"]
    assert {document["folder"]: document["segmentation"] for document in lines(capsys)} == {
        str(tmp_path / "a"): str(out / "a_1.nii.gz"), str(tmp_path / "b" / "a"): str(out / "a_1.2.nii.gz"),
    }  # fmt: skip
    image = nibabel.load(out / "a_1.nii.gz")
    assert image.get_data_dtype() == np.uint8
    assert (np.asarray(image.dataobj).transpose() == LABELS).all()
    assert image.affine.tolist() == np.diag([-10.0, -10.0, 10.0, 1.0]).tolist()
    assert image.header.get_zooms() == (10.0, 10.0, 10.0)
    assert image.header.get_xyzt_units()[0] == "mm"
    document = json.loads((out / "a_1.json").read_text())
    assert document["segments"] == [{"value": 1, "label": "grey matter"}, {"value": 2, "label": "white matter"}]


def test_a_nifti_of_an_oblique_stack_places_each_voxel_where_dicom_does():
    document = json.loads(fake_segmentation(LABELS).outputs["NOTES"].tobytes())
    affine = np.eye(4)
    affine[:3] = np.random.default_rng(5).normal(size=(3, 4))
    document["geometry"]["affine"] = affine.tolist()
    series = Notes.parse(json.dumps(document).encode()).series
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(nifti(LABELS, series)))
    lps = affine @ [2, 3, 4, 1]
    assert image.affine @ [4, 3, 2, 1] == pytest.approx([-lps[0], -lps[1], lps[2], 1], abs=1e-5)
    assert np.asarray(image.dataobj)[4, 3, 2] == LABELS[2, 3, 4]


def test_slices_at_uneven_distances_are_told(stand_in, tmp_path, capsys):
    answer = stand_in.answer_series(b"")
    document = json.loads(answer.outputs["NOTES"].tobytes())
    document["geometry"]["positions_mm"][1][2] += 3
    uneven = Notes.parse(json.dumps(document).encode()).series
    assert not is_even(uneven)
    notes = np.frombuffer(json.dumps(document).encode(), np.uint8)[None]
    stand_in.answer_series = lambda _: type(answer)(1, {**answer.outputs, "NOTES": notes})
    write(tmp_path / "a", modality="MR", body_part="BRAIN")
    assert run("read", tmp_path / "a", "--json", "--url", stand_in.url, "--segmentation", tmp_path / "out") == 0
    captured = capsys.readouterr()
    assert "uneven distances" in captured.err
    assert json.loads(captured.out)["segments"][0]["ml"] == pytest.approx(13.0)  # 10 pixels of 13 mm, not of 10
