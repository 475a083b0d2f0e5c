"""The audit trail: every intake, reading, delivery, refusal and change, durable before it is acknowledged."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

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

    def __init__(self, folder: Path, writer: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(folder / f"{writer}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        folder_file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(folder_file)
        os.close(folder_file)
        self._lock = threading.Lock()
        self._syncing = threading.Lock()
        self._written = 0
        self._synced = 0

    def record(self, *events: AuditEvent) -> None:
        """Append and fsync; OSError when the disk does not take them."""
        data = b"".join(json.dumps(asdict(event), separators=(",", ":")).encode() + b"\n" for event in events)
        with self._lock:
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]
            self._written += 1
            mine = self._written
        with self._syncing:
            if self._synced >= mine:
                return
            upto = self._written
            os.fsync(self._file)
            self._synced = upto

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
