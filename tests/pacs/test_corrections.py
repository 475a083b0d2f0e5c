from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sent_films import (
    Film,
    await_objects,
    await_true,
    captures,
    objects,
    of_kind,
    predecessors,
    rows,
    sources,
    spooled,
    uid,
)
from wetread_bench.orthanc import missing
from wetread_gateway.state.tables import EVENTS, INSTANCES, WORKS

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import Dataset
    from wetread_bench.hospital import Hospital

pytestmark = [
    pytest.mark.pacs,
    pytest.mark.triton,
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing("Orthanc", "storescu")), reason=missing("Orthanc", "storescu")),
]


def send(hospital: Hospital, folder: Path, *films: Film) -> None:
    """Over one association."""
    assert hospital.storescu([film.write(folder) for film in films]) == 0


def dx(**given: object) -> Film:
    """A film that is read at once."""
    return Film(**{"study": uid(), "sop": uid(), **given})


def series(count: int, **given: object) -> list[Film]:
    """Films that are read as a series."""
    told = {"study": uid(), "series": uid(), "modality": "CR", **given}
    return [Film(sop=uid(), picture=at, number=at + 1, **told) for at in range(count)]


def probabilities(report: Dataset) -> list[float]:
    """Every numeric value of a report."""
    found = [float(report.MeasuredValueSequence[0].NumericValue)] if "MeasuredValueSequence" in report else []
    for item in report.get("ContentSequence") or ():
        found += probabilities(item)
    return found


def test_a_film_corrected_to_another_patient_is_reported_there_and_withdrawn_here(hospital, tmp_path) -> None:
    wrong = dx(patient="WRONG", picture=3)
    send(hospital, tmp_path, wrong)
    (report,) = of_kind(await_objects(hospital, wrong.study, 2), "SR")
    right = dx(sop=wrong.sop, patient="RIGHT", picture=3)
    send(hospital, tmp_path, right)
    new = await_objects(hospital, right.study, 2)
    (corrected,) = of_kind(new, "SR")
    assert (corrected.PatientID, corrected.StudyInstanceUID) == ("RIGHT", right.study)
    assert probabilities(corrected) == probabilities(report)
    assert len(captures(new)) == 1
    old = await_objects(hospital, wrong.study, 4)
    (withdrawal,) = (one for one in of_kind(old, "SR") if one.SOPInstanceUID != report.SOPInstanceUID)
    assert report.SOPInstanceUID in predecessors(withdrawal)
    (rejection,) = of_kind(old, "KO")
    assert {withdrawal.PatientID, rejection.PatientID} == {"WRONG"}
    assert report.SOPInstanceUID in sources(rejection)
    kinds = sorted(work.kind for study in (wrong.study, right.study) for work in rows(hospital, WORKS, study))
    assert kinds == ["read", "reuse", "withdraw"]


def test_a_film_sent_in_two_transfer_syntaxes_is_read_once(hospital, tmp_path) -> None:
    film = dx(picture=4)
    assert hospital.storescu([film.write(tmp_path)]) == 0
    assert len(await_objects(hospital, film.study, 2)) == 2
    assert hospital.storescu([film.write(tmp_path, jpeg_2000=True)], "-xv") == 0
    assert await_true(lambda: len(rows(hospital, INSTANCES, film.study)) == 2)
    states = {row.transfer_syntax: row.state for row in rows(hospital, INSTANCES, film.study)}
    assert states["1.2.840.10008.1.2.4.90"] == "duplicate"
    assert len(rows(hospital, WORKS, film.study)) == 1
    assert len(objects(hospital, film.study)) == 2


def test_other_pixels_under_a_known_uid_are_quarantined_with_an_alert(hospital, tmp_path) -> None:
    film = dx(picture=5)
    send(hospital, tmp_path, film)
    assert len(await_objects(hospital, film.study, 2)) == 2
    send(hospital, tmp_path, dx(study=film.study, sop=film.sop, picture=6))
    assert await_true(lambda: len(spooled(hospital, "quarantine", film.study)) == 1)
    states = {"sorted", "quarantined"}
    assert await_true(lambda: {row.state for row in rows(hospital, INSTANCES, film.study)} == states)
    assert await_true(lambda: any(event.stage == "alert" for event in rows(hospital, EVENTS, film.study)))
    assert len(objects(hospital, film.study)) == 2


@pytest.mark.parametrize("modality", ["CR", "DX"])
def test_two_patients_in_one_study_never_meet_in_one_result(hospital, tmp_path, modality) -> None:
    study, number = uid(), uid()
    films = [
        Film(study, uid(), patient=name, series=number, picture=at, modality=modality)
        for at, name in enumerate(("FIRST", "SECOND"), 10)
    ]
    send(hospital, tmp_path, *films)
    await_objects(hospital, study, 2)
    assert await_true(lambda: all(work.state == "finished" for work in rows(hospital, WORKS, study)))
    patients = {film.sop: film.patient for film in films}
    reports = of_kind(objects(hospital, study), "SR")
    assert reports
    for report in reports:
        assert {patients[source] for source in sources(report)} == {report.PatientID}


def test_a_whole_series_is_one_report_that_names_every_film(hospital, tmp_path) -> None:
    films = series(3, expected=3)
    send(hospital, tmp_path, *films)
    (report,) = of_kind(await_objects(hospital, films[0].study, 2), "SR")
    assert sources(report) == {film.sop for film in films}
    (work,) = rows(hospital, WORKS, films[0].study)
    assert (work.completeness, work.expected) == ("confirmed", 3)


def test_a_series_cut_at_its_end_says_so_and_a_late_film_makes_a_new_reading(hospital, tmp_path) -> None:
    *first, late = series(4, expected=4)
    send(hospital, tmp_path, *first)
    (cut,) = of_kind(await_objects(hospital, late.study, 2), "SR")
    assert sources(cut) == {film.sop for film in first}
    (work,) = rows(hospital, WORKS, late.study)
    assert work.completeness == "unconfirmed"
    assert "not confirmed" in cut.to_json()
    assert "3 of 4" in cut.CompletionFlagDescription
    send(hospital, tmp_path, late)
    found = of_kind(await_objects(hospital, late.study, 4), "SR")
    (whole,) = (report for report in found if report.SOPInstanceUID != cut.SOPInstanceUID)
    assert sources(whole) == {film.sop for film in (*first, late)}
    assert cut.SOPInstanceUID in predecessors(whole)
    second = max(rows(hospital, WORKS, late.study), key=lambda row: row.id)
    assert (second.predecessor, second.number, second.completeness) == (work.id, work.number + 1, "confirmed")
