"""Modalities that send by the clock: storescu processes begun when they are due, whatever became of those before."""

from __future__ import annotations

import os
import select
import subprocess
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from wetread_bench.hospital import AE_TITLE
from wetread_bench.servers import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from wetread_bench.fresh_films import Identity

_LAST_BYTE = b"\n"  # storescu ends the line of a film's progress when its last byte is sent
_SUCCESS = b"Received Store Response (Success)"
_REFUSED_AT_THE_DOOR = b"Association Re"  # Rejected, Request Failed
_PATIENCE = ("-to", "10", "-ta", "30", "-td", "60")


class Maker(Protocol):
    """Writes a film under an identity."""

    def write(self, path: Path, identity: Identity) -> Path:
        """Write it to `path`."""

    def rewrite(self, path: Path, identity: Identity) -> Path:
        """Give a file of an earlier film of this maker another identity."""


@dataclass(frozen=True, slots=True)
class Line:
    """A schedule: films a second, how many of them over one association, and to whom."""

    rate: float
    seconds: float
    batch: int = 1
    called: str = AE_TITLE
    calling: str = "MODALITY"
    most_at_once: int = 32
    """Associations at once; a batch that finds as many is not sent and counts as `late`."""
    nice: int = 0
    """Niceness of the storescu processes: modalities are other machines, and a crowd of them must not pass for work."""

    @property
    def batches(self) -> int:
        """Associations in all."""
        return max(1, round(self.rate * self.seconds / self.batch))

    @property
    def films(self) -> int:
        """Films in all."""
        return self.batches * self.batch


@dataclass(frozen=True, slots=True)
class Sent:
    """A film that was sent. Times are monotonic seconds; `acknowledged`: when Success was heard, None if never."""

    identity: Identity
    last_byte: float
    acknowledged: float | None


class OpenLoop:
    """Sends films by a schedule from threads of its own; `sent` grows meanwhile."""

    def __init__(self, port: int, line: Line, makers: Sequence[Maker], folder: Path, first: Identity) -> None:
        self._port, self._line, self._makers, self._folder, self._first = port, line, makers, folder, first
        self._lock = threading.Lock()
        self._free = threading.Semaphore(line.most_at_once)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.sent: list[Sent] = []
        self.troubles: Counter[str] = Counter()
        self.offered = 0
        # Files whose film has been sent, by maker: a modality's disk is no part of what is measured.
        self._idle: defaultdict[int, list[Path]] = defaultdict(list)
        self._clock = threading.Thread(target=self._run, name="schedule")

    def start(self) -> None:
        """Begin."""
        self._clock.start()

    def stop(self) -> None:
        """Send nothing more."""
        self._stop.set()

    def join(self) -> None:
        """Wait until the schedule is through and every association has ended."""
        self._clock.join()
        for thread in self._threads:
            thread.join()
        for files in self._idle.values():
            _remove(files)
        self._idle.clear()

    def __enter__(self) -> OpenLoop:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        self.join()

    def _run(self) -> None:
        line, began = self._line, time.monotonic()
        for number in range(line.batches):
            # The next batch is written before it is due: its first byte leaves on time.
            identities = [self._identity(number * line.batch + place) for place in range(line.batch)]
            due = began + number * line.batch / line.rate
            if not self._free.acquire(blocking=False):
                self._note("late", line.batch)
                self._wait(due)
                continue
            files = [self._write(identity) for identity in identities]
            if not self._wait(due):
                _remove(files)
                return
            self.offered += line.batch
            thread = threading.Thread(target=self._send, args=(identities, files), name=f"storescu-{number}")
            thread.start()
            self._threads = [*(one for one in self._threads if one.is_alive()), thread]

    def _wait(self, due: float) -> bool:
        """Wait for the moment; False when told to stop."""
        return not self._stop.wait(max(0.0, due - time.monotonic()))

    def _identity(self, place: int) -> Identity:
        return type(self._first)(self._first.seed, self._first.number + place)

    def _write(self, identity: Identity) -> Path:
        maker = identity.number % len(self._makers)
        with self._lock:
            idle = self._idle[maker].pop() if self._idle[maker] else None
        if idle is not None:
            return self._makers[maker].rewrite(idle, identity)
        return self._makers[maker].write(self._folder / f"{self._line.calling}-{identity.number}.dcm", identity)

    def _keep(self, identities: Sequence[Identity], files: Sequence[Path]) -> None:
        with self._lock:
            for identity, file in zip(identities, files, strict=True):
                self._idle[identity.number % len(self._makers)].append(file)

    def _send(self, identities: Sequence[Identity], files: Sequence[Path]) -> None:
        line = self._line
        # By the line, so that the end of a film's line of progress is seen when it is written.
        command = ["nice", "-n", str(line.nice), "stdbuf", "-oL", "storescu", "-v", "-R"]
        names = ["-aec", line.called, "-aet", line.calling, *_PATIENCE, "127.0.0.1", str(self._port)]
        try:
            with subprocess.Popen(
                [*command, *names, *map(str, files)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=os.environ | ENVIRONMENT,
            ) as process:
                last_bytes, successes, log = _listen(process)
        finally:
            self._keep(identities, files)
            self._free.release()
        if process.returncode:
            kind = "association refused" if _REFUSED_AT_THE_DOOR in log else "association ended early"
            self._note(kind, len(identities) - len(successes))
        # A film that was refused ends the association, so the answers are those of the first films.
        with self._lock:
            for place, (identity, at) in enumerate(zip(identities, last_bytes, strict=False)):
                self.sent.append(Sent(identity, at, successes[place] if place < len(successes) else None))

    def _note(self, what: str, films: int) -> None:
        with self._lock:
            self.troubles[what] += films


def _listen(process: subprocess.Popen[bytes]) -> tuple[list[float], list[float], bytes]:
    """Give the moments of every film's last byte and of every Success, and the log."""
    assert process.stdout is not None
    assert process.stderr is not None
    progress, log = process.stdout.fileno(), process.stderr.fileno()
    last_bytes: list[float] = []
    successes: list[float] = []
    seen = b""
    open_files = {progress, log}
    while open_files:
        ready, _, _ = select.select(sorted(open_files), [], [])
        at = time.monotonic()
        for file in ready:
            if not (data := os.read(file, 1 << 16)):
                open_files.discard(file)
            elif file == progress:
                last_bytes += [at] * data.count(_LAST_BYTE)
            else:
                seen += data
                successes += [at] * (seen.count(_SUCCESS) - len(successes))
    return last_bytes, successes, seen


def _remove(files: Sequence[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)
