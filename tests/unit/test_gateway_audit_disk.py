from __future__ import annotations

import errno
import json
from typing import TYPE_CHECKING

import pytest
from wetread_gateway.audit import AuditEvent, JsonLinesAudit
from wetread_gateway.errors import DiskFull
from wetread_gateway.spool.disk import RealDisk

if TYPE_CHECKING:
    from pathlib import Path

EVENT = AuditEvent("intake", "ok", "CT", object_uid="1.2.3", at=1.0)


class FillingDisk(RealDisk):
    """Writes half of what it is given and is full, as long as `full` is set."""

    full = False

    def write(self, file, data):
        if self.full:
            super().write(file, bytes(data)[: len(data) // 2])
            raise OSError(errno.ENOSPC, "full")
        super().write(file, data)


def test_a_line_that_a_full_disk_cut_does_not_spoil_the_next(tmp_path: Path):
    disk = FillingDisk()
    audit = JsonLinesAudit(tmp_path / "audit", "receiver-0", disk)
    audit.record(EVENT)
    disk.full = True
    with pytest.raises(DiskFull):
        audit.record(EVENT)
    disk.full = False
    audit.record(EVENT, EVENT)
    audit.close()
    lines = (tmp_path / "audit/receiver-0.jsonl").read_bytes().splitlines()
    assert [line.endswith(b"}") for line in lines] == [True, False, True, True]
    assert json.loads(lines[2])["object_uid"] == "1.2.3"


def test_a_line_that_a_kill_cut_does_not_spoil_the_next(tmp_path: Path):
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit/receiver-0.jsonl").write_bytes(b'{"half')
    audit = JsonLinesAudit(tmp_path / "audit", "receiver-0")
    audit.record(EVENT)
    audit.close()
    assert (tmp_path / "audit/receiver-0.jsonl").read_bytes().startswith(b'{"half\n{"action"')
