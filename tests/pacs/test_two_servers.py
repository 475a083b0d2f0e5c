"""Two servers behind one gateway without a reader: killed, drained and promoted on under load, and no film suffers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest
from second_release import APPROVED, CHECKOUT, publish_wider, release_command
from sent_films import INTAKE, Film, await_true, uid
from sqlalchemy import select
from wetread_bench.hospital import AE_TITLE, GatewayPlan, GatewayProcess
from wetread_bench.orthanc import Modality, Orthanc, missing
from wetread_bench.servers import free_port
from wetread_embedded import EmbeddedTriton, ServerConfig
from wetread_gateway.state.store import StateStore
from wetread_gateway.state.tables import READINGS, WORKS

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.pacs,
    pytest.mark.triton,
    pytest.mark.full,
    pytest.mark.skipif(bool(missing("Orthanc", "storescu")), reason=missing("Orthanc", "storescu")),
]
RATE = 3.0  # films a second: it is the events that are tried, not the load
MOST = 12  # films under way at once: a machine that is behind is not driven further
ANSWER_S = 240.0
LEASE_S = 30.0  # nobody waits for it: a reader that ends gives its films back


class Pod:
    """A server on ports of its own, and a reader beside it."""

    def __init__(self, name: str, folder: Path, state: Path, gateway: str) -> None:
        self.name, self._folder, self._gateway = name, folder, gateway
        ports = {"http_port": free_port(), "grpc_port": free_port(), "metrics_port": free_port()}
        self._config = ServerConfig(root=CHECKOUT, store=folder / name, state=state, startup_timeout_s=600.0, **ports)
        self.health = free_port()
        self.server = EmbeddedTriton(self._config)
        self._reader: subprocess.Popen[bytes] | None = None

    def start_server(self) -> None:
        self.server = EmbeddedTriton(self._config)
        self.server.start()

    def start_reader(self) -> None:
        command = [str(Path(sys.executable).with_name("wetread")), "gateway", "reader", "--url", self._gateway]
        command += ["--triton", self.server.http_url, "--name", self.name, "--lease", str(LEASE_S), "--drain", "120"]
        command += ["--concurrency", "2", "--health-port", str(self.health), "--health-host", "127.0.0.1"]
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self._reader = subprocess.Popen(command, stdout=log, stderr=log)
        assert await_true(lambda: self.probe("/readyz") == 200)

    def probe(self, path: str) -> int:
        try:
            return httpx.get(f"http://127.0.0.1:{self.health}{path}", trust_env=False, timeout=30).status_code
        except httpx.TransportError:
            return 0

    def drain(self) -> None:
        """End the reader in order, then its server."""
        assert self._reader is not None
        self._reader.send_signal(signal.SIGTERM)
        assert self._reader.wait(180) == 0
        self.server.stop()

    def stop(self) -> None:
        if self._reader is not None:
            self._reader.kill()
            self._reader.wait()
        self.server.stop()


@dataclass
class Load:
    """A steady stream of films of their own, each sent when it is due while no more than MOST are under way."""

    url: str
    sent: list[Film] = field(default_factory=list)
    took: list[tuple[float, float]] = field(default_factory=list)  # when it was due, seconds until its reading
    wrong: list[str] = field(default_factory=list)
    _end: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[Load]:
        with ThreadPoolExecutor(MOST) as slots:
            thread = threading.Thread(target=self._send, args=(slots,))
            thread.start()
            try:
                yield self
            finally:
                self._end.set()
                thread.join()

    def _send(self, slots: ThreadPoolExecutor) -> None:
        due = time.monotonic()
        while not self._end.wait(max(0.0, due - time.monotonic())):
            if len(self.sent) - len(self.took) - len(self.wrong) < MOST:
                film = Film(uid(), uid(), patient=f"P{len(self.sent)}", picture=len(self.sent))
                self.sent.append(film)
                slots.submit(self._read, film, film.data(), due)
            due += 1.0 / RATE

    def _read(self, film: Film, data: bytes, due: float) -> None:
        try:
            answer = httpx.post(
                f"{self.url}/v1/read?wait_s={ANSWER_S}",
                content=data,
                headers={"Content-Type": "application/dicom"},
                timeout=ANSWER_S + 10,
                trust_env=False,
            )
        except httpx.TransportError as error:
            self.wrong.append(f"{film.study}: {error!r}")
            return
        if answer.status_code == 200:
            self.took.append((due, time.monotonic() - due))
        else:
            self.wrong.append(f"{film.study}: {answer.status_code} {answer.text[:200]}")

    def await_more(self, count: int) -> None:
        """Wait until so many more films are read."""
        aim = len(self.took) + count
        assert await_true(lambda: len(self.took) >= aim), self.wrong

    def p99(self, since: float, until: float) -> float:
        taken = [seconds for due, seconds in self.took if since <= due <= until]
        return float(np.percentile(taken, 99)) if taken else 0.0


@dataclass(frozen=True)
class Ward:
    """All that runs."""

    folder: Path
    state: Path
    pacs: Orthanc
    gateway: GatewayProcess
    pods: tuple[Pod, Pod]
    store: StateStore

    def rows(self, table):
        with self.store.read() as connection:
            return list(connection.execute(select(table)).all())


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    ports, state = (free_port(), free_port()), tmp_path / "site"
    with ExitStack() as stack:
        pacs = stack.enter_context(Orthanc(tmp_path / "pacs", modalities={"wetread": Modality(AE_TITLE, ports[0])}))
        sections = (
            ("gateway", "reader = false"),
            ("triton", f'lease_s = {LEASE_S}\nrollouts = "{state / "rollout"}"'),
            INTAKE,
        )
        gateway = GatewayProcess(
            tmp_path / "gateway", GatewayPlan(sections=sections), "http://127.0.0.1:9", pacs, ports
        )
        stack.callback(gateway.stop)
        gateway.start()
        pods = (Pod("one", tmp_path, state, gateway.url), Pod("two", tmp_path, state, gateway.url))
        for pod in pods:
            stack.callback(pod.stop)
            pod.start_server()
            pod.start_reader()
        store = StateStore(gateway.state)
        stack.callback(store.close)
        yield Ward(tmp_path, state, pacs, gateway, pods, store)


def test_servers_come_and_go_and_a_release_is_promoted_and_every_film_has_one_report(ward: Ward) -> None:
    one, two = ward.pods
    assert "reader" not in ward.gateway.processes()
    times = {}
    with Load(ward.gateway.url).running() as load:
        load.await_more(10)
        times["quiet"] = time.monotonic()

        os.kill(one.server.pid, signal.SIGKILL)
        assert await_true(lambda: one.probe("/readyz") == 503)
        assert one.probe("/healthz") == 200
        one.server.stop()
        load.await_more(5)
        one.start_server()
        assert await_true(lambda: one.probe("/readyz") == 200)
        load.await_more(5)
        times["killed"] = time.monotonic()

        two.drain()
        load.await_more(5)
        two.start_server()
        two.start_reader()
        load.await_more(5)
        times["drained"] = time.monotonic()

        publish_wider(ward.folder / "draft", ward.state)
        release_command(ward.state, "promote", "chest_xray", *APPROVED)
        assert await_true(lambda: 2 in {row.document["release"] for row in ward.rows(READINGS)})
        load.await_more(5)
        times["promoted"] = time.monotonic()
    assert load.wrong == []

    since = 0.0
    for event, until in times.items():
        sys.stdout.write(f"{event}: p99 {load.p99(since, until):.2f} s\n")
        since = until
    studies = {film.study for film in load.sent}
    works = ward.rows(WORKS)
    assert Counter(work.study_uid for work in works) == dict.fromkeys(studies, 1)
    assert "dead" not in {work.state for work in works}
    releases = Counter(row.document["release"] for row in ward.rows(READINGS))
    assert set(releases) == {1, 2}
    assert sum(releases.values()) == len(studies)
    sys.stdout.write(f"{len(studies)} films, read by release {dict(releases)}\n")
    query = {"Level": "Series", "Expand": True, "Query": {"Modality": "SR"}}
    assert await_true(lambda: len(ward.pacs.post("/tools/find", query)) >= len(studies))
    reports = Counter(
        ward.pacs.get(f"/series/{series['ID']}/study")["MainDicomTags"]["StudyInstanceUID"]
        for series in ward.pacs.post("/tools/find", query)
        for _ in series["Instances"]
    )
    assert reports == dict.fromkeys(studies, 1)
