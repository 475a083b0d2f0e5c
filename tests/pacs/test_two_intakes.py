"""Two intakes on one PostgreSQL: a series split over both doors, films through either, one of them killed meanwhile."""

from __future__ import annotations

import io
import os
import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pydicom
import pytest
from sent_films import INTAKE, Film, await_objects, await_true, of_kind, sources, uid
from sqlalchemy import select
from test_series_trip import RULE, ball
from wetread_bench.hospital import AE_TITLE, GatewayPlan, GatewayProcess, storescu
from wetread_bench.orthanc import Modality, Orthanc, missing
from wetread_bench.servers import free_port
from wetread_gateway.state.store import StateStore
from wetread_gateway.state.tables import DELIVERIES, INSTANCES, SERIES, WORKS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kept_alive import KeptAlive

pytestmark = [
    pytest.mark.pacs,
    pytest.mark.triton,
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing("Orthanc", "storescu")), reason=missing("Orthanc", "storescu")),
]
FILMS = 24
QUIET_S = 2.0


@dataclass(frozen=True)
class Clinic:
    """A PACS, a server that reads, and two intakes that share a store."""

    pacs: Orthanc
    one: GatewayProcess
    other: GatewayProcess
    store: StateStore

    def rows(self, table, study=None):
        query = select(table) if study is None else select(table).where(table.c.study_uid == study)
        with self.store.read() as connection:
            return list(connection.execute(query).all())

    def is_done(self) -> bool:
        """Whether every work that was made has ended."""
        return {work.state for work in self.rows(WORKS)} <= {"finished", "superseded"}

    def reports(self, study: str) -> list[pydicom.Dataset]:
        query = {"Level": "Instance", "Query": {"StudyInstanceUID": study}}
        found = [self.pacs.file(name) for name in self.pacs.post("/tools/find", query)]
        return of_kind([pydicom.dcmread(io.BytesIO(file)) for file in found], "SR")


def intake(folder: Path, name: str, store: Path, ports: tuple[int, int], triton: str, pacs: Orthanc) -> GatewayProcess:
    """One of the two. Names are the ports of their HTTP doors: on loopback that tells them apart."""
    (folder / "token").write_text("3f" * 16 + "\n")
    (folder / "tokens").write_text("intake " + "3f" * 16 + "\n")
    gateway = f"""name = "{name}"
store_file = "{store}"
sibling_url = "http://127.0.0.1:{{name}}"
sibling_token_file = "{folder / "token"}"
"""
    sections = (
        ("gateway", gateway),
        ("http", f'token_file = "{folder / "tokens"}"'),
        INTAKE,
        ("completeness", f"quiet_confirmed_s = 0.2\nquiet_s = {QUIET_S}"),
        ("triton", "lease_s = 15.0"),
    )
    return GatewayProcess(folder / name, GatewayPlan(sections=sections, extra=RULE), triton, pacs, ports)


@pytest.fixture(scope="module")
def clinic(series_server: KeptAlive, postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    folder = tmp_path_factory.mktemp("clinic")
    doors = [(free_port(), free_port()) for _ in range(2)]
    with ExitStack() as stack:
        (folder / "store").write_text(f"{postgres}\n")
        # Reports on commitment come to one door, whoever asked.
        reports_to = {"wetread": Modality(AE_TITLE, doors[1][0])}
        pacs = stack.enter_context(Orthanc(folder / "pacs", modalities=reports_to))
        both = [intake(folder, str(door[1]), folder / "store", door, series_server.http_url, pacs) for door in doors]
        for one in both:
            stack.callback(one.stop)
            one.start(wait=False)
        for one in both:
            one.wait_open()
        store = StateStore(folder / "looking", postgres)
        stack.callback(store.close)
        yield Clinic(pacs, *both, store)


def written(folder: Path, files: list[bytes]) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number}.dcm" for number in range(len(files))]
    for path, file in zip(paths, files, strict=True):
        path.write_bytes(file)
    return paths


def send(gateway: GatewayProcess, paths: list[Path]) -> None:
    assert storescu(gateway.dicom_port, paths).returncode == 0


def test_a_series_through_two_doors_is_read_once_and_the_film_of_either_comes_back(clinic, tmp_path) -> None:
    study, film = uid(), Film(uid(), uid())
    paths = written(tmp_path / "series", ball(study))
    send(clinic.one, paths[::2])
    send(clinic.other, [*paths[1::2], film.write(tmp_path)])
    found = await_objects(clinic, study, 3)
    (report,), (segmentation,) = of_kind(found, "SR"), of_kind(found, "SEG")
    assert len(sources(report)) == len(paths) + 1
    assert segmentation.NumberOfFrames
    assert len(of_kind(await_objects(clinic, film.study, 2), "SR")) == 1
    (work,) = clinic.rows(WORKS, study)
    homes = {row.home for row in clinic.rows(INSTANCES, study)}
    assert homes == {str(clinic.one.http_port), str(clinic.other.http_port)}
    assert await_true(clinic.is_done)
    assert {row.confirmed_by for row in clinic.rows(DELIVERIES) if row.work_id == work.id} == {"commitment"}
    # The half that lies at the intake which did not deliver follows.
    assert await_true(lambda: not [*left(clinic.one, study), *left(clinic.other, study)])
    assert sum(len(list((one.state / "spool" / "done" / study).iterdir())) for one in (clinic.one, clinic.other)) == 20


def left(gateway: GatewayProcess, study: str) -> list[Path]:
    return list((gateway.state / "spool" / "studies" / study).glob("*.dcm"))


def test_one_intake_is_killed_and_nothing_is_lost_or_made_twice(clinic, tmp_path) -> None:
    split = uid()
    slices = written(tmp_path / "slices", ball(split, NumberOfSeriesRelatedInstances=None))  # nobody can count them
    films = [Film(uid(), uid(), picture=number) for number in range(FILMS)]
    paths = [film.write(tmp_path) for film in films]
    send(clinic.one, paths[: FILMS // 3])
    own = {film.study for film in films[: FILMS // 3]}
    assert await_true(lambda: bool(own & {work.study_uid for work in clinic.rows(WORKS)}))  # in the middle of its work
    os.kill(clinic.one.processes()["triage"], signal.SIGSTOP)  # what comes now is safe, and no row tells of it
    send(clinic.one, slices[::2])
    clinic.one.kill()
    send(clinic.other, [*slices[1::2], *paths[FILMS // 3 :]])
    for film in films[FILMS // 3 :]:
        assert len(of_kind(await_objects(clinic, film.study, 2), "SR")) == 1, "films of the other go on"
    assert await_true(lambda: [time.time() - row.last_at > QUIET_S + 1 for row in clinic.rows(SERIES, split)] == [True])
    assert not clinic.rows(WORKS, split), "half a series is nobody's work"
    send(clinic.other, paths[:2])  # their sender tries the other door: perhaps nobody has sorted them yet
    clinic.one.start()
    assert len(of_kind(await_objects(clinic, split, 3), "SR")) == 1
    for film in films:
        assert len(of_kind(await_objects(clinic, film.study, 2), "SR")) == 1
    assert await_true(clinic.is_done)
    assert {work.state for work in clinic.rows(WORKS)} == {"finished"}
    for study in (split, *(film.study for film in films)):
        (report,) = clinic.reports(study)
        assert len(clinic.rows(WORKS, study)) == 1
        expected = len(slices) + 1 if study == split else 1
        assert len(sources(report)) == expected
    for film in films[:2]:
        assert await_true(lambda film=film: len(clinic.rows(INSTANCES, film.study)) == 2)
        assert sorted(row.state for row in clinic.rows(INSTANCES, film.study)) == ["duplicate", "sorted"]
