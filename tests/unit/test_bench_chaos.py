from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest
from films import film, radiograph
from pydicom.uid import ExplicitVRLittleEndian
from wetread_bench.chaos_count import Holdings, StoredReport, judge
from wetread_bench.chaos_faults import KILLS, Fault, plan_faults
from wetread_bench.chaos_films import BAD, FilmMaker, Kind, Planned, plan_films
from wetread_bench.chaos_senders import Ledger
from wetread_bench.fresh_films import FilmTemplate, Identity
from wetread_bench.hospital import acknowledged

CHECKOUT = Path(__file__).parents[2]
LOG = """I: Sending file: /tmp/1.dcm
I: Sending Store Request (MsgID 1, DX)
I: Received Store Response (Success)
I: Sending file: /tmp/2.dcm
I: Sending Store Request (MsgID 2, DX)
I: Received Store Response (Refused: OutOfResources)
E: Store Failed, file: /tmp/2.dcm:
"""


def planned(number: int, kind: Kind = Kind.READABLE, *, twice: bool = False) -> Planned:
    return Planned(Identity(1, number), kind, twice)


def report(of: Planned, name: str = "1", *, refusal: bool = False) -> StoredReport:
    return StoredReport(f"{of.identity.sop_uid}.{name}", (of.identity.sop_uid,), refusal, is_successor=False)


def captures(*films: Planned) -> Counter[str]:
    return Counter(one.identity.study_uid for one in films)


def test_a_film_under_a_new_identity_differs_in_its_uids_and_its_number_alone() -> None:
    pixels = radiograph(64, 48)
    template = FilmTemplate(film(pixels, StudyInstanceUID="1.2", SeriesInstanceUID="1.3"))
    one, other = (pydicom.dcmread(io.BytesIO(template.film(Identity(3, number)))) for number in (70_000, 70_001))
    assert one.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert one.SOPInstanceUID == one.file_meta.MediaStorageSOPInstanceUID == Identity(3, 70_000).sop_uid
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "PixelData"):
        assert one[keyword].value != other[keyword].value
    assert np.array_equal(one.pixel_array[1:], pixels[1:])
    assert np.array_equal(one.pixel_array[0, :4], [70_000 & 255, 70_000 >> 8 & 255, 70_000 >> 16, 0])
    assert {len(template.film(Identity(1, number))) for number in (1, 99)} == {template.size}


def test_the_same_seed_plans_the_same_films_and_faults() -> None:
    assert plan_films(300, 9) == plan_films(300, 9) != plan_films(300, 10)
    kinds = Counter(one.kind for one in plan_films(1000, 9))
    assert sum(kinds[kind] for kind in BAD) == 10
    faults = plan_faults(60, 9)
    assert faults == plan_faults(60, 9)
    counted = Counter(one.fault for one in faults)
    assert sum(counted[kind] for kind in KILLS) == 60
    assert (counted[Fault.PACS], counted[Fault.DISK]) == (2, 1)
    assert all(counted[kind] for kind in KILLS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(Kind))
def test_films_are_written_as_planned(tmp_path: Path, kind: Kind) -> None:
    maker = FilmMaker(CHECKOUT)
    dataset = pydicom.dcmread(maker.write(tmp_path, planned(5, kind)))
    assert dataset.SOPInstanceUID == Identity(1, 5).sop_uid
    assert ("Rows" in dataset) == (kind is not Kind.HEADLESS)
    assert (dataset.SamplesPerPixel == 3) == (kind is Kind.COLOUR)
    assert (len(dataset.PixelData) < 512 * 512 * 2) == (kind is Kind.TRUNCATED)


def test_only_what_a_log_calls_success_counts() -> None:
    assert acknowledged(LOG) == ["/tmp/1.dcm"]
    films = [planned(1, twice=True), planned(2)]
    ledger = Ledger(films)
    assert ledger.take(5) == films
    assert not ledger.is_done
    assert ledger.give_back(films, [1], Counter()) == 1
    assert ledger.count == 1
    again = ledger.take(5)
    assert sorted(one.identity.number for one in again) == [1, 2]  # one once more, two since it was refused
    ledger.give_back(again, [1, 2], Counter())
    assert ledger.is_done
    assert ledger.acknowledged == {1: 2, 2: 1}


def test_a_run_in_which_every_film_ends_as_it_should_is_right() -> None:
    good, bad, buried = planned(1), planned(2, Kind.COLOUR), planned(3, Kind.HEADLESS)
    held = Holdings((report(good), report(bad, refusal=True)), captures(good))
    outcome = judge([good, bad, buried], held, [buried.identity.study_uid])
    assert outcome.is_right
    assert outcome.figures == {
        "acknowledged": 3, "delivered": 1, "readable_not_delivered": 0, "dead_letter": 2, "planted_bad": 2,
        "lost": 0, "duplicate_srs": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("reports", "with_capture", "dead", "figure", "value"),
    [
        ([], False, False, "lost", 1),
        ([], False, True, "readable_not_delivered", 1),
        ([{"refusal": True}], False, False, "dead_letter", 1),
        ([{}, {"name": "2"}], True, False, "duplicate_srs", 1),
        ([{}], False, False, "delivered", 1),  # but without its capture
    ],
)
def test_whatever_is_wrong_shows_in_the_figures(reports, with_capture, dead, figure, value) -> None:
    one = planned(1)
    held = Holdings(tuple(report(one, **given) for given in reports), captures(*[one] * with_capture))
    outcome = judge([one], held, [one.identity.study_uid] * dead)
    assert outcome.figures[figure] == value
    assert not outcome.is_right


def test_a_bad_film_that_was_read_is_not_right() -> None:
    bad = planned(1, Kind.TRUNCATED)
    assert not judge([bad], Holdings((report(bad),), captures()), []).is_right
