"""What a batch keeps: lines that survive a kill, and what they say need not be read again."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from wetread_client.batch.errors import BatchError
from wetread_client.batch.out import FolderOut
from wetread_client.batch.out_objects import ObjectOut
from wetread_client.batch.results import FAILED, READ, take_up

if TYPE_CHECKING:
    from pathlib import Path

    from wetread_client.batch.out import Out
    from wetread_client.batch.results import Done

NAME = "results-0-of-1"


def line(entry: str, key: str | None = None, outcome: str = READ, works: int = 1) -> str:
    return json.dumps({"entry": entry, "works": works, "key": key or entry, "outcome": outcome})


def taken(out: Out, *, retry_failed: bool = False) -> Done:
    return take_up(out, own=f"{NAME}.", mine=lambda _: True, retry_failed=retry_failed)


def keep(out: Out, *lines: str) -> None:
    log = out.log(NAME)
    for one in lines:
        log.append(one)
    log.close()


@pytest.fixture(params=["folder", "objects"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> Out:
    if request.param == "folder":
        return FolderOut(tmp_path / "out")
    return ObjectOut(f"memory://{tmp_path.name}/{request.node.name}")


def test_an_entry_is_done_when_all_of_its_works_have_a_line(out):
    keep(out, line("a"), line("b", "b1", works=2), line("c", "c1", works=2), line("c", "c2", works=2))
    done = taken(out)
    assert [done.has_entry(entry) for entry in "abcd"] == [True, False, True, False]
    assert (done.has_work("b", "b1"), done.has_work("b", "b2")) == (True, False)
    assert done.outcomes == {READ: 4}


def test_a_second_line_of_a_work_counts_for_nothing(out):
    keep(out, line("a"), line("a"), line("b", "b1", works=2), line("b", "b1", works=2))
    done = taken(out)
    assert done.outcomes == {READ: 2}
    assert not done.has_entry("b")


def test_a_later_run_goes_on_in_a_log_and_loses_nothing(out):
    keep(out, line("a"))
    keep(out, line("b"))
    assert taken(out).outcomes == {READ: 2}


def test_what_failed_is_done_until_it_is_to_be_tried_again_and_then_its_line_goes(out):
    keep(out, line("a"), line("b", outcome=FAILED))
    assert taken(out).has_entry("b")
    done = taken(out, retry_failed=True)
    assert (done.has_entry("a"), done.has_entry("b")) == (True, False)
    keep(out, line("b"))
    assert taken(out).outcomes == {READ: 2}


def test_lines_of_another_number_of_shares_count(out):
    log = out.log("results-1-of-3")
    log.append(line("a"))
    log.close()
    assert taken(out).has_entry("a")


def test_lines_of_entries_of_other_shares_are_not_held(out):
    keep(out, line("mine"), line("other"))
    done = take_up(out, own=f"{NAME}.", mine=lambda entry: entry == "mine", retry_failed=False)
    assert (len(done.entries), done.outcomes) == (1, {READ: 1})


def test_only_the_first_of_two_batches_names_a_folder(out):
    assert out.put_first("batch.jsonl", "one")
    assert not out.put_first("batch.jsonl", "two")
    assert b"".join(out.lines("batch.jsonl")).strip() == b"one"


def test_a_file_that_could_not_be_written_whole_is_not_there(out):
    def lines():
        yield "one"
        raise RuntimeError("cut short")

    with pytest.raises(RuntimeError):
        out.put("inventory-0-of-1.jsonl", lines())
    assert out.names("") == []


@pytest.mark.parametrize("half", [b'{"entry": "c", "wor', b'{"entry": "c"}' * 10_000, b"x"])
def test_a_half_written_last_line_is_dropped_and_its_film_is_not_done(tmp_path, half):
    out = FolderOut(tmp_path)
    keep(out, line("a"), line("b"))
    path = tmp_path / f"{NAME}.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + half)
    done = taken(out)
    assert (done.has_entry("b"), done.has_entry("c")) == (True, False)
    keep(out)
    assert path.read_bytes() == whole


def test_a_log_that_is_one_half_line_is_emptied(tmp_path):
    path = tmp_path / f"{NAME}.jsonl"
    path.write_bytes(b"{" * 200_000)
    keep(FolderOut(tmp_path))
    assert path.read_bytes() == b""


def test_a_block_of_zeros_that_a_crash_left_within_a_log_is_dropped_alone(tmp_path):
    out = FolderOut(tmp_path)
    path = tmp_path / f"{NAME}.jsonl"
    path.write_bytes(f"{line('a')}\n".encode() + b"\0" * 100 + f"\n{line('b')}\n".encode())
    done = taken(out)
    assert (done.has_entry("a"), done.has_entry("b")) == (True, True)
    assert path.read_text().splitlines() == [line("a"), line("b")]


def test_lines_are_made_durable_every_few(tmp_path, monkeypatch):
    log = FolderOut(tmp_path).log(NAME)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    monkeypatch.setattr("wetread_client.batch.out.SYNC_S", 1e9)
    for number in range(45):
        log.append(line(str(number)))
    assert len(synced) == 2
    log.sync()
    log.sync()
    assert len(synced) == 3
    monkeypatch.undo()
    log.close()


def test_a_share_is_one_processs(tmp_path):
    out = FolderOut(tmp_path)
    with (
        out.claim(NAME),
        pytest.raises(BatchError, match=r"another process writes .*results-0-of-1"),
        FolderOut(tmp_path).claim(NAME),
    ):
        pass
    with out.claim(NAME):
        pass
