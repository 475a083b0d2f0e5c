"""The whole trip while a release is tried: reports say which arm read, clients choose the same, shadows go nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from second_release import APPROVED, publish_wider, rollout_command
from sent_films import Film, await_objects, await_true, captures, objects, of_kind, rows, uid
from wetread_bench.orthanc import missing
from wetread_client import Client
from wetread_client.rollout import Arm, Rollout, assign, key_of, open_store
from wetread_gateway.state.tables import SHADOW_READINGS, WORKS

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path

    from kept_alive import KeptAlive
    from pydicom.dataset import Dataset
    from wetread_bench.hospital import Hospital

pytestmark = [
    pytest.mark.pacs,
    pytest.mark.triton,
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing("Orthanc", "storescu")), reason=missing("Orthanc", "storescu")),
]
PATIENTS = 18


@pytest.fixture(scope="module")
def state(release_server: KeptAlive) -> Path:
    return release_server.config.state


@pytest.fixture(scope="module")
def films() -> list[Film]:
    """A first film of each patient."""
    return [Film(uid(), uid(), patient=f"ARM{n}", picture=n) for n in range(PATIENTS)]


@pytest.fixture(scope="module")
def hospital(release_hospital: Hospital, state: Path, tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    """A hospital whose server tries release 2 with half of the patients, and asks it about the others in shadow."""
    publish_wider(tmp_path_factory.mktemp("draft") / "chest_xray", state)
    rollout_command(state, "set", "chest_xray", "--candidate", "50", *APPROVED)
    return release_hospital


def in_force(state: Path) -> Rollout:
    rollout = open_store(str(state / "rollout")).read("chest_xray")
    assert rollout is not None
    return rollout


def readers(found: list[Dataset]) -> set[str]:
    """What the objects' equipment says of who read."""
    return {dataset.ContributingEquipmentSequence[0].ContributionDescription.split(":")[0] for dataset in found}


def read(hospital: Hospital, folder: Path, films: list[Film]) -> dict[str, str]:
    """Send films; give, by study, the one release and arm that report and capture name."""
    assert hospital.storescu([film.write(folder) for film in films]) == 0
    named = {}
    for film in films:
        found = await_objects(hospital, film.study, 2)
        assert (len(of_kind(found, "SR")), len(captures(found))) == (1, 1)
        (named[film.study],) = readers(found)
    return named


def await_reader(hospital: Hospital, folder: Path, patient: str, who: str) -> None:
    """Wait until new films of a patient are read by somebody: each process takes a rollout up within a second."""
    assert await_true(lambda: set(read(hospital, folder, [Film(uid(), uid(), patient=patient)]).values()) == {who})


def test_studies_are_read_by_the_arm_that_a_plain_client_would_ask(hospital, state, films, tmp_path) -> None:
    rollout = in_force(state)
    arms = {
        film.study: assign(rollout, key_of(rollout, patient_id=film.patient, study_uid=film.study)) for film in films
    }
    assert set(arms.values()) == {Arm.STABLE, Arm.CANDIDATE}, "the salt gave all patients one arm: run it again"
    said = {
        Arm.STABLE: "chest_xray, release 1 (stable arm)",
        Arm.CANDIDATE: "chest_xray, release 2 (candidate arm)",
    }
    tried = next(film.patient for film in films if arms[film.study] is Arm.CANDIDATE)
    await_reader(hospital, tmp_path, tried, said[Arm.CANDIDATE])
    assert read(hospital, tmp_path, films) == {film.study: said[arms[film.study]] for film in films}
    for film in films:
        (work,) = rows(hospital, WORKS, film.study)
        with Client(hospital.triton.http_url, arms[film.study].model("chest_xray")) as client:
            reading = client.read(film.data(), any_body_part=True)
        assert reading.release == (2 if arms[film.study] is Arm.CANDIDATE else 1)
        assert work.arm == arms[film.study]


def shadows_of(hospital: Hospital, works: Container[int]) -> list:
    return [row for row in rows(hospital, SHADOW_READINGS) if row.work_id in works]


def test_what_a_candidate_says_in_shadow_goes_nowhere(hospital, films) -> None:
    tried = [work for film in films for work in rows(hospital, WORKS, film.study)]
    by_stable = {work.study_uid for work in tried if work.arm == "stable"}
    works = {work.id: work.study_uid for work in tried}
    assert await_true(lambda: len(shadows_of(hospital, works)) == len(by_stable))
    shadows = shadows_of(hospital, works)
    assert {works[row.work_id] for row in shadows} == by_stable
    assert {(row.stable_release, row.release) for row in shadows} == {(1, 2)}
    assert all(len(objects(hospital, study)) == 2 for study in works.values())


def test_after_an_abort_the_stable_release_reads_everybody_and_there_is_no_shadow(
    hospital, state, films, tmp_path
) -> None:
    given = next(film for film in films if rows(hospital, WORKS, film.study)[0].arm == "candidate")
    rollout_command(state, "abort", "chest_xray", "--reason", "all to stable")
    stable = "chest_xray, release 1 (stable arm)"
    await_reader(hospital, tmp_path, given.patient, stable)
    again = [Film(uid(), uid(), patient=film.patient, picture=film.picture) for film in films]
    assert set(read(hospital, tmp_path, again).values()) == {stable}
    assert hospital.storescu([Film(given.study, uid(), patient=given.patient, picture=3).write(tmp_path)]) == 0
    assert readers(await_objects(hospital, given.study, 4)) == {stable, "chest_xray, release 2 (candidate arm)"}
    works = {work.id for film in again for work in rows(hospital, WORKS, film.study)}
    assert len(shadows_of(hospital, works)) <= 1  # triage may have taken it up before the reader
