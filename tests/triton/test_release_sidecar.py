"""`wetread release agent` beside a Triton that somebody else starts and restarts: nothing has to be done by hand."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from tiny_release import PIPELINE, TinySite, probability
from waiting import wait_for
from wetread_client import Client
from wetread_client.rollout import Actor, AgentState
from wetread_embedded import shared_memory, stubs
from wetread_embedded.process import ServerProcess
from wetread_embedded.rest import Rest
from wetread_embedded.runtime import Runtime
from wetread_embedded.server import _choose_ports, command_line
from wetread_embedded.store import Store
from wetread_release.places import Places
from wetread_release.promotion import Patience, promote
from wetread_release.publishing import publish
from wetread_release.release_site import Site

pytestmark = pytest.mark.triton
WETREAD = Path(sys.executable).with_name("wetread")
ACTOR = Actor("tester", "a test", "approver")


class Triton:
    """A bare tritonserver in EXPLICIT mode that loads nothing by itself."""

    def __init__(self, tiny: TinySite) -> None:
        self._config = tiny.config()
        self._runtime = Runtime.find()
        self.store = Store.open(self._config.store_dir, fresh=False)
        self.store.provide_backends(tiny.root, self._runtime)
        for folder in (self.store.models, self.store.ensembles):
            folder.mkdir()
        self.ports = _choose_ports("127.0.0.1", (0, 0, 0))
        self._process = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    def start(self) -> None:
        command = [
            word
            for word in command_line(self._config, self._runtime, self.store, self.ports)
            if not word.startswith("--load-model")
        ]
        environment = self._runtime.environment() | {"WETREAD_MODEL_CACHE": str(self.store.cache)}
        log = self._config.log_path
        self._process = ServerProcess(command, environment, log, None, inherit=[self.store.lock_fd])

    def kill(self) -> None:
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.ended.wait()
        self._process.kill_group()
        stubs.kill(self.store.prefix)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill_group()  # the server, too: its own end would take two seconds
            self._process.stop(7.0)
        stubs.kill(self.store.prefix)
        shared_memory.remove(self.store.prefix)
        self.store.close()


class Agent:
    """The command in a process of its own."""

    def __init__(self, tiny: TinySite, triton: Triton) -> None:
        self.log = tiny.folder / "agent.log"
        command = [str(WETREAD), "release", "agent", "--store", str(triton.store.path), "--triton-url", triton.url]
        self.health = _choose_ports("127.0.0.1", (0, 0, 0))[0]
        command += ["--triton-grpc-port", str(triton.ports[1]), "--health-port", str(self.health)]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*command, "--state-dir", str(tiny.state), "--target", "cpu"], cwd=tiny.root, stdout=log, stderr=log
            )

    def ask(self, path: str) -> tuple[int, str]:
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.health}{path}", trust_env=False, timeout=30)
        except httpx.TransportError:
            return 0, ""
        return answer.status_code, answer.text

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture
def tiny(tmp_path):
    return TinySite(tmp_path)


@pytest.fixture
def triton(tiny):
    server = Triton(tiny)
    yield server
    server.stop()


def ask(triton: Triton, tiny: TinySite) -> tuple[int, float]:
    with Client(triton.url, PIPELINE) as client:
        reading = client.read(tiny.film)
    return reading.release, reading.findings[0].probability


def answers(triton: Triton, tiny: TinySite, agent: Agent, release: int, logit: float) -> None:
    rest = Rest("127.0.0.1", triton.ports[0])
    assert wait_for(lambda: rest.is_ready(f"{PIPELINE}/versions/{release}"), 180.0), agent.log.read_text()
    assert ask(triton, tiny) == (release, pytest.approx(probability(logit), abs=1e-6))


def test_outlives_the_server_and_is_outlived_by_it(tiny, triton):
    site = Site.open(Places(tiny.state), tiny.root)
    agent = Agent(tiny, triton)
    try:
        assert wait_for(lambda: agent.ask("/healthz")[0] == 200)
        assert agent.ask("/readyz")[0] == 503
        triton.start()
        answers(triton, tiny, agent, 1, 0.0)
        assert wait_for(lambda: [r.state for r in site.rollouts.reports(PIPELINE)] == [AgentState.SETTLED])
        publish(tiny.draft(1.0), site, ACTOR, Patience(240.0), force="a test")
        promote(site, PIPELINE, ACTOR, Patience(240.0))
        answers(triton, tiny, agent, 2, 1.0)
        assert f'wetread_agent_release{{arm="stable",pipeline="{PIPELINE}"}} 2.0' in agent.ask("/metrics")[1]
        assert [agent.ask(path)[0] for path in ("/readyz", "/stubs")] == [200, 200]

        triton.kill()  # the container is restarted, with nothing loaded
        triton.start()
        answers(triton, tiny, agent, 2, 1.0)

        agent.end(signal.SIGKILL)  # the sidecar alone
        assert ask(triton, tiny)[0] == 2
        agent = Agent(tiny, triton)
        publish(tiny.draft(2.0), site, ACTOR, Patience(240.0), force="a test")
        assert ask(triton, tiny)[0] == 2
        promote(site, PIPELINE, ACTOR, Patience(240.0))
        answers(triton, tiny, agent, 3, 2.0)
        assert "what it serves is kept" in agent.log.read_text()

        assert agent.end(signal.SIGTERM) == 0
        assert site.rollouts.reports(PIPELINE) == ()  # it ended in order
        assert ask(triton, tiny)[0] == 3
    finally:
        agent.process.kill()
        agent.process.wait()


def test_prepares_a_store_before_there_is_a_server(tiny, tmp_path):
    command = [str(WETREAD), "release", "agent", "--store", str(tmp_path / "copy"), "--prepare"]
    subprocess.run([*command, "--state-dir", str(tiny.state)], cwd=tiny.root, check=True, timeout=60)
    assert (tmp_path / "copy" / "ensembles" / PIPELINE / "config.pbtxt").is_file()
    assert (tmp_path / "copy" / "model_repository" / f"{PIPELINE}_classifier" / "1" / "model.onnx").is_file()


def test_an_address_that_is_none_is_a_wrong_call(tiny, tmp_path):
    command = [str(WETREAD), "release", "agent", "--store", str(tmp_path / "copy"), "--triton-url", "grpc://here:1"]
    ended = subprocess.run(command, cwd=tiny.root, check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert "is no HTTP address" in ended.stderr
