"""The audit trail: every intake, reading, delivery, refusal and change, durable before it is acknowledged."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from wetread_gateway.spool.disk import RealDisk, SharedSync
from wetread_gateway.spool.incoming import not_stored

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from wetread_gateway.spool.disk import Disk

Action = Literal["intake", "refuse", "rule", "read", "report", "deliver", "withdraw", "configure", "operate"]


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One thing that was done. UIDs yes, names no; `actor` is an AE title, an address, a token's name or a process."""

    action: Action
    outcome: Literal["ok", "failed"]
    actor: str
    study_uid: str = ""
    object_uid: str = ""
    detail: Mapping[str, object] = field(default_factory=dict)
    at: float = field(default_factory=time.time)


class AuditSink(Protocol):
    """Where audit events go."""

    def record(self, *events: AuditEvent) -> None:
        """Make the events durable; NotStored when that fails, and then what they tell of must not be acknowledged."""


class JsonLinesAudit:
    """One JSON object a line, appended and fsynced; a file of its own for each process, named after `writer`.

    Threads that record at once share one fsync.
    """

    def __init__(self, folder: Path, writer: str, disk: Disk | None = None) -> None:
        self._disk = disk or RealDisk()
        self._disk.make_folder(folder)
        path = folder / f"{writer}.jsonl"
        # A line that a kill or a full disk cut short must not spoil the next one.
        self._torn = _ends_inside_a_line(path)
        self._file = self._disk.append(path)
        self._disk.fsync_folder(folder)
        self._disk.fsync_folder(folder.parent)
        self._lock = threading.Lock()
        self._sync = SharedSync(lambda: self._disk.fsync(self._file))

    def record(self, *events: AuditEvent) -> None:
        """Append and fsync; NotStored or DiskFull when the disk does not take them."""
        data = b"".join(json.dumps(asdict(event), separators=(",", ":")).encode() + b"\n" for event in events)
        try:
            with self._lock:
                torn, self._torn = self._torn, True
                self._disk.write(self._file, b"\n" + data if torn else data)
                self._torn = False
            self._sync()
        except OSError as error:
            raise not_stored(error) from error

    def close(self) -> None:
        """Close the file."""
        self._disk.close(self._file)


def _ends_inside_a_line(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:  # not there, or empty
        return False
