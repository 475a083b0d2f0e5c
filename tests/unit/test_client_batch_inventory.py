"""What an archive holds and whose share it is: every entry exactly once, and no more opened or held than need be."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pydicom
import pytest
from pydicom.data import get_testdata_file
from tiers import tried
from wetread_client.batch import inventory as module
from wetread_client.batch.archive import Archive
from wetread_client.batch.errors import ArchiveAway, BatchError
from wetread_client.batch.inventory import Entry, Inventory, Shard, parse_line

if TYPE_CHECKING:
    from collections.abc import Iterable

SOURCE = get_testdata_file("CT_small.dcm")
STUDIES, GROWTH_MIB = tried(20_000, 100_000), tried(16, 40)
"""Held whole, 100,000 entries of three files would be 100."""
WHOLE = Shard()


def write_image(path: Path, modality: str, series: str) -> None:
    dataset = pydicom.dcmread(SOURCE)
    dataset.Modality, dataset.SeriesInstanceUID = modality, series
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path)


def empty_files(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def listed(source: object, shard: Shard = WHOLE, **options: object) -> list[Entry]:
    return list(Inventory(Archive(), str(source), **options).entries(shard))


def names(files: Iterable[str]) -> list[str]:
    return [Path(file).name for file in files]


@pytest.mark.parametrize("of", [1, 2, 7])
def test_the_shares_hold_every_entry_exactly_once_and_are_of_like_size(of):
    keys = [f"s3://archive/study-{number}" for number in range(2000)]
    shares = [[key for key in keys if Shard(index, of).has(key)] for index in range(of)]
    assert Counter(key for share in shares for key in share) == Counter(keys)
    assert min(map(len, shares)) > 0.8 * 2000 / of


def test_a_share_is_the_same_on_every_machine_and_for_ever():
    assert [key for key in "abcdefghij" if Shard(1, 3).has(key)] == ["a", "b"]


@pytest.mark.parametrize("options", [{}, {"layout": "files"}, {"layout": "headers"}, {"study_depth": 1}])
def test_however_it_is_listed_all_shares_together_hold_every_file_once(tmp_path, options):
    for number in range(12):
        write_image(
            tmp_path / f"study{number % 5}" / f"{number}.dcm", "CR" if number % 2 else "MR", f"2.25.{number % 3}"
        )
    empty_files(tmp_path, "loose.dcm")
    archive = Archive()
    found: list[str] = []
    for index in range(3):
        for entry in listed(tmp_path, Shard(index, 3), **options):
            found += entry.files or archive.below(entry.folder)
    assert Counter(found) == Counter(str(file) for file in tmp_path.rglob("*.dcm"))


def test_each_folder_that_holds_files_is_an_entry(tmp_path):
    empty_files(tmp_path, "a/1.dcm", "a/2.dcm", "b/3.dcm", "b/deeper/4.dcm", "none/x/5.dcm")
    told = {Path(entry.key).name: (entry.folder is not None, names(entry.files)) for entry in listed(tmp_path)}
    # of `b`, its own files alone: the folder in it is another entry
    assert told == {"a": (True, []), "b": (False, ["3.dcm"]), "deeper": (True, []), "x": (True, [])}


def test_with_a_depth_the_folders_of_other_shares_are_not_even_listed(tmp_path, monkeypatch):
    empty_files(tmp_path, *[f"2024/study{number}/series/1.dcm" for number in range(20)])
    asked: list[str] = []
    look = Archive.folder
    monkeypatch.setattr(Archive, "folder", lambda self, address: (asked.append(address), look(self, address))[1])
    # a folder's share goes by its whole path: which ones the first share holds is not the same in every run
    shares = [listed(tmp_path, Shard(index, 4), study_depth=2) for index in range(4)]
    assert sum(map(len, shares)) == 20
    assert sorted(Path(address).name for address in asked) == sorted(["2024", tmp_path.name] * 4)


def test_series_are_found_by_their_headers_wherever_their_files_lie(tmp_path):
    for number in range(6):
        write_image(tmp_path / f"{number % 2}" / f"{number}.dcm", "MR", f"2.25.{number % 3}")
    write_image(tmp_path / "film.dcm", "CR", "2.25.1")
    empty_files(tmp_path, "broken.dcm", "picture.png")
    found = {Path(entry.key).name: sorted(names(entry.files)) for entry in listed(tmp_path, layout="headers")}
    assert found == {
        "2.25.0": ["0.dcm", "3.dcm"],
        "2.25.1": ["1.dcm", "4.dcm"],
        "2.25.2": ["2.dcm", "5.dcm"],
        "film.dcm": ["film.dcm"],
        "broken.dcm": ["broken.dcm"],
        "picture.png": ["picture.png"],
    }


def test_a_folder_too_large_for_a_study_is_looked_into(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGEST_FOLDER", 3)
    for number in range(4):
        write_image(tmp_path / "flat" / f"{number}.dcm", "MR", f"2.25.{number % 2}")
    empty_files(tmp_path, "study/1.dcm")
    assert sorted(Path(entry.key).name for entry in listed(tmp_path)) == ["2.25.0", "2.25.1", "study"]


def test_nothing_is_opened_to_list_where_the_layout_allows_it(tmp_path, monkeypatch):
    empty_files(tmp_path, "a/1.dcm", "b/2.dcm")
    monkeypatch.setattr(Archive, "open", None)
    assert len(listed(tmp_path)) == 2
    assert len(listed(tmp_path, layout="files")) == 2
    assert len(listed(tmp_path, study_depth=1)) == 2


def test_a_manifest_names_files_folders_and_entries(tmp_path):
    manifest = tmp_path / "manifest.txt"
    manifest.write_text(
        "# a comment\n\nfilms/1.dcm\n/elsewhere/2.dcm\ns3://archive/3.dcm\nstudy/\n"
        '{"key": "k", "files": ["a.dcm", "b.dcm"]}\n{"folder": "c"}\n'
    )
    assert listed(manifest) == [
        Entry(f"{tmp_path}/films/1.dcm", files=(f"{tmp_path}/films/1.dcm",), named=True),
        Entry("/elsewhere/2.dcm", files=("/elsewhere/2.dcm",), named=True),
        Entry("s3://archive/3.dcm", files=("s3://archive/3.dcm",), named=True),
        Entry(f"{tmp_path}/study", folder=f"{tmp_path}/study"),
        Entry("k", files=(f"{tmp_path}/a.dcm", f"{tmp_path}/b.dcm"), named=True),
        Entry(f"{tmp_path}/c", folder=f"{tmp_path}/c"),
    ]


@pytest.mark.parametrize("line", ["{", "{}", '{"files": []}', '{"files": 3}'])
def test_a_line_of_a_manifest_that_is_none_is_named_by_its_number(tmp_path, line):
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text(f"a.dcm\n{line}\n")
    with pytest.raises(BatchError, match="line 2"):
        listed(manifest)


def test_an_entry_comes_back_from_its_line(tmp_path):
    empty_files(tmp_path, "a/1.dcm", "a/b/2.dcm")
    for entry in [*listed(tmp_path), *listed(tmp_path / "a" / "1.dcm"), *listed(tmp_path, layout="files")]:
        assert parse_line(entry.line()) == entry


def test_an_archive_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ArchiveAway, match=r"nothing is at .*gone"):
        listed(tmp_path / "gone")
    with pytest.raises(BatchError, match="cannot be opened"):
        listed("no-such-protocol://archive")


@pytest.mark.slow
def test_many_studies_fit_in_little_memory(tmp_path):
    manifest = tmp_path / "manifest.jsonl"
    with manifest.open("w") as content:
        for number in range(STUDIES):
            files = [f"s3://archive/2019/patient-{number:08d}/study/series/{one:04d}.dcm" for one in range(3)]
            content.write(json.dumps({"files": files}) + "\n")
    program = f"""
import re
from wetread_client.batch.archive import Archive
from wetread_client.batch.inventory import Inventory, Shard, parse_line
from wetread_client.batch.out import FolderOut
from wetread_client.batch.results import skipped_line, take_up
def peak():  # getrusage would give that of the process which started this one, where it is larger
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
before = peak()
out = FolderOut(__import__("pathlib").Path({str(tmp_path / "out")!r}))
inventory = Inventory(Archive(), {str(manifest)!r})
out.put("inventory.jsonl", (entry.line() for entry in inventory.entries(Shard())))
out.put("results-0-of-1.jsonl", (skipped_line(parse_line(line.decode()).key) for line in out.lines("inventory.jsonl")))
done = take_up(out, own="results-0-of-1.", mine=Shard().has, retry_failed=False)
left = sum(not done.has_entry(parse_line(line.decode()).key) for line in out.lines("inventory.jsonl"))
assert (len(done.entries), left) == ({STUDIES}, 0)
print((peak() - before) // 1024)
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(told.stdout) < GROWTH_MIB, f"{told.stdout.strip()} MiB"
