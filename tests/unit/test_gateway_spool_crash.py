from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest
from crash_disk import Crash, CrashDisk
from tiers import tried
from wetread_gateway.audit import AuditEvent, JsonLinesAudit
from wetread_gateway.instance import Arrival
from wetread_gateway.spool import meta
from wetread_gateway.spool.spool import SORTED, Spool

if TYPE_CHECKING:
    from pathlib import Path

ARRIVAL = Arrival("dimse", "CT", "WETREAD", "10.0.0.7", "receiver-0.1", 1_700_000_000.25)
CRASHES = tried(200, 4000)


class Life:
    """A random life of a spool, with what was acknowledged in it."""

    def __init__(self, root: Path, rng: random.Random) -> None:
        self.rng = rng
        self.disk = CrashDisk(rng)
        self.spool = Spool(root / "spool", self.disk)
        self.audit = JsonLinesAudit(root / "audit", "receiver-0", self.disk)
        self.instances: dict[str, tuple[str, bytes]] = {}  # name -> study and whole file
        self.results: dict[str, bytes] = {}
        self.uids: set[str] = set()
        self.begun: dict[str, bytes] = {}
        self.number = 0

    def take_in(self) -> None:
        self.number += 1
        uid = f"1.2.{self.number}"
        incoming = self.spool.open("receiver-0", ARRIVAL, "1.2.3", uid, "1.2.840.10008.1.2")
        data = self.rng.randbytes(self.rng.randrange(1, 400))
        whole = meta.encode(ARRIVAL, "1.2.3", uid, "1.2.840.10008.1.2") + data
        self.begun[incoming.name] = whole
        for at in range(0, len(data), 100):
            incoming.write(data[at : at + 100])
        if self.rng.random() < 0.1:
            incoming.abort()
            return
        incoming.commit()
        self.audit.record(AuditEvent("intake", "ok", "CT", object_uid=uid))
        self.instances[incoming.name] = (f"1.9.{self.number % 3}", whole)
        self.uids.add(uid)

    def move(self) -> None:
        if self.instances:
            name = self.rng.choice(sorted(self.instances))
            self.spool.move(name, self.instances[name][0], self.rng.choice(SORTED))

    def put_result(self) -> None:
        uid = f"2.25.{self.rng.randrange(5)}"
        data = f"report {uid}".encode()  # a rebuild is equal to the byte
        self.results[self.spool.put_result("1.9.1", uid, data)] = data

    def run(self, crash_at: int) -> None:
        self.disk.crash_after(crash_at)
        with pytest.raises(Crash):
            self.live()

    def live(self) -> None:
        while True:
            self.rng.choice((self.take_in, self.take_in, self.move, self.put_result))()


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(4))
def test_a_crash_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path: Path, chunk: int):
    for seed in range(chunk * CRASHES // 4, (chunk + 1) * CRASHES // 4):
        rng = random.Random(seed)
        life = Life(tmp_path / str(seed), rng)
        life.run(rng.randrange(400))
        left = life.disk.survivors()
        by_name = {path.name: content for path, content in left.items()}
        root = life.spool.root
        lost = [name for name, (_, whole) in life.instances.items() if by_name.get(name) != whole]
        assert not lost, f"seed {seed}"
        assert all(left.get(root / path) == data for path, data in life.results.items()), f"seed {seed}"
        half = [p for p, content in left.items() if p.parent == life.spool.received and content != life.begun[p.name]]
        assert not half, f"seed {seed}"
        *lines, _half = left.get(tmp_path / str(seed) / "audit/receiver-0.jsonl", b"").split(b"\n")
        audited = {json.loads(line)["object_uid"] for line in lines}
        assert life.uids <= audited, f"seed {seed}"


@pytest.mark.parametrize("step", ["fsync", "fsync_folder"])
def test_the_model_finds_a_missing_fsync(tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(CrashDisk, step, lambda *_: None)
    with pytest.raises(AssertionError):
        test_a_crash_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path, 0)
