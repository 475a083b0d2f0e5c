"""Twins, two instances of one SOP Instance UID: compared in the background, so that they hold nobody up."""

from __future__ import annotations

import itertools
import logging
import queue
import threading
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from wetread_gateway.errors import SiblingAway, SourceMissing
from wetread_gateway.triage.facts import look
from wetread_gateway.triage.pixel_process import PixelProcess, PixelsUnknown

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wetread_gateway.siblings import Held, Siblings

LOG = logging.getLogger(__name__)
_CHUNK = 1 << 20
AWAY_LOOK_S = 0.5
"""Seconds until an intake that did not answer is asked for a twin again."""


class Likeness(StrEnum):
    """How two twins compare."""

    EQUAL = "equal"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the comparison gave; `reason`: why nothing is known."""

    likeness: Likeness
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """The twin that was here first: its file, or the digest of its pixels where the file has left the spool.

    `elsewhere`: the file where it lies in another intake's spool.
    """

    path: Path | None
    pixel_digest: str = ""
    elsewhere: Held | None = None


@dataclass(order=True, slots=True)
class _Task:
    rank: tuple[bool, int]
    new: Path | None = field(compare=False)  # None: stop
    old: Known = field(compare=False)


class Twins:
    """Compares twins on a thread of its own; `wake` is called when a verdict is there."""

    def __init__(
        self, wake: Callable[[], None], pixels: PixelProcess | None = None, siblings: Siblings | None = None
    ) -> None:
        self._wake = wake
        self._siblings = siblings
        self._pixels = pixels or PixelProcess()
        self._tasks: queue.PriorityQueue[_Task] = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._verdicts: dict[str, Verdict] = {}
        self._asked: set[str] = set()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="twins", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> set[str]:
        """The names that wait for a verdict."""
        return {name for name in self._asked.copy() if name not in self._verdicts}

    def verdict(self, name: str) -> Verdict | None:
        """Give the verdict on the instance called `name`, if there is one."""
        return self._verdicts.get(name)

    def compare(self, new: Path, old: Known, *, stat: bool) -> None:
        """Ask for a verdict on the instance in `new`."""
        self._asked.add(new.name)
        self._tasks.put(_Task((not stat, next(self._numbers)), new, old))

    def forget(self, name: str) -> None:
        """Drop a verdict that has been acted on."""
        self._asked.discard(name)
        self._verdicts.pop(name, None)

    def close(self) -> None:
        """Stop comparing; what was not compared is compared after the next start."""
        self._closed.set()
        self._tasks.put(_Task((False, -1), None, Known(None)))
        self._pixels.close()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while True:
            task = self._tasks.get()
            if task.new is None:
                return
            try:
                verdict = self._compared(task.new, task.old)
            except SiblingAway:  # the instance waits for its twin's intake, those behind it do not
                self._tasks.put(_Task((True, next(self._numbers)), task.new, task.old))
                self._closed.wait(AWAY_LOOK_S)
                continue
            except Exception as error:  # this thread's outermost loop: the next twins are compared all the same
                LOG.exception("a comparison of twins failed")
                verdict = Verdict(Likeness.UNKNOWN, type(error).__name__)
            if self._closed.is_set():
                return
            if verdict.likeness is Likeness.UNKNOWN and _is_elsewhere_now(task.old):
                self._asked.discard(task.new.name)  # it was moved or purged meanwhile: asked anew where it is now
            else:
                self._verdicts[task.new.name] = verdict
            self._wake()

    def _compared(self, new: Path, old: Known) -> Verdict:
        if old.elsewhere is None or self._siblings is None:
            return self._compared_here(new, old)
        try:
            with self._siblings.borrowed([old.elsewhere]) as (path,):
                return self._compared_here(new, Known(path))
        except SourceMissing:
            return Verdict(Likeness.UNKNOWN, "the file of its twin was not found")

    def _compared_here(self, new: Path, old: Known) -> Verdict:
        try:
            if old.path is None:
                if not old.pixel_digest:
                    return Verdict(Likeness.UNKNOWN, "the pixels of its twin have left the spool")
                same = self._pixels.digest(new) == old.pixel_digest
            else:
                same = same_dataset(new, old.path) or self._pixels.equal(new, old.path)
        except PixelsUnknown as error:
            return Verdict(Likeness.UNKNOWN, str(error))
        except FileNotFoundError:
            return Verdict(Likeness.UNKNOWN, "the file of its twin was not found")
        return Verdict(Likeness.EQUAL if same else Likeness.DIFFERENT)


def _is_elsewhere_now(old: Known) -> bool:
    """Whether a twin's file was moved or purged while it was compared."""
    return old.path is not None and not old.path.exists()


def same_dataset(one: Path, other: Path) -> bool:
    """Tell whether two files hold the same dataset to the byte, in the same transfer syntax."""
    first, second = look(one), look(other)
    if first.facts.transfer_syntax_uid != second.facts.transfer_syntax_uid:
        return False
    if one.stat().st_size - first.dataset_at != other.stat().st_size - second.dataset_at:
        return False
    with one.open("rb") as a, other.open("rb") as b:
        a.seek(first.dataset_at)
        b.seek(second.dataset_at)
        while True:
            chunk = a.read(_CHUNK)
            if chunk != b.read(_CHUNK):
                return False
            if not chunk:
                return True
