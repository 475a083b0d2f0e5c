"""The modalities of the chaos run: storescu processes whose logs alone say what was acknowledged."""

from __future__ import annotations

import random
import shutil
import threading
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING, Self

from wetread_bench.hospital import acknowledged, storescu

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wetread_bench.chaos_films import FilmMaker, Planned

LARGEST_BATCH = 20
PAUSE_S = 0.5  # before a modality tries again what was not taken
# Seconds for the connection, the association and an answer: a modality gives up some time.
_PATIENCE = ("-to", "5", "-ta", "20", "-td", "60")
_REFUSED = "Received Store Response ("
_NO_ROOM = "Refused: OutOfResources"
OUT_OF_RESOURCES = "out of resources (0xA700)"


class Ledger:
    """What the senders' logs say. Safe to use from many threads.

    `window`: films on their way at once. A day's work comes over the day, and every fault shall meet films at every
    stage: without it all films would be in the spool before the first report is out. It counts for nothing while
    `is_hurried` is set.
    """

    def __init__(self, films: Sequence[Planned], window: int = 1 << 30) -> None:
        self._window, self._back = window, 0
        self.is_hurried = threading.Event()
        self._films = {planned.identity.number: planned for planned in films}
        self._waiting = deque(films)
        self._lock = threading.Lock()
        self._under_way = 0
        self.acknowledged: dict[int, int] = {}
        """Successes by film number."""
        self.answers: Counter[str] = Counter()
        """Lines of the logs that tell of anything but Success, by kind."""

    def take(self, most: int) -> list[Planned]:
        """Give the next films to send, at most so many; none while too many have not come back."""
        with self._lock:
            window = len(self._films) if self.is_hurried.is_set() else self._window
            room = window - (len(self.acknowledged) + self._under_way - self._back)
            taken = [self._waiting.popleft() for _ in range(max(0, min(most, room, len(self._waiting))))]
            self._under_way += len(taken)
            return taken

    def came_back(self, films: int) -> None:
        """Note how many films have ended, one way or the other."""
        with self._lock:
            self._back = max(self._back, films)

    def give_back(self, sent: Sequence[Planned], successes: Sequence[int], answers: Counter[str]) -> int:
        """Note what a log says of films taken; give how many have to be sent again because they were not acknowledged.

        A film that is to be sent twice goes back to the end of the line after its first Success.
        """
        counted = Counter(successes)
        with self._lock:
            self._under_way -= len(sent)
            self.answers += answers
            again = 0
            for planned in sent:
                number = planned.identity.number
                if counted[number]:
                    self.acknowledged[number] = self.acknowledged.get(number, 0) + counted[number]
                else:
                    again += 1
                if not counted[number] or (planned.twice and self.acknowledged[number] == 1):
                    self._waiting.append(planned)
            return again

    @property
    def count(self) -> int:
        """How many films have been acknowledged at least once."""
        with self._lock:
            return len(self.acknowledged)

    @property
    def is_done(self) -> bool:
        """Whether every film has been acknowledged, as often as planned."""
        with self._lock:
            return not self._waiting and not self._under_way

    def films(self) -> list[Planned]:
        """Give the films that were acknowledged."""
        with self._lock:
            return [self._films[number] for number in sorted(self.acknowledged)]


class Senders:
    """So many modalities at once; a context that waits for their last association to end."""

    def __init__(self, port: int, ledger: Ledger, maker: FilmMaker, folder: Path, *, at_once: int, seed: int) -> None:
        self._port, self._ledger, self._maker, self._folder = port, ledger, maker, folder
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, args=(place, seed + place), name=f"modality-{place}")
            for place in range(at_once)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self, place: int, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 -- sizes of batches
        folder = self._folder / f"modality-{place}"
        while not self._stop.is_set():
            batch = self._ledger.take(chance.randint(1, LARGEST_BATCH))
            if not batch:
                self._stop.wait(PAUSE_S)  # another one may yet fail and hand its films back
                continue
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            files = [self._maker.write(folder, planned) for planned in batch]
            done = storescu(self._port, files, "-v", *_PATIENCE, calling=f"MODALITY{place}")
            log = done.stdout + done.stderr
            successes = [int(Path(file).stem) for file in acknowledged(log)]
            if self._ledger.give_back(batch, successes, _answers(log, done.returncode)):
                self._stop.wait(PAUSE_S)
        shutil.rmtree(folder, ignore_errors=True)


def _answers(log: str, status: int) -> Counter[str]:
    """Count what else than Success a log tells of."""
    found: Counter[str] = Counter()
    for line in log.splitlines():
        if _REFUSED in line and "(Success)" not in line:
            found[OUT_OF_RESOURCES if _NO_ROOM in line else line.split(_REFUSED)[1][:60]] += 1
        elif "Association Rejected" in line or "Association Request Failed" in line:
            found["association not accepted"] += 1
    if status and not found:
        found["association broken"] += 1
    return found
