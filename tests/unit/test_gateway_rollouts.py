"""The gateway follows rollouts: the arm a study is given, what reads a work, and what a store that is away changes."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

import pytest
from prometheus_client import REGISTRY
from rollout_docs import roll
from sqlalchemy import select
from triage_site import Site, instance
from waiting import wait_for
from wetread_client.rollout import Arm, Key, StoreAway, assign, key_of
from wetread_client.rollout.open import open_store
from wetread_gateway.config.settings import Triton
from wetread_gateway.priority import Priority
from wetread_gateway.reading.routes import Routes
from wetread_gateway.reading.worklist import Served
from wetread_gateway.rollouts import Rollouts
from wetread_gateway.state.tables import STUDY_ARMS

STABLE, CANDIDATE = Served("chest_xray", "stable"), Served("chest_xray", "candidate")
LIGHT = Served("chest_light", "stable")
LIVE = {"candidate": 4, "candidate_percent": 50.0}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "rollout"


@pytest.fixture
def followed(folder):
    stop = threading.Event()
    yield Rollouts(lambda: str(folder), stop)
    stop.set()


# ------------------------------------------------------------------------------------------------- following


def test_without_a_store_there_is_no_rollout():
    rollouts = Rollouts(lambda: "", threading.Event())
    assert not rollouts.in_use
    assert rollouts.of("chest_xray") is None


def test_a_rollout_is_in_force_with_the_first_question_and_every_change_soon_after(folder, followed):
    roll(folder)
    assert followed.of("chest_xray").candidate is None
    for percent in (10.0, 30.0):
        roll(folder, candidate=4, candidate_percent=percent)
        assert wait_for(lambda percent=percent: followed.of("chest_xray").candidate_percent == percent, 5.0)
    assert followed.of("brain_mr") is None


@pytest.mark.slow
def test_a_rollout_that_cannot_be_read_leaves_the_last_one_in_force_with_an_alert(folder, followed):
    def alerts():
        return REGISTRY.get_sample_value("wetread_gateway_alerts_total", {"kind": "rollout"}) or 0.0

    before = alerts()
    roll(folder, **LIVE)
    assert followed.of("chest_xray").candidate == 4
    (folder / "chest_xray" / "2.json").write_text("{")
    assert wait_for(lambda: alerts() == before + 1)
    assert followed.of("chest_xray").candidate == 4
    (folder / "chest_xray" / "2.json").unlink()
    roll(folder, candidate_percent=20.0)
    assert wait_for(lambda: followed.of("chest_xray").candidate_percent == 20.0)


@pytest.mark.slow
def test_a_store_that_is_away_at_the_start_is_taken_up_when_it_is_there(folder):
    roll(folder, **LIVE)
    is_away = threading.Event()
    is_away.set()

    def open_when_there(url):
        if is_away.is_set():
            raise StoreAway("no answer")
        return open_store(url)

    stop = threading.Event()
    rollouts = Rollouts(lambda: str(folder), stop, open_when_there)
    assert rollouts.of("chest_xray") is None
    is_away.clear()
    assert wait_for(lambda: rollouts.of("chest_xray") is not None)
    stop.set()


def test_another_store_in_the_settings_is_followed_at_once(tmp_path):
    urls = [str(tmp_path / "one")]
    roll(tmp_path / "one", candidate=4)
    roll(tmp_path / "two", candidate=5)
    stop = threading.Event()
    rollouts = Rollouts(lambda: urls[0], stop)
    assert rollouts.of("chest_xray").candidate == 4
    urls[0] = str(tmp_path / "two")
    assert rollouts.of("chest_xray").candidate == 5
    urls[0] = ""
    assert rollouts.of("chest_xray") is None
    stop.set()


# ------------------------------------------------------------------------------------------------- arms of studies


@pytest.fixture
def site(tmp_path, folder):
    made = Site(tmp_path / "site")
    made.context.live.change(triton=Triton(rollouts=str(folder)))
    yield made
    made.context.stop.set()
    made.triage.close()


def arms(site) -> dict[str, tuple[str, int]]:
    with site.context.store.read() as connection:
        return {row.study_uid: (row.arm, row.candidate) for row in connection.execute(select(STUDY_ARMS))}


@pytest.mark.parametrize("key", Key)
def test_a_study_is_given_the_arm_that_a_plain_client_would_choose(site, folder, key):
    rollout = roll(folder, **LIVE, key=key)
    wanted = {}
    for n in range(12):
        patient, study, accession = f"P{n // 2} ", f"1.2.{n}", f"A{n % 3}" if n % 3 else ""
        site.arrive(instance(f"1.2.{n}.9", StudyInstanceUID=study, PatientID=patient, AccessionNumber=accession))
        given = key_of(rollout, patient_id=patient, study_uid=study, accession=accession)
        wanted[study] = assign(rollout, given)
    site.settle()
    assert {work.study_uid: work.arm for work in site.works()} == wanted
    assert set(wanted.values()) == {Arm.STABLE, Arm.CANDIDATE}
    assert arms(site) == {study: (arm, 4 if arm is Arm.CANDIDATE else 0) for study, arm in wanted.items()}
    assert {work.options["candidate"] for work in site.works() if work.arm == "candidate"} == {4}


def test_a_study_keeps_its_arm_whatever_becomes_of_the_rollout(site, folder):
    roll(folder, candidate=4, candidate_percent=100.0)
    site.arrive(instance("1.2.1"))
    site.settle()
    roll(folder, candidate_percent=0.0)
    assert wait_for(lambda: site.context.rollouts.of("chest_xray").candidate_percent == 0.0)
    site.arrive(instance("1.2.2"))
    site.arrive(instance("1.9.1", StudyInstanceUID="1.9"))
    site.settle()
    found = [(work.study_uid, work.arm, work.options["candidate"]) for work in site.works()]
    assert found == [("1.2.3", "candidate", 4), ("1.2.3", "candidate", 4), ("1.9", "stable", 0)]


def test_what_is_not_read_fixes_no_arm(site, folder):
    roll(folder, candidate=4, candidate_percent=100.0)
    site.arrive(instance("1.2.1", Modality="MG"))  # no rule wants it
    site.settle()
    assert arms(site) == {}
    site.arrive(instance("1.2.2"))
    site.settle()
    assert arms(site) == {"1.2.3": ("candidate", 4)}


def test_without_a_rollout_store_every_study_is_stable(tmp_path):
    site = Site(tmp_path)
    site.arrive(instance())
    site.settle()
    assert site.works()[0].arm == "stable"
    assert arms(site) == {}
    site.triage.close()


# ------------------------------------------------------------------------------------------------- what reads a work


@dataclass(frozen=True)
class Row:
    pipeline: str = "chest_xray"
    arm: str = "candidate"
    priority: int = Priority.ROUTINE
    options: dict = None

    @classmethod
    def of(cls, candidate: int = 4, **values):
        return cls(options={"candidate": candidate}, **values)


GIVEN = Row.of()


@pytest.mark.parametrize(
    ("fields", "row", "without", "served"),
    [
        (LIVE, GIVEN, (), CANDIDATE),
        (LIVE, replace(GIVEN, arm="stable"), (), STABLE),
        (LIVE, Row.of(2), (), STABLE),  # the candidate that it was given to has gone
        ({}, GIVEN, (), STABLE),
        ({"candidate": 4, "shadow": True}, GIVEN, (), STABLE),  # aborted: it has no share any more
        (LIVE, GIVEN, (CANDIDATE,), STABLE),  # nobody waits for a candidate that is down
        (LIVE | {"light_model": "chest_light"}, GIVEN, (), LIGHT),
        (LIVE | {"light_model": "chest_light"}, replace(GIVEN, priority=Priority.URGENT), (), CANDIDATE),
        (LIVE | {"light_model": "chest_light"}, replace(GIVEN, priority=Priority.STAT), (), CANDIDATE),
        (LIVE | {"light_model": "chest_light"}, GIVEN, (LIGHT,), CANDIDATE),  # nor for a light model
    ],
)
def test_what_reads_a_work(folder, followed, fields, row, without, served):
    roll(folder, **fields)
    assert Routes(followed, frozenset(without)).served(row) == served


def test_a_pipeline_without_a_rollout_is_read_by_its_stable_arm(followed):
    assert Routes(followed).served(GIVEN) == STABLE


@pytest.mark.parametrize(
    ("fields", "served", "has_shadow"),
    [
        ({"candidate": 4, "shadow": True}, STABLE, True),
        ({"candidate": 4, "shadow": True}, CANDIDATE, False),
        ({"candidate": 4, "shadow": True}, LIGHT, False),
        ({"candidate": 4}, STABLE, False),
        ({}, STABLE, False),
    ],
)
def test_only_what_the_stable_release_has_read_is_shadowed(folder, followed, fields, served, has_shadow):
    roll(folder, **fields)
    assert Routes(followed).has_shadow(GIVEN, served) is has_shadow
