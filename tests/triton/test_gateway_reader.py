"""Readers on a real Triton, killed in the middle: every work ends with exactly one reading."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from films import film, to_bytes
from kept_alive import KeptAlive
from killed_triton import KilledTriton, deaths
from sqlalchemy import func, select
from tiers import tried
from waiting import wait_for
from wetread_gateway.priority import Priority
from wetread_gateway.state.tables import EVENTS, WORKS, WorkState
from works import Works, configuration, serving

pytestmark = pytest.mark.triton

FILMS, KILLS = 40, tried(2, 20)
CHECKOUT = Path(__file__).parents[2]


def film_bytes(seed: int, **attributes: object) -> bytes:
    """A film of smooth blobs, another one for every seed."""
    coarse = np.random.default_rng(seed).uniform(0, 4095, (8, 8))
    return to_bytes(film(np.kron(coarse, np.ones((160, 160))).astype(np.uint16), **attributes))


@contextmanager
def process(*words: object):
    """A Python process that is killed in the end, if it still lives."""
    running = subprocess.Popen([sys.executable, "-m", *map(str, words)])
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def reader(config: Path):
    return process("wetread_gateway.process", "reader", "reader-0", "--config", config)


def read_by(works: Works) -> Counter[int]:
    """How often the timeline tells of each work that it was read."""
    with works.context.store.read() as connection:
        details = connection.execute(select(EVENTS.c.detail).where(EVENTS.c.message.startswith("read by"))).scalars()
        return Counter(detail["work"] for detail in details)


def done(works: Works) -> int:
    return works.states().get(WorkState.READ, 0)


@pytest.fixture
def works(tmp_path, server):
    made = Works.open(configuration(tmp_path, url=server.http_url, lease_s=3.0), "test")
    yield made
    made.close()


def test_films_are_read_and_what_the_pipeline_refuses_is_a_result_that_names_its_release(works):
    film_work = works.add(film_bytes(1))
    hip = works.add(film_bytes(2, BodyPartExamined="HIP"))
    lifted = works.add(film_bytes(3, BodyPartExamined="HIP"), options={"any_body_part": True})
    broken = works.add(b"no film at all", priority=Priority.STAT)
    series = works.add(film_bytes(4), film_bytes(5, BodyPartExamined="HIP"), film_bytes(6))
    with reader(works.context.live.file):
        assert wait_for(lambda: done(works) == 5)
    readings = works.readings()
    assert readings[film_work].heatmap is not None
    assert readings[film_work].release == 1
    assert [finding.source_uid for finding in readings[film_work].findings] == [f"{works.row(film_work).study_uid}.0"]
    assert readings[hip].refusal.code == "UnsupportedImage"
    assert readings[broken].refusal.code == "InvalidDicom"
    assert {r.release for r in readings.values()} == {1}
    assert {r.algorithm for r in readings.values()} == {readings[film_work].algorithm} != {""}
    assert readings[lifted].refusal is None
    study = works.row(series).study_uid
    assert [finding.source_uid for finding in readings[series].findings] == [f"{study}.0", f"{study}.2"]
    assert readings[series].warnings[0].startswith("1 of 3 images not read: UnsupportedImage: ")


def test_of_two_readers_over_http_one_is_killed_and_nothing_is_lost_or_read_twice(works, server):
    ids = [works.add(film_bytes(seed)) for seed in range(FILMS)]
    with serving(works.context) as url:
        words = ("wetread_gateway.reading.remote", "--url", url, "--triton", server.http_url, "--lease", 3)
        with process(*words, "--name", "one") as one, process(*words, "--name", "two"):
            while not wait_for(lambda: holds(works, "http:one") and holds(works, "http:two"), 5.0):
                ids += [works.add(film_bytes(seed)) for seed in range(FILMS)]  # one of them was slow to start
            one.kill()
            one.wait()
            assert holds(works, "http:one"), "it must die with works in its hands"
            assert wait_for(lambda: done(works) == len(ids))
    assert sorted(works.readings()) == ids
    assert read_by(works) == dict.fromkeys(ids, 1)


def holds(works: Works, owner: str) -> bool:
    with works.context.store.read() as connection:
        query = select(func.count()).where(WORKS.c.lease_owner == owner, WORKS.c.state == WorkState.LEASED)
        return bool(connection.execute(query).scalar_one())


FILM_READER = """
    from __future__ import annotations

    import json
    import os
    import time

    import numpy as np
    import triton_python_backend_utils as pb_utils

    CARD = json.dumps({"schema": 1, "pipeline": "tiny", "task": "classification",
                       "algorithm": {"name": "tiny", "manufacturer": "nobody"},
                       "intended_use": {"statement": "tests", "modalities": [], "body_part": "", "views": [],
                                        "age_years": [0, 1], "limits": ""},
                       "findings": [], "novelty": {"percentile_99": 1.0}}).encode()


    class TritonPythonModel:
        # Reads anything and takes 30 ms; dies of POISON; reads "UNTIL <path>" when the path is there, and till then
        # shows by <path>.awaited that it has begun.

        def execute(self, requests):
            films = [pb_utils.get_input_tensor_by_name(request, "DICOM").as_numpy().tobytes() for request in requests]
            if any(b"POISON" in film for film in films):
                os._exit(1)
            time.sleep(0.03 * len(films))
            for path in [film.removeprefix(b"UNTIL ") for film in films if film.startswith(b"UNTIL ")]:
                open(path + b".awaited", "w").close()
                while not os.path.exists(path):
                    time.sleep(0.01)
            none = np.zeros((1, 0), np.float32)
            outputs = {"PROBABILITY": none, "POSITIVE": none.astype(bool), "NOVELTY": np.zeros((1, 1), np.float32),
                       "HEATMAP": np.zeros((1, 0, 1, 1), np.uint8), "NOTES": np.frombuffer(b"{}", np.uint8)[None],
                       "CARD": np.frombuffer(CARD, np.uint8)[None]}
            answers = []
            for _ in requests:
                answers.append(pb_utils.InferenceResponse([pb_utils.Tensor(*output) for output in outputs.items()]))
            return answers
"""
OUTPUTS = {
    "PROBABILITY": ("FP32", "-1"),
    "POSITIVE": ("BOOL", "-1"),
    "NOVELTY": ("FP32", "1"),
    "HEATMAP": ("UINT8", "-1, -1, -1"),
    "NOTES": ("UINT8", "-1"),
    "CARD": ("UINT8", "-1"),
}


def add_film_reader(tiny) -> None:
    """Add the pipeline `tiny`: bytes of a film in, what the client wants of a pipeline out."""
    tiny.add_python("tiny", FILM_READER)
    outputs = ", ".join(f"{{ name: '{n}' data_type: TYPE_{t} dims: [ {d} ] }}" for n, (t, d) in OUTPUTS.items())
    ragged = "allow_ragged_batch: true"
    tensors = (
        f"max_batch_size: 8 input [ {{ name: 'DICOM' data_type: TYPE_UINT8 dims: [ -1 ] RAGGED }} ] "
        f"output [ {outputs} ]"
    )
    (tiny.root / "model_repository" / "tiny_model" / "config.pbtxt").write_text(
        f"name: 'tiny_model' backend: 'wetread_tiny' {tensors.replace('RAGGED', ragged)} "
        "dynamic_batching { max_queue_delay_microseconds: 20000 } instance_group [ { kind: KIND_CPU count: 1 } ]"
    )
    maps = " ".join(f"output_map {{ key: '{name}' value: '{name}' }}" for name in OUTPUTS)
    (tiny.root / "ensembles" / "tiny" / "config.pbtxt").write_text(
        f"name: 'tiny' platform: 'ensemble' {tensors.replace('RAGGED', '')} ensemble_scheduling {{ step [ {{ "
        f"model_name: 'tiny_model' model_version: 1 input_map {{ key: 'DICOM' value: 'DICOM' }} {maps} }} ] }}"
    )


def test_a_film_that_kills_its_stub_is_read_alone_three_times_and_its_neighbours_are_read(tiny, tmp_path):
    add_film_reader(tiny)
    with KilledTriton(tiny.config(canary_interval_s=0.5)) as server:
        works = Works.open(configuration(tmp_path, url=server.http_url), "test")
        good = [works.add(b"film", pipeline="tiny") for _ in range(6)]
        poison = works.add(b"POISON", pipeline="tiny")
        good += [works.add(b"film", pipeline="tiny") for _ in range(6)]
        with reader(works.context.live.file):
            assert wait_for(lambda: works.row(poison).state == WorkState.DEAD)
            assert wait_for(lambda: done(works) == len(good))
        assert wait_for(lambda: len(deaths(server)) == 4)  # once among others, three times alone
    row = works.row(poison)
    assert row.attempts == 3
    assert row.reason.startswith("suspected poison film, read alone 3 times: INTERNAL: ")
    assert sorted(works.readings()) == good
    assert all(works.row(work).attempts == 0 for work in good)
    assert wait_for(lambda: [file.split("/")[0] for file in works.files(poison)] == ["dead"])
    works.close()


def test_nothing_is_lost_or_read_twice_when_stubs_and_the_reader_are_killed(tiny, tmp_path):
    chance = random.Random(9)
    add_film_reader(tiny)
    pipeline, model = tried(("tiny", "tiny_model"), ("chest_xray", "chest_xray_classifier"))
    root = tried(tiny.root, CHECKOUT)
    with KeptAlive(tiny.config(root=root, store=tmp_path / "store")) as triton:
        works = Works.open(configuration(tmp_path, url=triton.server.http_url, lease_s=3.0), "test")
        ids = [works.add(film_bytes(seed), pipeline=pipeline) for seed in range(FILMS)]
        for kill in range(KILLS):
            with reader(works.context.live.file) as running:
                aim = (kill + 1) * FILMS // (KILLS + 2)
                assert wait_for(lambda aim=aim: done(works) >= aim)
                time.sleep(chance.uniform(0, 0.05))  # anywhere in a reading
                if kill % 2:
                    os.kill(chance.choice(triton.server.stub_pids()[model]), signal.SIGKILL)
                    assert wait_for(lambda aim=aim: done(works) > aim)
                running.kill()
        with reader(works.context.live.file):
            assert wait_for(lambda: done(works) == FILMS)
    assert sorted(works.readings()) == ids
    assert read_by(works) == dict.fromkeys(ids, 1)
    works.close()


def test_a_server_that_is_away_for_a_while_costs_no_film(tiny, tmp_path):
    add_film_reader(tiny)
    back = tmp_path / "back"
    with KilledTriton(tiny.config()) as first:
        ports = dict(zip(("http_port", "grpc_port", "metrics_port"), first.ports, strict=True))
        works = Works.open(configuration(tmp_path, url=first.http_url, lease_s=3.0), "test")
        ids = [works.add(b"film", pipeline="tiny") for _ in range(5)]
        with reader(works.context.live.file):
            assert wait_for(lambda: done(works) == 5)
            ids += [works.add(f"UNTIL {back}".encode(), pipeline="tiny") for _ in range(15)]
            assert wait_for((tmp_path / "back.awaited").exists)
            os.kill(first.pid, signal.SIGKILL)
            first.stop()
            # The reader meets the closed port before the server is there again.
            assert wait_for(lambda: any("UNAVAILABLE" in works.row(work).reason for work in ids))
            back.touch()
            with KilledTriton(tiny.config(**ports)):
                assert wait_for(lambda: done(works) == len(ids))
    assert read_by(works) == dict.fromkeys(ids, 1)
    assert all(works.row(work).attempts == 0 for work in ids)
    works.close()
