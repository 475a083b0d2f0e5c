"""The supervisor with its real processes: what dies is started again, what is killed takes its children along."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from wetread_bench.servers import free_port
from wetread_gateway.config.load import load
from wetread_gateway.supervisor import plan

WETREAD = Path(sys.executable).with_name("wetread")
LONG_S = 120.0
# `wetread`, which does not wait the four seconds that the processes of a killed gateway are given to die.
SECOND = """
from wetread_client.cli import main
from wetread_gateway import supervisor
supervisor._LOCK_WAIT_S = 0.1
main()
"""


def until(true, what: str):
    """Ask until it is true: the processes are others', and tell nobody when they start or end."""
    deadline = time.monotonic() + LONG_S
    while not (found := true()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def write_config(folder: Path) -> Path:
    file = folder / "gateway.toml"
    file.write_text(
        f'[gateway]\nstate_dir = "{folder / "state"}"\n[http]\nport = 0\n'
        f'[dicom]\nport = {free_port()}\nany_peer = true\n[triton]\nurl = "http://127.0.0.1:{free_port()}"\n'
    )
    return file


class Running:
    """A gateway started as an operator starts it, without a server to read and without a PACS."""

    def __init__(self, config: Path) -> None:
        self.config, self.text = config, config.read_text()
        self.port = load(config).dicom.port
        self.folder = load(config).gateway.state_dir
        self.log = config.with_suffix(".log")
        self.process = self.spawn()
        self._read = self._configured = 0

    def spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen([WETREAD, "gateway", "--config", self.config], stdout=log, stderr=log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def children(self) -> dict[str, int]:
        found = {}
        for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            with contextlib.suppress(OSError):  # it has just ended
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if b"wetread_gateway.process" in words:
                    found[words[words.index(b"wetread_gateway.process") + 2].decode()] = int(pid)
        return found

    def is_open(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def wait_open(self) -> Running:
        until(lambda: len(self.children()) == 6, "six processes")
        until(self.is_open, self.log.read_text())
        return self

    def begin(self) -> Running:
        """Have it run for a test, started again where the one before has ended it or left its file changed."""
        if self.config.read_text() != self.text:
            self.kill()
            self.config.write_text(self.text)
        if self.process.poll() is not None:
            self.process = self.spawn()
        self.wait_open()
        self._read, self._configured = len(self.log.read_text()), len(self._audited())
        return self

    def said(self) -> str:
        """Its log since the test began."""
        return self.log.read_text()[self._read :]

    def configured(self) -> list[str]:
        """What the audit says of it since the test began."""
        return self._audited()[self._configured :]

    def _audited(self) -> list[str]:
        lines = (self.folder / "audit" / "supervisor.jsonl").read_text().splitlines()
        return [json.loads(line)["detail"]["what"] for line in lines]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    running = Running(write_config(tmp_path_factory.mktemp("gateway")))
    try:
        yield running
    finally:
        running.kill()


@pytest.fixture
def gateway(shared):
    """One gateway for all tests: its seven processes take seconds to start."""
    return shared.begin()


def test_the_doors_are_the_last_to_open(tmp_path):
    settings = load(write_config(tmp_path))
    slots = [child.slot for child in plan(replace(settings, http=replace(settings.http, port=8080)))]
    assert slots[-3:] == ["receiver-0", "receiver-1", "http"]
    assert {"triage", "reader", "delivery", "reporter-0-of-1"} <= set(slots[:-3])


@pytest.mark.slow
def test_the_stages_that_nobody_waits_for_give_way(gateway):
    groups = os.access("/proc/self/autogroup", os.W_OK)
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    for slot, pid in gateway.children().items():
        less = 10 if slot.startswith(("reporter", "delivery")) else 0
        nice = min(ours + less, 19)
        until(lambda pid=pid, nice=nice: os.getpriority(os.PRIO_PROCESS, pid) == nice, f"{slot} with {nice}")
        if groups:
            words = f"nice {less}"
            until(lambda pid=pid, words=words: Path(f"/proc/{pid}/autogroup").read_text().strip().endswith(words), slot)


@pytest.mark.slow
def test_a_process_that_is_killed_is_started_again_and_the_others_stay(gateway):
    before = gateway.children()
    os.kill(before["triage"], signal.SIGKILL)
    until(lambda: gateway.children().get("triage", before["triage"]) != before["triage"], "another triage")
    after = gateway.children()
    assert {slot: pid for slot, pid in after.items() if slot != "triage"} == {
        slot: pid for slot, pid in before.items() if slot != "triage"
    }


@pytest.mark.slow
def test_a_second_gateway_on_the_same_state_is_refused_with_a_remedy(gateway):
    second = subprocess.run(
        [sys.executable, "-c", SECOND, "gateway", "--config", gateway.config],
        capture_output=True,
        text=True,
        check=False,
        timeout=LONG_S,
    )
    assert second.returncode == 1
    assert "another gateway works in" in second.stderr
    assert "state_dir of its own" in second.stderr
    assert gateway.is_open()


@pytest.mark.slow
def test_a_changed_file_is_taken_up_by_the_same_processes_and_a_broken_one_is_not(gateway):
    before = gateway.children()
    gateway.config.write_text(gateway.text + "[retention]\npixels_h = 2\n")
    until(lambda: gateway.configured() == ["changed"], "the change")
    gateway.config.write_text(gateway.text + "[retention]\npixels = 2\n")
    until(lambda: "is not taken up" in gateway.said(), "the refusal")
    assert gateway.configured() == ["changed"]
    gateway.config.write_text(gateway.text)
    until(lambda: gateway.configured() == ["changed", "changed"], "the mended file")
    assert gateway.children() == before


@pytest.mark.slow
def test_a_killed_supervisor_takes_its_processes_along_and_the_next_one_starts(gateway):
    before = list(gateway.children().values())
    gateway.kill()
    gateway.process = gateway.spawn()
    gateway.wait_open()
    assert not any(is_running(pid) for pid in before)
    assert gateway.configured() == ["started"]


@pytest.mark.slow
def test_it_stops_in_order_when_asked(gateway):
    before = list(gateway.children().values())
    gateway.process.terminate()
    assert gateway.process.wait(LONG_S) == 0
    assert not any(is_running(pid) for pid in before)
    assert gateway.configured() == ["stopped"]
    assert "killed" not in gateway.said()
