"""Batches against a transport without a server: killed, resumed, refused, away, late."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pydicom
import pytest
from pydicom.data import get_testdata_file
from wetread_client import Client, FakeTransport, Retry
from wetread_client.batch.archive import Archive
from wetread_client.batch.desk import DeskOptions
from wetread_client.batch.errors import BatchError
from wetread_client.batch.inventory import Inventory, Shard
from wetread_client.batch.out import FolderOut
from wetread_client.batch.pace import Pace
from wetread_client.batch.run import IN_A_ROW, Batch, run
from wetread_client.errors import Rejected, ServerError, Unavailable
from wetread_client.fake import fake_answer, fake_segmentation
from wetread_client.transport import DICOM, LENGTHS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wetread_client.fake import FakeRequest

CHILD = Path(__file__).with_name("batch_child.py")
AT_ONCE = Retry(times=0, first_wait_s=0.0, longest_wait_s=0.0)
SOURCE = get_testdata_file("CT_small.dcm")
STUDY_UID = "2.25.7"


def write_image(path: Path, number: int, modality: str = "CR", series: int = 0) -> Path:
    dataset = pydicom.dcmread(SOURCE)
    dataset.Modality, dataset.SOPInstanceUID = modality, f"2.25.1{number}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY_UID, f"2.25.2{series}"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path)
    return path


def films(folder: Path, count: int, in_each: int = 1) -> Path:
    """An archive of studies, so many films in each."""
    for number in range(count):
        write_image(folder / f"study{number // in_each:03d}" / f"{number}.dcm", number)
    return folder


def batch(source: Path, out: Path, transport: FakeTransport, **changed: object) -> Batch:
    settings: dict[str, object] = {
        "inventory": Inventory(Archive(), str(source)),
        "shard": Shard(),
        "out": FolderOut(out),
        "connect": lambda name: Client("fake", name, transport=transport, retry=AT_ONCE),
        "options": DeskOptions(backoff=AT_ONCE),
        "pace": Pace(),
    }
    return Batch(**(settings | changed))


def lines(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for path in sorted(out.glob("results-*.jsonl")) for line in path.read_text().splitlines()]


def reader(**options: object) -> FakeTransport:
    return FakeTransport([fake_answer([0.9])], **options)


def fails_first(*errors: Exception) -> FakeTransport:
    return FakeTransport([*errors, fake_answer([0.9])])


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments_a_batch_loses_nothing_and_reads_nothing_twice(tmp_path, seed):
    source, out = films(tmp_path / "archive", 60, in_each=3), tmp_path / "out"
    chance = random.Random(seed)
    for _ in range(4):
        command = [sys.executable, CHILD, source, out, str(chance.randint(1, 60))]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    subprocess.run([sys.executable, CHILD, source, out, "0"], check=True)
    read = Counter(line["file"] for line in lines(out))
    assert read == Counter(str(path) for path in source.rglob("*.dcm"))


def test_what_is_done_is_not_sent_again(tmp_path):
    source, out = films(tmp_path / "archive", 6, in_each=2), tmp_path / "out"
    assert run(batch(source, out, reader(), pace=Pace(limit=3))).left == 2
    rest = reader()
    summary = run(batch(source, out, rest))
    assert (summary.is_well, summary.left, summary.outcomes, summary.this_run) == (True, 0, {"read": 6}, {"read": 3})
    assert len(rest.requests) == 3
    assert run(batch(source, out, nothing := reader())).is_well
    assert nothing.requests == []


def test_a_line_tells_what_was_found_and_where(tmp_path):
    source, out = films(tmp_path / "archive", 1), tmp_path / "out"
    transport = FakeTransport([fake_answer([0.9], release=4, novelty=1.5, warnings=["old"])])
    run(batch(source, out, transport))
    (line,) = lines(out)
    assert line.pop("ms") >= 0
    assert line.pop("at")
    file = str(source / "study000" / "0.dcm")
    assert line == {
        "entry": str(source / "study000"),
        "works": 1,
        "key": file,
        "outcome": "read",
        "file": file,
        "study_uid": STUDY_UID,
        "series_uid": "2.25.20",
        "sop_uid": "2.25.10",
        "modality": "CR",
        "pipeline": "chest_xray",
        "release": 4,
        "findings": [{"label": "finding", "probability": pytest.approx(0.9), "positive": True}],
        "novelty": 1.5,
        "segments": [],
        "warnings": ["old"],
        "left_out": 0,
    }


def test_films_and_the_series_of_a_study_are_each_read_with_their_own_pipeline(tmp_path):
    source, out = tmp_path / "archive", tmp_path / "out"
    write_image(source / "study" / "film.dcm", 0)
    for number in range(1, 4):
        write_image(source / "study" / "mr" / f"{number}.dcm", number, "MR", 1)
    write_image(source / "study" / "us.dcm", 9, "US")

    def answer(request: FakeRequest):
        return fake_segmentation() if request.model == "brain_mr" else fake_answer()

    # `study_depth`: the study is one entry, with the folder in it
    transport = FakeTransport([answer], inputs=frozenset({DICOM, LENGTHS}), outputs=frozenset({*fake_answer().outputs}))
    transport.outputs = lambda model, *_: frozenset(
        (fake_segmentation() if model == "brain_mr" else fake_answer()).outputs
    )
    summary = run(batch(source, out, transport, inventory=Inventory(Archive(), str(source), study_depth=1)))
    assert summary.outcomes == {"read": 2, "refused": 1}
    told = {line.get("modality"): line for line in lines(out)}
    assert (told["MR"]["files"], told["MR"]["series_uid"], told["MR"]["pipeline"]) == (3, "2.25.21", "brain_mr")
    assert told["MR"]["segments"] == [{"label": "segment", "ml": 0.01}]
    assert "no pipeline reads" in told["US"]["error"]["message"]
    assert {line["works"] for line in told.values()} == {3}


def test_a_refused_film_is_done_and_no_failure(tmp_path):
    source, out = films(tmp_path / "archive", 1), tmp_path / "out"
    summary = run(batch(source, out, fails_first(Rejected("InvalidDicom", "cut short"))))
    assert (summary.is_well, summary.outcomes) == (True, {"refused": 1})
    assert lines(out)[0]["error"] == {"code": "InvalidDicom", "message": "cut short"}


def test_a_server_that_breaks_over_a_film_three_times_fails_it_and_it_is_tried_again_when_told(tmp_path):
    source, out = films(tmp_path / "archive", 1), tmp_path / "out"
    assert run(batch(source, out, fails_first(*[ServerError("INTERNAL", "stub died")] * 2))).outcomes == {"read": 1}
    out = tmp_path / "other"
    summary = run(batch(source, out, fails_first(*[ServerError("INTERNAL", "stub died")] * 3)))
    assert (summary.is_well, summary.outcomes) == (False, {"failed": 1})
    assert not run(batch(source, out, reader())).is_well
    summary = run(batch(source, out, reader(), retry_failed=True))
    assert (summary.is_well, summary.outcomes, len(lines(out))) == (True, {"read": 1}, 1)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "NOT_FOUND"])
def test_a_server_that_is_away_fails_nothing_however_long(tmp_path, code):
    source, out = films(tmp_path / "archive", 2), tmp_path / "out"
    transport = fails_first(*[Unavailable(code, "down")] * 30)
    transport.is_ready = transport.is_live = lambda *_: len(transport.requests) > 30
    summary = run(batch(source, out, transport))
    assert (summary.is_well, summary.outcomes) == (True, {"read": 2})


def test_a_film_that_a_server_in_health_never_answers_fails_alone(tmp_path):
    source, out = films(tmp_path / "archive", 1), tmp_path / "out"
    summary = run(batch(source, out, fails_first(*[Unavailable("DEADLINE_EXCEEDED", "late")] * 5)))
    assert summary.outcomes == {"failed": 1}


def test_studies_of_a_pipeline_that_is_not_served_are_left_for_another_day(tmp_path):
    source, out = films(tmp_path / "archive", 3), tmp_path / "out"
    lacking = FakeTransport([Unavailable("NOT_FOUND", "unknown model")], ready=False)
    summary = run(batch(source, out, lacking, options=DeskOptions(backoff=AT_ONCE, patience_s=0)))
    assert (summary.is_well, summary.left, summary.outcomes["failed"], lines(out)) == (False, 3, 0, [])
    assert "3 films and series need chest_xray, which the server does not serve" in str(summary)
    assert run(batch(source, out, reader())).outcomes == {"read": 3}


def test_files_that_are_none_or_cannot_be_read_fail_alone(tmp_path, monkeypatch):
    source, out = films(tmp_path / "archive", 2), tmp_path / "out"
    (source / "study000" / "notes.txt").write_text("no film")
    (source / "empty").mkdir()
    (source / "text").mkdir()
    (source / "text" / "notes.txt").write_text("no film")
    (source / "study001" / "1.dcm").unlink()
    (source / "study001" / "1.dcm").symlink_to("gone")
    summary = run(batch(source, out, reader()))
    assert summary.outcomes == {"read": 1, "failed": 1, "skipped": 1}
    (failed,) = [line for line in lines(out) if line["outcome"] == "failed"]
    assert failed["error"]["code"] == "FileNotFoundError"
    assert not run(batch(source, out, nothing := reader())).is_well
    assert nothing.requests == []


@pytest.mark.slow
def test_a_run_in_which_all_fails_ends_itself(tmp_path):
    source, out = films(tmp_path / "archive", IN_A_ROW + 10, in_each=1), tmp_path / "out"
    summary = run(batch(source, out, FakeTransport([ServerError("INTERNAL", "broken")])))
    assert summary.why == f"{IN_A_ROW} failures in a row"
    assert IN_A_ROW <= summary.outcomes["failed"] <= IN_A_ROW + 4
    assert not summary.is_well


def test_an_error_of_ours_ends_the_run_and_no_thread_waits_on(tmp_path):
    source = films(tmp_path / "archive", 3)
    with pytest.raises(ZeroDivisionError):
        run(batch(source, tmp_path / "out", FakeTransport([ZeroDivisionError()])))


def test_results_of_another_archive_are_not_mixed_in(tmp_path):
    run(batch(films(tmp_path / "one", 1), tmp_path / "out", reader()))
    with pytest.raises(BatchError, match="results of another batch"):
        run(batch(films(tmp_path / "two", 1), tmp_path / "out", reader()))


def shards(source: Path, out: Path, of: int, transport: FakeTransport) -> Sequence[int]:
    return [len(run(batch(source, out, transport, shard=Shard(n, of))).this_run) for n in range(of)]


def test_the_number_of_shares_may_change_between_runs(tmp_path):
    source, out = films(tmp_path / "archive", 12), tmp_path / "out"
    run(batch(source, out, reader(), shard=Shard(0, 3)))
    shards(source, out, 2, reader())
    assert Counter(line["file"] for line in lines(out)) == Counter(str(path) for path in source.rglob("*.dcm"))


def test_new_studies_are_found_when_told_to_look(tmp_path):
    source, out = films(tmp_path / "archive", 2), tmp_path / "out"
    run(batch(source, out, reader()))
    films(source, 3)
    assert run(batch(source, out, reader())).entries == 2
    assert run(batch(source, out, reader(), rescan=True)).outcomes == {"read": 3}
