"""Films in shared memory: only clients' regions, never beyond their end, never kept longer than their owners do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from wetread_preprocess import FilmRegions, InvalidDicom, RegionNotFound

NAME = "wetread_film_0123456789abcdef"


@pytest.fixture
def regions(tmp_path):
    regions = FilmRegions(str(tmp_path))
    yield regions
    regions.close()


def mapped_regions(folder) -> int:
    """How many mappings of files in a folder this process has, removed files included."""
    return sum(str(folder) in line for line in Path("/proc/self/maps").read_text().splitlines())


def test_a_film_is_read_where_it_lies(regions, tmp_path):
    path = tmp_path / NAME
    path.write_bytes(b"first film, and what an older one left")
    assert bytes(regions.film(f"{NAME}:10")) == b"first film"
    with path.open("r+b") as file:
        file.write(b"other film")
    assert bytes(regions.film(f"{NAME}:10")) == b"other film"
    assert mapped_regions(tmp_path) == 1


@pytest.mark.parametrize(
    "reference",
    [
        "",
        NAME,
        f"{NAME}:0",
        f"{NAME}:-5",
        f"{NAME}:10:2",
        f"../{NAME}:10",
        "wetread_film_0123456789ABCDEF:10",
        "triton_python_backend_shm_region_1:10",
        f"{NAME}/../other:10",
    ],
)
def test_a_reference_of_another_form_is_refused(regions, reference):
    with pytest.raises(InvalidDicom, match="film_region"):
        regions.film(reference)


def test_a_region_that_is_not_there_is_told_apart_from_a_bad_film(regions):
    with pytest.raises(RegionNotFound):
        regions.film(f"{NAME}:10")


def test_a_link_out_of_the_folder_is_not_followed(regions, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"not a film")
    (tmp_path / NAME).symlink_to(secret)
    with pytest.raises(RegionNotFound):
        regions.film(f"{NAME}:10")


def test_more_bytes_than_the_region_holds_are_refused_also_when_it_shrank_since(regions, tmp_path):
    path = tmp_path / NAME
    path.write_bytes(bytes(20_000))
    with pytest.raises(InvalidDicom, match="fewer"):
        regions.film(f"{NAME}:20001")
    assert len(regions.film(f"{NAME}:20000")) == 20_000
    os.truncate(path, 5000)
    with pytest.raises(InvalidDicom, match="fewer"):
        regions.film(f"{NAME}:20000")


def test_regions_that_their_owners_removed_are_let_go_with_the_next_new_one(regions, tmp_path):
    for number in range(5):
        path = tmp_path / f"wetread_film_{number:016x}"
        path.write_bytes(b"film")
        regions.film(f"{path.name}:4")
        path.unlink()
    assert mapped_regions(tmp_path) == 1


def test_no_more_than_a_bound_stay_mapped(regions, tmp_path):
    for number in range(100):
        path = tmp_path / f"wetread_film_{number:016x}"
        path.write_bytes(b"film")
        assert bytes(regions.film(f"{path.name}:4")) == b"film"
    assert mapped_regions(tmp_path) == 64
    regions.close()
    assert mapped_regions(tmp_path) == 0
