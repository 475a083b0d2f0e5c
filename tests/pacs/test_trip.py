from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest
from films import changed, to_bytes
from pynetdicom import AE
from pynetdicom.sop_class import DigitalXRayImageStorageForPresentation
from sent_films import (
    INTAKE,
    WAIT_S,
    Film,
    await_objects,
    await_true,
    captures,
    container,
    objects,
    of_kind,
    rows,
    sources,
    spooled,
    uid,
)
from wetread_bench.hospital import GatewayPlan, Hospital, acknowledged, storescu
from wetread_bench.orthanc import missing
from wetread_bench.servers import free_port
from wetread_gateway.state.tables import DELIVERIES, WORKS

if TYPE_CHECKING:
    from pathlib import Path

    from wetread_embedded import EmbeddedTriton

pytestmark = [
    pytest.mark.pacs,
    pytest.mark.triton,
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing("Orthanc", "storescu")), reason=missing("Orthanc", "storescu")),
]


def send(hospital: Hospital, folder: Path, *films: Film) -> None:
    assert hospital.storescu([film.write(folder) for film in films]) == 0


def configure(hospital: Hospital, text: str) -> None:
    """Change the configuration at one stroke: nobody sees half of it."""
    new = hospital.gateway.config.with_suffix(".new")
    new.write_text(text)
    new.replace(hospital.gateway.config)


def work_states(hospital: Hospital, study: str) -> list[str]:
    return [work.state for work in rows(hospital, WORKS, study)]


def deliveries(hospital: Hospital, study: str) -> list:
    works = {work.id for work in rows(hospital, WORKS, study)}
    return [row for row in rows(hospital, DELIVERIES) if row.work_id in works]


def test_a_film_comes_back_as_a_report_and_a_capture_that_the_pacs_has_confirmed(hospital, tmp_path) -> None:
    film = Film(uid(), uid(), patient="TRIP1")
    send(hospital, tmp_path, film)
    found = await_objects(hospital, film.study, 2)
    assert sorted(dataset.Modality for dataset in found)[-1] == "SR"
    assert len(found) == 2
    (report,) = of_kind(found, "SR")
    assert (report.PatientID, report.AccessionNumber, report.StudyInstanceUID) == ("TRIP1", "A1", film.study)
    assert sources(report) == {film.sop}
    assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    (capture,) = captures(found)
    assert capture.PatientID == "TRIP1"
    assert await_true(lambda: work_states(hospital, film.study) == ["finished"])
    (delivery,) = deliveries(hospital, film.study)
    assert (delivery.state, delivery.confirmed_by) == ("delivered", "commitment")
    assert await_true(lambda: len(spooled(hospital, "done", film.study)) == 1)  # moved after the store knows it
    assert not spooled(hospital, "studies", film.study)
    assert not spooled(hospital, "dead", film.study)
    # What others have sent may be on its way.
    assert await_true(lambda: not spooled(hospital, "received"))
    assert await_true(lambda: not spooled(hospital, "incoming"))


def test_forty_films_from_four_modalities_make_one_report_and_one_capture_each(hospital, tmp_path) -> None:
    films = [Film(uid(), uid(), patient=f"MANY{number}", picture=number) for number in range(40)]
    files = [film.write(tmp_path) for film in films]
    with ThreadPoolExecutor(4) as pool:
        sent = list(pool.map(lambda at: hospital.storescu(files[at::4]), range(4)))
    assert sent == [0] * 4
    for film in films:
        found = await_objects(hospital, film.study, 2)
        assert (len(of_kind(found, "SR")), len(captures(found))) == (1, 1)
    assert await_true(lambda: all(work_states(hospital, film.study) == ["finished"] for film in films))


def test_a_film_that_no_pipeline_reads_comes_back_as_a_result_of_its_own_kind(hospital, tmp_path) -> None:
    film = Film(uid(), uid())
    path = tmp_path / "truncated.dcm"
    path.write_bytes(to_bytes(changed(film.dataset(), PixelData=bytes(1000))))
    assert hospital.storescu([path]) == 0
    (report,) = await_objects(hospital, film.study, 1)
    assert "126010" not in container(report)  # no Imaging Measurements
    assert sources(report) == {film.sop}
    assert await_true(lambda: work_states(hospital, film.study) == ["finished"])
    assert len(objects(hospital, film.study)) == 1


def test_a_film_of_which_no_report_can_be_made_goes_to_the_dead_letter_with_its_reason(hospital, tmp_path) -> None:
    film = Film(uid(), uid())
    path = tmp_path / "headless.dcm"
    path.write_bytes(to_bytes(changed(film.dataset(), Rows=None)))
    assert hospital.storescu([path]) == 0
    assert await_true(lambda: work_states(hospital, film.study) == ["dead"])
    assert "Rows" in rows(hospital, WORKS, film.study)[0].reason
    assert await_true(lambda: len(spooled(hospital, "dead", film.study)) == 1)
    assert not objects(hospital, film.study)


def test_a_film_sent_over_http_is_answered_with_its_reading_and_goes_to_the_pacs(hospital) -> None:
    film = Film(uid(), uid())
    answer = httpx.post(
        f"{hospital.gateway.url}/v1/read?wait_s={WAIT_S}",
        content=film.data(),
        headers={"Content-Type": "application/dicom"},
        timeout=WAIT_S + 10.0,
        trust_env=False,
    )
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["study_uid"], told["state"]) == (film.study, "read")
    (finding,) = told["works"][0]["reading"]["findings"]
    assert finding["label"]
    assert len(await_objects(hospital, film.study, 2)) == 2
    life = httpx.get(f"{hospital.gateway.url}/v1/studies/{film.study}", trust_env=False, timeout=60.0)
    assert life.status_code == 200


def test_films_stored_over_stow_go_to_the_pacs_too(hospital) -> None:
    films = [Film(uid(), uid(), picture=7), Film(uid(), uid(), picture=8)]
    boundary = "wetread-test"
    parts = [f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + film.data() for film in films]
    answer = httpx.post(
        f"{hospital.gateway.url}/studies",
        content=b"\r\n".join([*parts, f"--{boundary}--\r\n".encode()]),
        headers={"Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}'},
        timeout=WAIT_S,
        trust_env=False,
    )
    assert answer.status_code == 200, answer.text
    for film in films:
        assert len(await_objects(hospital, film.study, 2)) == 2


def test_a_changed_configuration_is_taken_up_while_an_association_stays_open(hospital) -> None:
    association = AE("MODALITY")
    association.add_requested_context(DigitalXRayImageStorageForPresentation)
    opened = association.associate("127.0.0.1", hospital.gateway.dicom_port, ae_title="WETREAD")
    assert opened.is_established
    old = hospital.gateway.config.read_text()

    def rule_of_a_film() -> str:
        film = Film(uid(), uid(), picture=20)
        assert opened.send_c_store(film.dataset()).Status == 0
        assert await_true(lambda: len(rows(hospital, WORKS, film.study)) == 1)
        return rows(hospital, WORKS, film.study)[0].rule

    try:
        assert rule_of_a_film() == "films"
        configure(hospital, old.replace('name = "films"', 'name = "renamed films"'))
        assert await_true(lambda: rule_of_a_film() == "renamed films")  # each process looks at the file now and then
        assert opened.is_established
    finally:
        opened.release()
        configure(hospital, old)


def test_a_broken_configuration_changes_nothing(hospital, tmp_path) -> None:
    old = hospital.gateway.config.read_text()
    try:
        configure(hospital, old + "\nno such key = 1\n")
        assert await_true(lambda: "not taken up" in hospital.gateway.log.read_text())
        film = Film(uid(), uid(), picture=30)
        send(hospital, tmp_path, film)
        assert len(await_objects(hospital, film.study, 2)) == 2
    finally:
        configure(hospital, old)


def test_films_of_other_sizes_and_depths_come_back_too(hospital, tmp_path) -> None:
    film = Film(uid(), uid())
    dataset = film.dataset()
    rng = np.random.default_rng(1)
    dataset.Rows, dataset.Columns, dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 300, 201, 8, 8, 7
    dataset.PixelData = rng.integers(0, 255, 300 * 201, np.uint8).tobytes()
    dataset["PixelData"].VR = "OB"
    path = tmp_path / "odd.dcm"
    path.write_bytes(to_bytes(dataset))
    assert hospital.storescu([path]) == 0
    assert len(await_objects(hospital, film.study, 2)) == 2


@pytest.mark.full
def test_a_dead_destination_delays_no_good_one(triton: EmbeddedTriton, tmp_path: Path) -> None:
    nobody = free_port()
    dead = f'[[destination]]\nname = "gone"\nae_title = "GONE"\nhost = "127.0.0.1"\nport = {nobody}\n'
    plan = GatewayPlan(sections=(INTAKE,))
    with Hospital(tmp_path, plan, triton=triton) as hospital:
        films = [Film(uid(), uid(), picture=number) for number in range(12)]
        text = hospital.gateway.config.read_text()
        text = text.replace('destinations = ["pacs"]', 'destinations = ["gone", "pacs"]').replace(
            "[[rule]]", f"{dead}\n[[rule]]"
        )
        assert hospital.gateway.stop() == 0
        hospital.gateway.config.write_text(text)
        hospital.gateway.start()
        files = [film.write(tmp_path / "gateway") for film in films]
        log = storescu(hospital.gateway.dicom_port, files, "-v")
        assert len(acknowledged(log.stdout + log.stderr)) == len(films)
        for film in films:
            assert len(await_objects(hospital, film.study, 2)) == 2
        assert await_true(lambda: _states(hospital, "pacs") == {"delivered"})
        assert _states(hospital, "gone") == {"waiting"}


def _states(hospital: Hospital, destination: str) -> set[str]:
    return {row.state for row in rows(hospital, DELIVERIES) if row.destination == destination}
