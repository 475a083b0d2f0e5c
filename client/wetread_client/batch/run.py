"""One share of a batch from its listing to its summary."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wetread_client.batch.desk import CUT, LEFT, Desk
from wetread_client.batch.errors import BatchError
from wetread_client.batch.inventory import parse_line
from wetread_client.batch.progress import Shown, duration
from wetread_client.batch.results import FAILED, READ, REFUSED, RESULTS, SKIPPED, Done, take_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wetread_client.batch.desk import DeskOptions
    from wetread_client.batch.inventory import Entry, Inventory, Shard
    from wetread_client.batch.out import Log, Out
    from wetread_client.batch.pace import Pace
    from wetread_client.client import Client

ABOUT = "batch.jsonl"
"""What the results of a folder are of, so that two batches do not mix."""
IN_A_ROW = 50
"""Failures without anything between them after which a run ends: something is wrong, and not with the films."""
_BEAT_S = 1.0


@dataclass(frozen=True, slots=True)
class Batch:
    """What to read, and how: `rescan` lists again, `retry_failed` tries again what has failed."""

    inventory: Inventory
    shard: Shard
    out: Out
    connect: Callable[[str], Client]
    options: DeskOptions
    pace: Pace
    concurrency: int = 2
    rescan: bool = False
    retry_failed: bool = False

    @property
    def name(self) -> str:
        """Tell this share from the others."""
        return f"{self.shard.index}-of-{self.shard.of}"


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of a share: of all its runs in `outcomes`, of this one in `this_run`.

    `left`: entries not done. `why` it ended before, and what it `waited_for` then. `not_served`: pipelines that lacked.
    """

    entries: int
    left: int
    outcomes: Counter[str]
    this_run: Counter[str]
    seconds: float
    why: str = ""
    waited_for: str = ""
    not_served: tuple[str, ...] = ()

    @property
    def is_well(self) -> bool:
        """Whether nothing failed, and nothing is left but for a limit that was asked for."""
        return not self.outcomes[FAILED] and (not self.left or self.why == "the limit")

    def __str__(self) -> str:
        now = sum(self.this_run[one] for one in (READ, REFUSED, FAILED))
        rate = now / self.seconds if self.seconds else 0.0
        parts = [f"{self.outcomes[one]:,} {one}" for one in (READ, REFUSED, FAILED, SKIPPED) if self.outcomes[one]]
        lines = [f"{self.entries:,} entries: {', '.join(parts) or 'nothing read yet'}."]
        lines.append(f"This run: {now:,} films and series in {duration(self.seconds)}, {rate:.1f} a second.")
        if self.left:
            ended = f" (ended by {self.why})" if self.why else ""
            lines.append(f"{self.left:,} entries are left{ended}; call it again to go on.")
        if self.waited_for:
            lines.append(f"At the end it waited: {self.waited_for}.")
        if self.this_run[LEFT]:
            lacking = " or ".join(self.not_served) or "a pipeline"
            lines.append(f"{self.this_run[LEFT]:,} films and series need {lacking}, which the server does not serve.")
        if self.outcomes[FAILED]:
            lines.append("Those that failed are tried again with --retry-failed.")
        return "\n".join([*lines, "Not for clinical use."])


def run(batch: Batch) -> Summary:
    """Read what is left of a share; BatchError when it cannot begin."""
    name = f"{RESULTS}{batch.name}"
    with batch.out.claim(name):
        _check_about(batch)
        entries = _listed(batch)
        done = take_up(batch.out, own=f"{name}.", mine=batch.shard.has, retry_failed=batch.retry_failed)
        log = batch.out.log(name)
        try:
            return _read(batch, entries, done, log)
        finally:
            log.close()


def _check_about(batch: Batch) -> None:
    found = batch.inventory
    about = {
        "source": found.source,
        "layout": found.layout,
        "study_depth": found.study_depth,
        "pipeline": batch.options.pipeline,
    }
    if batch.out.put_first(ABOUT, json.dumps(about)):
        return
    there = json.loads(b"".join(batch.out.lines(ABOUT)))
    if there != about:
        other = ", ".join(f"{key} {there.get(key)!r}" for key in about if there.get(key) != about[key])
        raise BatchError(f"the folder holds results of another batch ({other}): give this one a folder of its own")


def _listed(batch: Batch) -> int:
    """List the share unless that was done, and count its entries; a listing that was cut short is none."""
    name = _inventory_name(batch)
    if batch.rescan or name not in batch.out.names(name.removesuffix(".jsonl")):
        batch.out.put(name, (entry.line() for entry in batch.inventory.entries(batch.shard)))
    return sum(1 for _ in batch.out.lines(name))


def _inventory_name(batch: Batch) -> str:
    return f"inventory-{batch.name}.jsonl"


def _entries(batch: Batch, done: Done) -> Iterator[Entry]:
    for line in batch.out.lines(_inventory_name(batch)):
        entry = parse_line(line.decode())
        if not done.has_entry(entry.key):
            yield entry


def _read(batch: Batch, total: int, done: Done, log: Log) -> Summary:
    begun = total - sum(1 for _ in _entries(batch, done))
    started = time.monotonic()
    tally = _Tally(batch.pace)
    desk = Desk(batch.inventory.archive, batch.connect, batch.options, batch.pace, log, done)
    with closing(desk), Shown(total, begun) as shown:
        for _ in _beats(batch, desk, _entries(batch, done), tally):
            log.sync()
            shown.note(begun + tally.entries, tally.counts, batch.pace.waits_for)
    left = total - begun - tally.entries
    return Summary(
        entries=total,
        left=left,
        outcomes=done.outcomes + tally.counts,
        this_run=tally.counts,
        seconds=time.monotonic() - started,
        why=batch.pace.why,
        waited_for=batch.pace.waits_for if left else "",
        not_served=desk.not_served,
    )


def _beats(batch: Batch, desk: Desk, entries: Iterator[Entry], tally: _Tally) -> Iterator[None]:
    """Read entries, so many at once, and give a beat now and then; entries are taken no faster than they are read."""
    with ThreadPoolExecutor(batch.concurrency, "wetread-batch") as threads:
        waiting: set[Future[Counter[str]]] = set()
        try:
            while True:
                free = 0 if batch.pace.why else batch.concurrency - len(waiting)
                waiting |= {threads.submit(desk.take, entry) for entry in itertools.islice(entries, free)}
                if not waiting:
                    return
                ended, waiting = wait(waiting, _BEAT_S, FIRST_COMPLETED)
                for future in ended:
                    tally.take(future.result())
                yield
        finally:
            batch.pace.stop("")  # of an error: no thread may wait for a window that opens tomorrow


class _Tally:
    """Counts what comes back from the desk, and ends a run in which all fails."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._in_a_row = 0
        self.entries = 0
        self.counts: Counter[str] = Counter()

    def take(self, counts: Counter[str]) -> None:
        """Count one entry."""
        self.entries += not (counts[LEFT] or counts[CUT])
        self.counts += counts
        self._in_a_row = self._in_a_row + counts[FAILED] if set(counts) <= {FAILED} else 0
        if self._in_a_row >= IN_A_ROW:
            self._pace.stop(f"{self._in_a_row} failures in a row")
