"""Read one entry of the archive: bring its files here, sort them into films and series, read each, keep its line."""

from __future__ import annotations

import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wetread_client.batch.errors import ArchiveAway
from wetread_client.batch.headers import look_at, may_be_film
from wetread_client.batch.pace import Stop
from wetread_client.batch.results import FAILED, READ, REFUSED, SKIPPED, Named, error_line, read_line, skipped_line
from wetread_client.choosing import Choice, choose
from wetread_client.errors import Rejected, ServerError, Status, Unavailable, WetreadError
from wetread_client.read_run import FILM_S, SERIES_S, Plan
from wetread_client.retry import Retry
from wetread_client.sorting import as_films, sort

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wetread_client.batch.archive import Archive
    from wetread_client.batch.inventory import Entry
    from wetread_client.batch.out import Log
    from wetread_client.batch.pace import Pace
    from wetread_client.batch.results import Done
    from wetread_client.client import Client
    from wetread_client.reading import Reading

LEFT = "left"
"""Not read in this run, for its pipeline is not served; it has no line, and the next run takes it."""
CUT = "cut"
"""Not read to its end, for the run ended before."""
_FETCHES, _ERRORS, _LATE = 3, 3, 5
"""Tries of a file that cannot be fetched, of one that the server breaks over, of one that takes too long."""

_BACKOFF = Retry(first_wait_s=1.0, longest_wait_s=60.0)


@dataclass(frozen=True, slots=True)
class DeskOptions:
    """How to read; `timeout_s`: for each film or series, None for what each usually takes.

    `patience_s`: how long a server that answers may lack a pipeline before what needs that is left. `backoff`: between
    tries, for as long as the server cannot answer. `scratch`: where remote files lie while they are read.
    """

    pipeline: str | None = None
    any_body_part: bool = False
    timeout_s: float | None = None
    patience_s: float = 300.0
    backoff: Retry = _BACKOFF
    scratch: Path | None = None


class Desk:
    """Reads entries; safe to use from many threads. Closed at the end."""

    def __init__(
        self,
        archive: Archive,
        connect: Callable[[str], Client],
        options: DeskOptions,
        pace: Pace,
        log: Log,
        done: Done,
    ) -> None:
        self._archive, self._connect, self._options = archive, connect, options
        self._pace, self._log, self._done = pace, log, done
        self._clients: dict[str, Client] = {}
        self._open = ExitStack()
        self._missing: dict[str, float] = {}
        self._takes_series: bool | None = None
        self._lock, self._looking = threading.Lock(), threading.Lock()

    def close(self) -> None:
        """Close the clients."""
        self._open.close()

    @property
    def not_served(self) -> tuple[str, ...]:
        """Give the pipelines that the server lacks, as far as they were asked for."""
        with self._lock:
            return tuple(sorted(self._missing))

    def take(self, entry: Entry) -> Counter[str]:
        """Read what is left of an entry and count what became of it."""
        counts: Counter[str] = Counter()
        try:
            with ExitStack() as brought:
                self._take(entry, counts, brought)
        except Stop:
            counts[CUT] += 1
        return counts

    def _take(self, entry: Entry, counts: Counter[str], brought: ExitStack) -> None:
        self._pace.check()
        try:
            addresses, files = self._bring(entry, brought)
        except (OSError, ArchiveAway) as error:
            named = Named(entry.key, 1, (entry.key,))
            counts[self._keep(FAILED, error_line(named, FAILED, None, error))] += 1
            return
        works = self._works(entry, dict(zip(files, addresses, strict=True)))
        if not works:
            counts[self._keep(SKIPPED, skipped_line(entry.key))] += 1
        for named, plan in works:
            if not self._done.has_work(entry.key, named.key):
                counts[self._one(named, plan)] += 1

    def _bring(self, entry: Entry, brought: ExitStack) -> tuple[list[str], list[Path]]:
        """Give an entry's files by their addresses and by their paths on this machine."""
        for attempt in range(1, _FETCHES + 1):
            try:
                addresses = self._archive.below(entry.folder) if entry.folder is not None else list(entry.files)
                if all(self._archive.is_local(address) for address in addresses):
                    return addresses, [self._archive.local_path(address) for address in addresses]
                folder = tempfile.TemporaryDirectory(prefix="wetread-batch-", dir=self._options.scratch)
                return addresses, self._archive.fetch(addresses, Path(brought.enter_context(folder)))
            except (FileNotFoundError, PermissionError):
                raise
            except (OSError, ArchiveAway):
                if attempt == _FETCHES:
                    raise
                self._pace.sleep(self._options.backoff.wait_s(attempt), "the archive does not answer")
        raise AssertionError

    def _works(self, entry: Entry, addresses: dict[Path, str]) -> list[tuple[Named, Plan]]:
        """Sort an entry's files into films and series, and choose a pipeline for each."""
        with self._looking:  # looking sets how warnings are shown, which is the whole process's
            files = [file for file in addresses if entry.named or (file.name != "DICOMDIR" and may_be_film(file))]
            plans = self._plans(files, frozenset(files if entry.named else ()))
            return [
                (
                    Named(
                        entry=entry.key,
                        works=len(plans),
                        files=tuple(addresses[file] for file in plan.work.files),
                        is_series=plan.work.is_series,
                        modality=plan.work.modality,
                        header=look_at(plan.work.files[0]),
                    ),
                    plan,
                )
                for plan in plans
            ]

    def _plans(self, files: Sequence[Path], named: frozenset[Path]) -> list[Plan]:
        pipeline = self._options.pipeline
        if pipeline is None:
            return [Plan(work, choose(work.modality, work.body_part)) for work in sort(files, named=named).works]
        told = Choice(pipeline, f"--pipeline {pipeline}")
        by_series = self._is_of_series(pipeline)
        found = sort(files, named=named, by_series=lambda _: True) if by_series else as_films(files)
        return [Plan(work, told) for work in found.works]

    def _is_of_series(self, pipeline: str) -> bool:
        """Ask the server once, for as long as it takes: a series read as films would be wrong."""
        failures = 0
        while self._takes_series is None:
            try:
                self._takes_series = self._client(pipeline).takes_series()
            except Unavailable as error:
                failures += 1
                self._pace.sleep(self._options.backoff.wait_s(failures), f"no server: {error.message}")
            except ServerError:
                self._takes_series = False  # it does not say: films are what it is taken for
        return self._takes_series

    def _one(self, named: Named, plan: Plan) -> str:
        """Read one and keep its line; gives what became of it."""
        pipeline = plan.choice.pipeline
        if pipeline is None:
            refused = Rejected("UnsupportedImage", plan.choice.why)
            return self._keep(REFUSED, error_line(named, REFUSED, None, refused))
        client = self._client(pipeline)
        if self._is_given_up(client):
            return LEFT
        try:
            reading = self._persist(client, plan)
        except Rejected as error:
            return self._keep(REFUSED, error_line(named, REFUSED, pipeline, error))
        except (WetreadError, OSError) as error:
            return self._keep(FAILED, error_line(named, FAILED, pipeline, error))
        return LEFT if reading is None else self._keep(READ, read_line(named, pipeline, reading))

    def _persist(self, client: Client, plan: Plan) -> Reading | None:
        """Read one, again for as long as the server cannot answer; None where its pipeline is not served."""
        failures: Counter[str] = Counter()
        while True:
            self._pace.await_leave(again=bool(failures))
            try:
                return self._read(client, plan)
            except Unavailable as error:
                failures["away"] += 1
                is_late = error.code == Status.DEADLINE_EXCEEDED and _asked(client.is_ready)
                failures["late"] += is_late
                if failures["late"] >= _LATE:
                    raise  # the server is well, and this one alone takes too long
                if not is_late and self._is_missing(client):
                    return None
                why = f"the server at {client.url}: {error.message}"
            except ServerError as error:
                failures["errors"] += 1
                if failures["errors"] >= _ERRORS:
                    raise
                why = f"the server at {client.url} heals: {error.message}"
            self._pace.sleep(self._options.backoff.wait_s(sum(failures.values())), why)

    def _read(self, client: Client, plan: Plan) -> Reading:
        wanted, work = self._options, plan.work
        if work.is_series:
            return client.read_series(
                work.files,
                any_body_part=wanted.any_body_part,
                heatmap=False,
                deadline_s=wanted.timeout_s or SERIES_S,
            )
        return client.read(
            work.files[0],
            any_body_part=wanted.any_body_part,
            heatmap=False,
            deadline_s=wanted.timeout_s or FILM_S,
        )

    def _is_given_up(self, client: Client) -> bool:
        """Say whether a pipeline has been lacking for too long, and still is."""
        with self._lock:
            is_known = client.pipeline in self._missing
        return is_known and self._is_missing(client)

    def _is_missing(self, client: Client) -> bool:
        """Say whether a server that answers has lacked a pipeline for too long; one that is away lacks none."""
        lacks = not _asked(client.is_ready) and _asked(client.is_live)
        with self._lock:
            if not lacks:
                self._missing.pop(client.pipeline, None)
                return False
            since = self._missing.setdefault(client.pipeline, time.monotonic())
        return time.monotonic() - since >= self._options.patience_s

    def _keep(self, outcome: str, line: str) -> str:
        self._log.append(line)
        return outcome

    def _client(self, pipeline: str) -> Client:
        with self._lock:
            if pipeline not in self._clients:
                self._clients[pipeline] = self._open.enter_context(self._connect(pipeline))
            return self._clients[pipeline]


def _asked(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except WetreadError:
        return False
