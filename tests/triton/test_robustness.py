"""Whatever file arrives: it is read or refused by name, and the server keeps its memory, its models and its temper."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom
import pytest
from films import Stored, compressed, film, radiograph, to_bytes
from killed_triton import deaths
from mutations import Mutations
from pydicom.uid import JPEG2000Lossless
from tiers import tried
from wetread_client import Client, Rejected, Retry
from wetread_client.cli import main

pytestmark = [pytest.mark.triton, pytest.mark.slow]

NAMES = {"InvalidDicom", "UnsupportedImage"}
MUTATED, CONCURRENCY = tried(400, 10_000), 8
# A bomb may take 160 MiB in each of two preprocessing processes and 1 GiB of address space in each one's child.
PEAK_MIB, GROWTH_MIB = 1500, 300


def processes_of(server) -> list[int]:
    """The server, the processes of its models, and their children that decode."""
    stubs = [pid for pids in server.stub_pids().values() for pid in pids]
    return [server.pid, *stubs, *(child for pid in stubs for child in children(pid))]


def children(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:  # it ended meanwhile
        return []


def memory_mib(pids: list[int]) -> float:
    """Proportional set size of all: pages that several share count once."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
    return total / 1024


class PeakMemory:
    """Watches the server's memory until it is told to stop."""

    def __init__(self, server) -> None:
        self._server = server
        self._stop = threading.Event()
        self.mib = 0.0
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._stop.wait(0.25):
            self.mib = max(self.mib, memory_mib(processes_of(self._server)))

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def test_every_test_file_of_pydicom_is_read_or_refused_by_name(server, capsys):
    healed = len(deaths(server))  # other tests kill model processes of this server
    # not by `get_testdata_files`: that asks the internet first
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    files = sorted(str(path) for path in folder.rglob("*") if path.is_file())
    assert len(files) > 80
    arguments = ["read", *files, "--pipeline", "chest_xray", "--json", "--url", server.http_url, "--any-body-part"]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ended.value.code == 1  # most of them are no films
    assert len({line["file"] for line in lines}) >= len(files) - 20  # a DICOMDIR stands for the files it names
    told = {line["file"]: line["error"]["code"] for line in lines if "error" in line}
    missing = {file for file, code in told.items() if code not in NAMES}
    # a DICOMDIR may name files that pydicom does not carry: the client says so without asking the server
    assert {told[file] for file in missing} <= {"FileNotFoundError"}, {file: told[file] for file in missing}
    assert set(told.values()) >= NAMES
    read = [line for line in lines if "error" not in line]  # pydicom carries no film, but another version may
    assert all(0 <= finding["probability"] <= 1 for line in read for finding in line["findings"])
    assert len(deaths(server)) == healed


def test_wrong_films_spoil_no_good_one_and_leave_the_server_as_it_was(server):
    healed = len(deaths(server))  # other tests kill model processes of this server
    good = [
        to_bytes(film(Stored(radiograph(300, 256)), WindowCenter=2000, WindowWidth=3000)),
        compressed(film(radiograph(512, 400, 8)), JPEG2000Lossless),
    ]
    with Client(server.http_url, retry=Retry(times=0), timeout_s=280) as client:
        expected = [client.read(dicom).findings[0].probability for dicom in good for _ in range(4)][::4]
        mutations = Mutations(seed=20)
        before = memory_mib(processes_of(server))
        outcomes: dict[str, int] = {}
        with ThreadPoolExecutor(CONCURRENCY) as threads, PeakMemory(server) as peak:
            for batch in range(MUTATED // CONCURRENCY):
                wrong = [threads.submit(outcome, client, mutations.draw()) for _ in range(CONCURRENCY)]
                sound = threads.submit(client.read, good[batch % 2])
                for future in wrong:
                    code = future.result()
                    outcomes[code] = outcomes.get(code, 0) + 1
                assert sound.result().findings[0].probability == pytest.approx(expected[batch % 2], abs=1e-5)
        after = memory_mib(processes_of(server))
    print(f"{outcomes}; memory {before:.0f} MiB before, {peak.mib:.0f} at most, {after:.0f} after")  # noqa: T201 -- shown with -s
    assert sum(outcomes.values()) == MUTATED // CONCURRENCY * CONCURRENCY
    assert outcomes["InvalidDicom"] > MUTATED / 4
    assert outcomes["UnsupportedImage"] > MUTATED / 20
    assert set(outcomes) <= NAMES | {"read"}
    assert len(deaths(server)) == healed, "a model's process died"
    assert peak.mib - before < PEAK_MIB
    assert after - before < GROWTH_MIB


def outcome(client: Client, dicom: bytes) -> str:
    """What became of a film; any error but a refusal by name passes through and fails the test."""
    if not dicom:
        return "InvalidDicom"
    try:
        reading = client.read(dicom)
    except Rejected as refusal:
        return refusal.code
    assert all(0 <= finding.probability <= 1 for finding in reading.findings)
    assert np.isfinite(reading.novelty)
    return "read"


def test_a_decoding_process_that_is_killed_costs_at_most_its_film(server):
    healed = len(deaths(server))  # other tests kill model processes of this server
    packed = compressed(film(radiograph(400, 300, 8)), JPEG2000Lossless)
    with Client(server.http_url, retry=Retry(times=0), timeout_s=120) as client:
        expected = client.read(packed).findings[0].probability
        for _ in range(3):
            stubs = server.stub_pids()["chest_xray_preprocess"]
            decoders = [child for pid in stubs for child in children(pid)]
            assert decoders
            for pid in decoders:
                os.kill(pid, 9)
            for _ in stubs:
                assert client.read(packed).findings[0].probability == pytest.approx(expected, abs=1e-5)
        assert server.stub_pids()["chest_xray_preprocess"] == stubs
    assert len(deaths(server)) == healed
