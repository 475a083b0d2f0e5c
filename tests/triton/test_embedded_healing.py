"""Dead processes of models come back; slow ones are left alone."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.utils
from kept_alive import KeptAlive, unless_aborted
from killed_triton import KilledTriton
from tiny_repository import ECHO, TinyRepository, infer, seconds
from waiting import wait_for
from wetread_embedded import Heal

pytestmark = pytest.mark.triton

CLIENTS = 4
KILLS = (signal.SIGKILL, signal.SIGSEGV)


class Load:
    """Clients that ask again and again until the end; what failed is kept with its time."""

    def __init__(self, server, pipeline, x) -> None:
        self._ask = lambda: infer(server, pipeline, x)
        self._end = threading.Event()
        self.failed = []
        self.answered = 0
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]

    def _run(self):
        while not self._end.is_set():
            try:
                self._ask()
                self.answered += 1
            except (tritonclient.utils.InferenceServerException, OSError) as error:
                self.failed.append(error)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        for thread in self._threads:
            thread.join()


CANARY_S = 0.1


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeptAlive]:
    """One server with a model for each test."""
    tiny = TinyRepository(tmp_path_factory.mktemp("healing") / "root")
    for signal_number in KILLS:
        tiny.add_scale(signal_number.name.lower(), instances=2)
    tiny.add_python("pair", instances=2)
    tiny.add_python("slow")
    tiny.add_python("raises", ECHO.replace("answers = []", "raise RuntimeError('Stub process of my own')"))
    tiny.add_python("renewed")
    tiny.add_python("unwatched")
    with KeptAlive(tiny.config(canary_interval_s=CANARY_S)) as running:
        yield running


def heals_of(server: KeptAlive, pipeline: str) -> list[Heal]:
    return [heal for heal in server.heals if heal.model == f"{pipeline}_model"]


def stubs_of(server: KeptAlive, pipeline: str) -> list[int]:
    return server.stub_pids()[f"{pipeline}_model"]


@pytest.mark.parametrize("signal_number", KILLS)
@unless_aborted
def test_a_killed_process_comes_back_under_load_and_only_requests_in_flight_fail(server, signal_number):
    name = signal_number.name.lower()
    with Load(server, name, np.ones((1, 5), np.float32)) as load:
        assert wait_for(lambda: load.answered > 50)
        os.kill(stubs_of(server, name)[0], signal_number)
        assert wait_for(lambda: heals_of(server, name))
        answered, failed = load.answered, len(load.failed)
        assert wait_for(lambda: load.answered > answered + 200)
    [heal] = heals_of(server, name)
    assert heal.error == ""
    assert load.failed
    assert len(load.failed) <= failed + CLIENTS  # once it is healed, none but those that were under way fails
    assert all("is not healthy" in str(error) for error in load.failed)


@unless_aborted
def test_all_processes_of_a_model_killed_at_once_are_one_heal(server):
    for pid in stubs_of(server, "pair"):
        os.kill(pid, signal.SIGKILL)
    assert wait_for(lambda: heals_of(server, "pair"))
    assert infer(server, "pair", seconds(0)).tolist() == [[0.0]]
    assert len(heals_of(server, "pair")) == 1


@unless_aborted
def test_a_model_that_is_slow_is_not_healed(server):
    pids = stubs_of(server, "slow")
    assert infer(server, "slow", seconds(10 * CANARY_S)).tolist() == [[np.float32(10 * CANARY_S)]]
    assert stubs_of(server, "slow") == pids
    assert heals_of(server, "slow") == []


def test_a_model_that_raises_is_not_healed(server):
    seen = []
    for _ in range(10):
        with pytest.raises(tritonclient.utils.InferenceServerException) as error:
            infer(server, "raises", seconds(0))
        seen.append(str(error.value))
    assert heals_of(server, "raises") == []
    assert all("my own" in text for text in seen)


def test_a_model_that_dies_at_once_again_is_brought_back_at_a_bounded_rate(tiny):
    tiny.add_python(
        "echo",
        ECHO.replace("def execute", "def execute(self, requests):\n            os._exit(1)\n\n        def unused"),
    )
    with KilledTriton(tiny.config(canary_interval_s=0.05)) as server:
        assert wait_for(lambda: len(server.heals) >= 4)
        started = time.monotonic()
        assert wait_for(lambda: len(server.heals) >= 5)
        assert (
            time.monotonic() - started > 0.4
        )  # the waits double, so this one is a lower bound and no measure of speed


@unless_aborted
def test_a_model_that_was_loaded_anew_by_somebody_else_is_not_healed(server):
    [old] = stubs_of(server, "renewed")
    os.utime(server.config.store_dir / "model_repository" / "renewed_model" / "1")
    server.rest.load("renewed_model", timeout_s=30)
    assert wait_for(lambda: old not in stubs_of(server, "renewed"))
    [new] = stubs_of(server, "renewed")
    infer(server, "renewed", seconds(6 * CANARY_S))
    assert heals_of(server, "renewed") == []
    assert wait_for(lambda: new in server.watched_pids)
    os.kill(new, signal.SIGKILL)
    assert wait_for(lambda: heals_of(server, "renewed"))


@unless_aborted
def test_the_canary_finds_a_dead_process_that_nobody_watches(server):
    [pid] = stubs_of(server, "unwatched")
    healer = server._attendant._healer
    healer._rescan = lambda: None
    healer._unwatch(pid)
    os.kill(pid, signal.SIGKILL)
    assert wait_for(lambda: heals_of(server, "unwatched"))
    assert "canary" in heals_of(server, "unwatched")[0].cause
    assert infer(server, "unwatched", seconds(0)).tolist() == [[0.0]]
