"""Dead processes of models come back; slow ones are left alone."""

import os
import signal
import threading
import time

import numpy as np
import pytest
import tritonclient.utils
from tiny_repository import ECHO, infer, seconds, wait_for
from wetread_embedded import EmbeddedTriton

pytestmark = pytest.mark.triton

CLIENTS = 4


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
            except tritonclient.utils.InferenceServerException as error:
                self.failed.append(error)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        for thread in self._threads:
            thread.join()


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_killed_process_comes_back_under_load_and_only_requests_in_flight_fail(tiny, signal_number):
    tiny.add_scale("scale", instances=2)
    with EmbeddedTriton(tiny.config()) as server, Load(server, "scale", np.ones((1, 5), np.float32)) as load:
        assert wait_for(lambda: load.answered > 50)
        os.kill(server.stub_pids()["scale_model"][0], signal_number)
        assert wait_for(lambda: server.heals)
        after_heal = load.answered
        assert wait_for(lambda: load.answered > after_heal + 200)
        [heal] = server.heals
        assert (heal.model, heal.error) == ("scale_model", "")
        assert len(load.failed) <= 2 * CLIENTS  # what the dead one held, and what it took until it was replaced
        assert all("is not healthy" in str(error) for error in load.failed)


def test_all_processes_of_a_model_killed_at_once_are_one_heal(tiny):
    tiny.add_python("echo", instances=2)
    with EmbeddedTriton(tiny.config()) as server:
        for pid in server.stub_pids()["echo_model"]:
            os.kill(pid, signal.SIGKILL)
        assert wait_for(lambda: server.heals)
        assert infer(server, "echo", seconds(0)).tolist() == [[0.0]]
        assert len(server.heals) == 1


def test_a_model_that_is_slow_is_not_healed(tiny):
    tiny.add_python("echo")
    with EmbeddedTriton(tiny.config(canary_interval_s=0.1)) as server:
        pids = server.stub_pids()
        assert infer(server, "echo", seconds(4)).tolist() == [[4.0]]  # forty canaries' time
        assert server.stub_pids() == pids
        assert server.heals == []


def test_a_model_that_raises_is_not_healed(tiny):
    tiny.add_python("echo", ECHO.replace("answers = []", "raise RuntimeError('Stub process of my own')"))
    seen = []
    with EmbeddedTriton(tiny.config(canary_interval_s=0.05)) as server:
        for _ in range(10):
            with pytest.raises(tritonclient.utils.InferenceServerException) as error:
                infer(server, "echo", seconds(0))
            seen.append(str(error.value))
        assert server.heals == []
    assert all("my own" in text for text in seen)


def test_a_model_that_dies_at_once_again_is_brought_back_at_a_bounded_rate(tiny):
    tiny.add_python(
        "echo",
        ECHO.replace("def execute", "def execute(self, requests):\n            os._exit(1)\n\n        def unused"),
    )
    with EmbeddedTriton(tiny.config(canary_interval_s=0.05)) as server:
        assert wait_for(lambda: len(server.heals) >= 4)
        started = time.monotonic()
        assert wait_for(lambda: len(server.heals) >= 5)
        assert (
            time.monotonic() - started > 0.4
        )  # the waits double, so this one is a lower bound and no measure of speed


def test_a_model_that_was_loaded_anew_by_somebody_else_is_not_healed(tiny):
    tiny.add_python("echo")
    with EmbeddedTriton(tiny.config(canary_interval_s=0.1)) as server:
        [old] = server.stub_pids()["echo_model"]
        os.utime(server.config.store_dir / "model_repository" / "echo_model" / "1")
        server.rest.load("echo_model", timeout_s=30)
        assert wait_for(lambda: old not in server.stub_pids()["echo_model"])
        [new] = server.stub_pids()["echo_model"]
        infer(server, "echo", seconds(0.5))
        assert server.heals == []
        assert wait_for(lambda: new in server.watched_pids)
        os.kill(new, signal.SIGKILL)
        assert wait_for(lambda: server.heals)


def test_the_canary_finds_a_dead_process_that_nobody_watches(tiny):
    tiny.add_python("echo")
    with EmbeddedTriton(tiny.config(canary_interval_s=0.1)) as server:
        [pid] = server.stub_pids()["echo_model"]
        server._attendant._healer._unwatch(pid)
        os.kill(pid, signal.SIGKILL)
        assert wait_for(lambda: server.heals)
        assert "canary" in server.heals[0].cause
        assert infer(server, "echo", seconds(0)).tolist() == [[0.0]]
