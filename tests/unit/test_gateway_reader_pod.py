"""A reader as a member of a pod: intakes that are away, draining, probes and metrics."""

from __future__ import annotations

import os
import threading

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from wetread_bench.servers import free_port
from wetread_client.health import Answer, HealthDoor
from wetread_gateway.config.check import cautions, describe
from wetread_gateway.config.load import load
from wetread_gateway.config.settings import Triton
from wetread_gateway.errors import WorklistAway
from wetread_gateway.reading import reader as reading
from wetread_gateway.reading import remote
from wetread_gateway.reading.http_worklist import HttpWorklist
from wetread_gateway.reading.reader import Reader
from wetread_gateway.reading.serving import ReaderHealth
from wetread_gateway.reading.stored import StoredReading
from wetread_gateway.state.tables import WorkState
from wetread_gateway.supervisor import plan
from works import Works, configuration, serving

READING = StoredReading("chest_xray", "stable", 3, "algorithm", "maker", 1700000000.0)


@pytest.fixture
def works(tmp_path):
    made = Works.open(configuration(tmp_path, lease_s=30.0))
    yield made
    made.close()


class Slow:
    """A pipeline that answers when it is let."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()

    def __getitem__(self, model):
        return self

    def read(self, *_):
        self.begun.set()
        self.may_end.wait()
        return READING


@pytest.fixture
def slow(monkeypatch):
    made = Slow()
    monkeypatch.setattr(reading, "read", made.read)
    yield made
    made.may_end.set()


def running(worklist, slow, drain_s):
    """A reader in a thread; it, the way to stop it, and what `run` returned."""
    stop, ended = threading.Event(), []
    made = Reader(worklist, slow, "pod", lambda: Triton(concurrency=1, lease_s=30.0))
    thread = threading.Thread(target=lambda: ended.append(made.run(stop, drain_s)))
    thread.start()
    return made, stop, thread, ended


@pytest.mark.slow
def test_a_work_that_one_intake_leased_is_completed_at_another_when_that_is_away(works):
    work = works.add()
    with serving(works.context) as other:
        with serving(works.context) as one:
            worklist = HttpWorklist([one, other])
            [lease] = worklist.lease(1, "pod")
        worklist.complete(lease, READING)
        worklist.close()
    assert list(works.readings()) == [work]


def test_an_intake_that_is_away_from_the_start_is_passed_over_and_all_away_is_said():
    worklist = HttpWorklist([f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"])
    with pytest.raises(WorklistAway):
        worklist.lease(1, "pod")
    assert worklist.answered_at == 0.0
    worklist.close()


@pytest.mark.slow
def test_a_reader_told_to_stop_ends_what_it_began_and_gives_back_what_it_had_not(works, slow):
    first, second = works.add(), works.add()
    with serving(works.context) as url:
        worklist = HttpWorklist(url)
        _, stop, thread, ended = running(worklist, slow, 30.0)
        assert slow.begun.wait(20)
        stop.set()
        slow.may_end.set()
        thread.join()
        worklist.close()
    assert ended == [True]
    assert list(works.readings()) == [first]
    assert (works.row(second).state, works.row(second).attempts) == (WorkState.WAITING, 0)


@pytest.mark.slow
def test_a_work_that_does_not_end_within_the_drain_is_given_back_to_others(works, slow):
    work = works.add()
    with serving(works.context) as url:
        worklist = HttpWorklist(url)
        made, stop, thread, ended = running(worklist, slow, 0.1)
        assert slow.begun.wait(20)
        stop.set()
        thread.join()
        assert ended == [False]
        assert works.row(work).state == WorkState.WAITING
        slow.may_end.set()  # too late: its lease is another's
        while made.under_way:
            stop.wait()
            threading.Event().wait(0.01)
        assert made.lost == 1
        worklist.close()
    assert works.readings() == {}


@pytest.fixture
def triton():
    """A stand-in for Triton's readiness."""
    answers = {"/v2/models/chest_xray/ready": Answer(b"")}
    with HealthDoor("127.0.0.1", 0, {path: lambda path=path: answers[path] for path in answers}) as door:
        yield door, answers


@pytest.mark.slow
def test_a_reader_is_ready_while_worklist_and_pipeline_answer_and_says_what_does_not(works, slow, triton):
    door, answers = triton
    stop = threading.Event()
    with serving(works.context) as url:
        worklist = HttpWorklist(url)
        made = Reader(worklist, slow, "pod", Triton)
        health = ReaderHealth(made, worklist, f"http://127.0.0.1:{door.port}", ["chest_xray"], stop)
        with HealthDoor("127.0.0.1", 0, health.routes()) as own:

            def ask(path):
                return httpx.get(f"http://127.0.0.1:{own.port}{path}", trust_env=False)

            assert (ask("/readyz").status_code, ask("/readyz").text) == (503, "no worklist yet\n")
            worklist.lease(1, "pod")
            assert ask("/readyz").status_code == 200
            answers["/v2/models/chest_xray/ready"] = Answer(b"", is_well=False)
            assert (ask("/readyz").status_code, ask("/readyz").text) == (503, "Triton does not serve chest_xray\n")
            assert ask("/healthz").status_code == 200
            answers["/v2/models/chest_xray/ready"] = Answer(b"")
            stop.set()
            assert ask("/readyz").text == "it was told to stop\n"
            made.turned_at -= 1000.0
            assert ask("/healthz").status_code == 503
            assert ask("/elsewhere").status_code == 404
            assert "wetread_gateway_stage_seconds" in ask("/metrics").text
        registry = CollectorRegistry()
        registry.register(health)
        text = generate_latest(registry).decode()
        last = registry.get_sample_value("wetread_reader_last_lease_seconds")
        worklist.close()
    assert "wetread_reader_under_way 0.0" in text
    assert "wetread_reader_leases_lost_total 0.0" in text
    assert 'wetread_reader_paused{pipeline="chest_xray"} 0.0' in text
    assert last == worklist.answered_at > 0.0


def test_a_gateway_without_a_reader_starts_none_and_the_check_says_so(tmp_path):
    file = configuration(tmp_path)
    file.write_text(file.read_text().replace("[gateway]\n", "[gateway]\nreader = false\n") + "[http]\nport = 0\n")
    settings = load(file)
    assert "reader" not in {child.stage for child in plan(settings)}
    assert any("readers elsewhere" in line for line in describe(settings))
    assert any("nobody can read" in caution for caution in cautions(settings))


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--url", "ftp://gateway:8080", "--url: 'ftp://gateway:8080' is no address such as https://"),
        ("--token-file", "nowhere/token", "--token-file: nowhere/token cannot be read (FileNotFoundError)"),
        ("--token-file", os.devnull, "is empty: its first line is the token"),
        ("--ca", "nowhere/ca.pem", "--ca, --certificate or --key cannot be used"),
    ],
)
def test_a_wrong_option_is_told_by_its_name(option, value, said, capsys):
    with pytest.raises(SystemExit) as ended:
        remote.main(["--url", "http://127.0.0.1:8080", option, value])
    assert ended.value.code == 2
    assert said in " ".join(capsys.readouterr().err.split())
