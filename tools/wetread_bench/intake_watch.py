"""Tells when an object lies in the PACS: Orthanc itself writes a line for each into a pipe."""

from __future__ import annotations

import os
import select
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

REPORT, CAPTURE = "report", "capture"
_FILM_MODALITIES = ("CR", "DX", "RG")
# Called by Orthanc after an object and its index entry are stored; a moment late, never early.
_LUA = """
function OnStoredInstance(id, tags, metadata, origin)
  local pipe = io.open("{pipe}", "a")
  pipe:write((tags["Modality"] or "-") .. " " .. tags["StudyInstanceUID"] .. " " .. tags["SOPInstanceUID"] .. "\\n")
  pipe:close()
end
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object that the PACS has stored. `at`: monotonic seconds. `kind`: `report`, `capture`, or the modality."""

    at: float
    kind: str
    study_uid: str
    sop_uid: str


class StoredWatch:
    """Watches a PACS; a context. Give `lua` to Orthanc. What is stored again is told again."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "stored.pipe"
        os.mkfifo(self._path)
        self._pipe = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)  # its own writer: it never ends
        self._wake, self._stop = os.pipe2(os.O_CLOEXEC)
        self._changed = threading.Condition()
        self._stored: list[Stored] = []
        self._thread = threading.Thread(target=self._read, name="stored-watch")

    @property
    def lua(self) -> str:
        """The script that Orthanc runs."""
        return _LUA.format(pipe=self._path)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        os.write(self._stop, b"x")
        self._thread.join()
        for file in (self._pipe, self._wake, self._stop):
            os.close(file)
        self._path.unlink()

    def stored(self) -> list[Stored]:
        """Give everything so far, in order."""
        with self._changed:
            return list(self._stored)

    def wait(self, enough: Callable[[list[Stored]], bool], timeout_s: float) -> bool:
        """Wait until `enough` says so of what is stored; False when it did not in time."""
        with self._changed:
            return self._changed.wait_for(lambda: enough(self._stored), timeout_s)

    def _read(self) -> None:
        rest = b""
        while True:
            ready, _, _ = select.select([self._pipe, self._wake], [], [])
            if self._wake in ready:
                return
            at = time.monotonic()
            *lines, rest = (rest + os.read(self._pipe, 1 << 16)).split(b"\n")
            with self._changed:
                self._stored += [_parse(at, line.decode()) for line in lines]
                self._changed.notify_all()


def _parse(at: float, line: str) -> Stored:
    modality, study_uid, sop_uid = line.split(" ")
    kind = REPORT if modality == "SR" else modality if modality in _FILM_MODALITIES else CAPTURE
    return Stored(at, kind, study_uid, sop_uid)
