"""A site of real processes: `wetread serve` that can be killed, commands that can be killed, and a light load."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tritonclient.http
from tiny_release import PIPELINE, TinySite
from wetread_bench.servers import free_port
from wetread_client.rollout import open_store
from wetread_release.draft import Draft, content_digest
from wetread_release.registries import open_registry

COMMAND = Path(__file__).with_name("release_command_child.py")
WETREAD = Path(sys.executable).with_name("wetread")
START_S, COMMAND_S, REQUEST_S = 120.0, 900.0, 10.0
PAUSE_S = 0.03  # between two requests of the load: light


@dataclass(frozen=True)
class Answer:
    """A reading: when it was asked for and came (monotonic seconds), and what it says; `error` where none came."""

    asked: float
    came: float
    release: int = 0
    probability: float = 0.0
    error: str = ""


class Serving:
    """`wetread serve` on a fixed port, started again after it was killed as a supervisor would."""

    def __init__(self, tiny: TinySite) -> None:
        self._tiny = tiny
        self.port = free_port()
        self.outages: list[tuple[float, float]] = []
        self.started_at = 0.0
        """Seconds since the epoch."""
        self._log = tiny.folder / "serve.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, again and again while the killed one's server still ends; return when it is ready."""
        deadline = time.monotonic() + START_S
        ports = ["--http-port", str(self.port), "--grpc-port", "0", "--metrics-port", "0"]
        command = [str(WETREAD), "serve", "--state-dir", str(self._tiny.state), *ports]
        while True:
            self.started_at = time.time()
            with self._log.open("w") as log:
                self._process = subprocess.Popen(command, cwd=self._tiny.root, stdout=log, stderr=log)
            while self._process.poll() is None:
                if "ready:" in self._log.read_text():
                    return
                time.sleep(0.05)
            told = self._log.read_text()
            assert " uses " in told or "in use" in told, told  # anything else would need a hand
            assert time.monotonic() < deadline, told

    def kill(self, *, triton_alone: bool) -> float:
        """Kill it, or only the tritonserver in it, as the kernel does when memory runs out; return when."""
        assert self._process is not None
        moment = time.monotonic()
        if triton_alone:
            for pid in self._children():
                os.kill(pid, signal.SIGKILL)
            self._process.wait(120)  # it ends with its server
        else:
            self._process.kill()
            self._process.wait()
        return moment

    def _children(self) -> list[int]:
        found = []
        for task in Path(f"/proc/{self._process.pid}/task").iterdir():
            with suppress(OSError):  # of threads and processes that have just ended
                pids = (task / "children").read_text().split()
                found += [int(pid) for pid in pids if Path(f"/proc/{pid}/comm").read_text() == "tritonserver\n"]
        return found

    def restart_after(self, killed_at: float) -> None:
        self.start()
        self.outages.append((killed_at, time.monotonic()))

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(120)


class Load:
    """Asks for one film after the other over plain HTTP; keeps every answer."""

    def __init__(self, port: int, film: bytes) -> None:
        self._port, self._film = port, np.frombuffer(film, np.uint8)[None]
        self.answers: list[Answer] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(REQUEST_S * 2)

    def ask(self, client: tritonclient.http.InferenceServerClient, model: str = PIPELINE) -> Answer:
        asked = time.monotonic()
        tensor = tritonclient.http.InferInput("DICOM", list(self._film.shape), "UINT8")
        tensor.set_data_from_numpy(self._film)
        output = tritonclient.http.InferRequestedOutput("PROBABILITY")
        try:
            result = client.infer(model, [tensor], outputs=[output])
        except Exception as error:  # noqa: BLE001 - gevent's and the socket's own beside tritonclient's
            return Answer(asked, time.monotonic(), error=f"{type(error).__name__}: {error}")
        release = int(result.get_response()["model_version"])
        return Answer(asked, time.monotonic(), release, float(result.as_numpy("PROBABILITY").ravel()[0]))

    def once(self, model: str = PIPELINE) -> Answer:
        client = self._connect()
        try:
            return self.ask(client, model)
        finally:
            client.close()

    def _connect(self) -> tritonclient.http.InferenceServerClient:
        address = f"127.0.0.1:{self._port}"
        return tritonclient.http.InferenceServerClient(address, connection_timeout=2.0, network_timeout=REQUEST_S)

    def _run(self) -> None:
        client = self._connect()
        while not self._stop.wait(PAUSE_S):
            answer = self.ask(client)
            self.answers.append(answer)
            if answer.error:
                client.close()
                client = self._connect()
        client.close()


class Command:
    """A running `wetread release` command."""

    def __init__(self, tiny: TinySite, *words: object) -> None:
        options = ["--state-dir", str(tiny.state), "--timeout", "240"]
        self.words = [str(word) for word in words]
        self._process = subprocess.Popen(
            [sys.executable, str(COMMAND), *self.words, *options],
            cwd=tiny.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()  # it begins
        self.began = time.monotonic()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def end(self) -> tuple[int, str]:
        """Wait for its end; return its exit code and what it told."""
        _, told = self._process.communicate(timeout=COMMAND_S)
        return self._process.returncode, told


class Site:
    """The tiny site with drafts that answer differently in every part, and what each release must answer."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.tiny = TinySite(folder)
        self.random = random.Random(seed)
        self.store = open_store(str(self.tiny.state / "rollout"))
        self.registry = open_registry(str(self.tiny.state / "releases"))
        self._by_content: dict[str, float] = {}
        self._expected = {1: 0.5}
        self._drafts = 0

    def draft(self) -> Path:
        """Leave a draft whose classifier and postprocess are both new: a mix of two releases answers as neither."""
        self._drafts += 1
        logit, temperature = 0.01 * self._drafts, 1.0 + 0.37 * (self._drafts % 5)
        folder = self.tiny.draft(logit, name=f"draft{self._drafts}")
        card = folder / "parts" / "postprocess" / "pipeline.json"
        content = json.loads(card.read_text())
        content["findings"][0]["temperature"] = temperature
        card.write_text(json.dumps(content))
        digest = content_digest(folder, Draft.load(folder))
        self._by_content[digest] = float(1 / (1 + np.exp(-logit / temperature)))
        return folder

    def expected(self, release: int) -> float:
        """Give the probability that a release answers with."""
        if release not in self._expected:
            self._expected[release] = self._by_content[self.registry.manifest(PIPELINE, release)[0].content]
        return self._expected[release]

    def rollout(self):
        return self.store.read(PIPELINE)
