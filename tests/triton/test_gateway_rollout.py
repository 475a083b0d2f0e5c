"""A gateway's reader while a release is tried and promoted: two releases that answer differently, in a real Triton."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from killed_triton import KilledTriton
from second_release import APPROVED, CHECKOUT, publish_wider, release_command, rollout_command
from sqlalchemy import select
from typer.testing import CliRunner
from waiting import wait_for
from wetread_client.rollout import open_store
from wetread_embedded import EmbeddedTriton, ServerConfig
from wetread_gateway.cli import app as gateway_app
from wetread_gateway.priority import Priority
from wetread_gateway.state.tables import SHADOW_READINGS, WorkState
from wetread_models.synthetic import FilmModel
from wetread_release.golden import film_model
from works import Works, configuration, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wetread_gateway.reading.stored import StoredReading

pytestmark = [pytest.mark.triton, pytest.mark.slow]


@dataclass(frozen=True)
class Site:
    """A server with an agent, its state folder, and films that both releases read."""

    server: EmbeddedTriton
    state: Path
    films: tuple[bytes, ...]

    @property
    def rollouts(self) -> str:
        return str(self.state / "rollout")

    def candidate(self) -> int | None:
        rollout = open_store(self.rollouts).read("chest_xray")
        return None if rollout is None else rollout.candidate


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Release 1, and release 2 as candidate: the same network, its probabilities spread wider."""
    state = tmp_path_factory.mktemp("state")
    model = FilmModel.load(film_model(CHECKOUT))
    films = tuple(model.dicom(n, "pneumonia" if n % 2 else "normal", 512, 512) for n in range(4))
    with KilledTriton(ServerConfig.on_free_ports(root=CHECKOUT, store=state / "served", state=state)) as server:
        publish_wider(tmp_path_factory.mktemp("draft") / "chest_xray", state)
        yield Site(server, state, films)


@pytest.fixture
def works(site: Site, tmp_path: Path) -> Iterator[Works]:
    made = Works.open(configuration(tmp_path, url=site.server.http_url, lease_s=5.0, rollouts=site.rollouts), "test")
    yield made
    made.context.stop.set()
    made.close()


@contextmanager
def reader(*words: object) -> Iterator[None]:
    running = subprocess.Popen([sys.executable, "-m", *map(str, words)])
    try:
        yield
    finally:
        running.kill()
        running.wait()


def beside_the_store(works: Works):
    return reader("wetread_gateway.process", "reader", "reader-0", "--config", works.context.live.file)


def read(works: Works, count: int) -> dict[int, StoredReading]:
    assert wait_for(lambda: works.states().get(WorkState.READ, 0) == count)
    return works.readings()


def shadows(works: Works):
    with works.context.store.read() as connection:
        return connection.execute(select(SHADOW_READINGS)).all()


@pytest.mark.parametrize("where", ["store", "http"])
def test_a_candidate_reads_in_shadow_and_what_it_says_is_compared(site: Site, works: Works, where: str):
    assert site.candidate() == 2
    added = [works.add(film) for film in site.films]
    with serving(works.context) as url:
        remote = reader("wetread_gateway.reading.remote", "--url", url, "--triton", site.server.http_url)
        with beside_the_store(works) if where == "store" else remote:
            readings = read(works, len(added))
            assert wait_for(lambda: len(shadows(works)) == len(added))
    assert {(reading.release, reading.arm) for reading in readings.values()} == {(1, "stable")}
    for row in shadows(works):
        [said] = readings[row.work_id].findings
        other = row.document["findings"][0]["probability"]
        assert (row.stable_release, row.release, row.document["arm"]) == (1, 2, "candidate")
        assert row.difference == pytest.approx(abs(said.probability - other))
        assert row.difference > 0.005
    shown = CliRunner().invoke(gateway_app, ["shadow", "chest_xray", "--config", str(works.context.live.file)])
    assert shown.exit_code == 0, shown.output
    assert "release 2" in shown.output


def test_each_arm_is_read_by_its_release_until_the_rollout_says_otherwise(site: Site, works: Works):
    def read_of(arm: str) -> tuple[int, str]:
        work = works.add(site.films[0], arm=arm, options={"candidate": 2}, priority=Priority.URGENT)
        assert wait_for(lambda: work in works.readings())
        reading = works.readings()[work]
        return reading.release, reading.arm

    with beside_the_store(works):
        rollout_command(site.state, "set", "chest_xray", "--candidate", "30", *APPROVED)
        assert wait_for(lambda: read_of("candidate") == (2, "candidate"))
        assert read_of("stable") == (1, "stable")
        rollout_command(site.state, "abort", "chest_xray", "--reason", "all to stable")
        assert wait_for(lambda: read_of("candidate") == (1, "stable"))
        release_command(site.state, "promote", "chest_xray", *APPROVED)
        assert wait_for(lambda: read_of("candidate") == (2, "stable"))
        assert read_of("stable") == (2, "stable")
