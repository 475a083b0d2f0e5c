"""The whole trip, measured from outside: from a modality's last byte to the report in the PACS."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wetread_bench.fresh_films import FilmTemplate, Identity
from wetread_bench.intake_cpu import between, take_accounts
from wetread_bench.intake_senders import Line, OpenLoop
from wetread_bench.intake_watch import CAPTURE, REPORT
from wetread_bench.results import quantile
from wetread_bench.soak import slope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from wetread_bench.hospital import Hospital
    from wetread_bench.intake_senders import Sent
    from wetread_bench.intake_watch import Stored, StoredWatch
    from wetread_bench.orthanc import Orthanc

DRAIN_S = 30.0
"""Seconds that the last film's report is waited for."""
_GROWTH = 0.02  # of the rate: a queue that grows by less stands still
_BACKLOG_S = 2.0  # a queue of more than so many seconds' films at the end has grown


@dataclass(frozen=True, slots=True)
class Trip:
    """One measurement. Latencies are milliseconds from the last byte; `backlog`: films acknowledged, not yet back."""

    rate: float
    seconds: float
    planned: int
    films: int
    reports: int
    captures: int
    report_p50_ms: float
    report_p99_ms: float
    report_max_ms: float
    capture_p99_ms: float
    success_p50_ms: float
    """From the last byte to Success: what the fsyncs cost."""
    films_per_s: float
    backlog_end: int
    backlog_growth_per_s: float
    troubles: dict[str, int] = field(default_factory=dict)
    accounts: dict[str, object] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether every film came back as a report and a capture."""
        return self.planned == self.films == self.reports == self.captures

    @property
    def is_sustained(self) -> bool:
        """Whether the queue stood still, and everything came back."""
        still = self.backlog_growth_per_s <= _GROWTH * self.rate and self.backlog_end <= _BACKLOG_S * self.rate
        return self.is_whole and still


class Road:
    """The hospital and its watch, with films to send; every trip's films are new ones."""

    def __init__(
        self, hospital: Hospital, watch: StoredWatch, films: Sequence[FilmTemplate], folder: Path, seed: int
    ) -> None:
        self._hospital, self._watch, self._films, self._folder = hospital, watch, films, folder
        self._next = Identity(seed, 1)
        folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def sending(self, line: Line, films: Sequence[FilmTemplate] | None = None) -> Iterator[OpenLoop]:
        """Send by a schedule while the block runs, and to its end."""
        first = self._next
        self._next = Identity(first.seed, first.number + line.films)
        loop = OpenLoop(self._hospital.gateway.dicom_port, line, films or self._films, self._folder, first)
        loop.start()
        try:
            yield loop
        finally:
            loop.join()

    def travel(self, line: Line) -> Trip:
        """Send by a schedule and wait for everything to come back."""
        began = time.monotonic()
        before = take_accounts(self._hospital)
        with self.sending(line) as loop:
            pass
        ended = time.monotonic()
        self.await_back(loop.sent)
        after = take_accounts(self._hospital)
        self._make_room()
        accounts = between(before, after, max(1, len(loop.sent)))
        return summed_up(line, loop, self._watch.stored(), (began, ended), accounts)

    def _make_room(self) -> None:
        """Remove the films that are done: they would leave the spool a day later, and two minutes of them are 25 GB."""
        done = self._hospital.gateway.state / "spool" / "done"
        deadline = time.monotonic() + DRAIN_S
        while any((done.parent / "studies").glob("*/*.dcm")) and time.monotonic() < deadline:
            time.sleep(0.1)  # the last ones are being confirmed
        for film in done.glob("*/*.dcm"):
            film.unlink()

    def await_back(self, sent: Sequence[Sent], timeout_s: float = DRAIN_S) -> bool:
        """Wait until every film sent has its report and its capture."""
        wanted = {(film.identity.study_uid, kind) for film in sent for kind in (REPORT, CAPTURE)}

        def enough(stored: list[Stored]) -> bool:
            return len(stored) >= len(wanted) and wanted <= {(one.study_uid, one.kind) for one in stored}

        return self._watch.wait(enough, timeout_s)


def summed_up(
    line: Line, loop: OpenLoop, stored: Sequence[Stored], window: tuple[float, float], accounts: dict[str, object]
) -> Trip:
    """Bring together what the modalities and the PACS saw."""
    back = {kind: {one.study_uid: one.at for one in reversed(stored) if one.kind == kind} for kind in (REPORT, CAPTURE)}
    acknowledged = [film for film in loop.sent if film.acknowledged is not None]
    reports, captures = (latencies_ms(acknowledged, back[kind]) for kind in (REPORT, CAPTURE))
    waits = [(film.acknowledged - film.last_byte) * 1e3 for film in acknowledged if film.acknowledged is not None]
    points = backlog(acknowledged, back[REPORT], window)
    times = sorted(back[REPORT][f.identity.study_uid] for f in acknowledged if f.identity.study_uid in back[REPORT])
    took = max(times, default=window[1]) - min((film.last_byte for film in acknowledged), default=window[0])
    return Trip(
        rate=line.rate,
        seconds=line.seconds,
        planned=line.films,
        films=len(acknowledged),
        reports=len(reports),
        captures=len(captures),
        report_p50_ms=round(quantile(reports, 0.5), 1),
        report_p99_ms=round(quantile(reports, 0.99), 1),
        report_max_ms=round(max(reports, default=0.0), 1),
        capture_p99_ms=round(quantile(captures, 0.99), 1),
        success_p50_ms=round(quantile(waits, 0.5), 1),
        films_per_s=round(len(reports) / took, 2) if took > 0 else 0.0,
        backlog_end=points[-1][1] if points else 0,
        backlog_growth_per_s=round(growth(points), 4),
        troubles=dict(loop.troubles),
        accounts=accounts,
    )


def latencies_ms(sent: Sequence[Sent], back: dict[str, float]) -> list[float]:
    """Give the time from the last byte until it was back, of every film that is."""
    return [(back[film.identity.study_uid] - film.last_byte) * 1e3 for film in sent if film.identity.study_uid in back]


def backlog(sent: Sequence[Sent], back: dict[str, float], window: tuple[float, float]) -> list[tuple[float, int]]:
    """Give, for every half second of the window, how many films were acknowledged and not back yet."""
    begin, end = window
    moments = [begin + 0.5 * step for step in range(1, int((end - begin) * 2) + 1)]
    out = [film.acknowledged for film in sent if film.acknowledged is not None]
    home = [back.get(film.identity.study_uid, float("inf")) for film in sent]
    return [(at, sum(t <= at for t in out) - sum(t <= at for t in home)) for at in moments]


def growth(points: Sequence[tuple[float, int]]) -> float:
    """Give the films a second by which the queue grew after the first quarter: the median slope, deaf to spikes."""
    settled = points[len(points) // 4 :]
    step = max(1, len(settled) // 60)
    return slope([(round(at * 1000), float(count)) for at, count in settled[::step]]) / 1e4 * 1e3 if settled else 0.0


def straight_to_the_pacs(
    pacs: Orthanc, films: Sequence[FilmTemplate], folder: Path, seconds: float, seed: int, rate: float
) -> float:
    """Send films to the PACS itself, more than it can take: films a second that it took."""
    line = Line(rate, seconds, batch=5, called=pacs.ae_title, most_at_once=4)
    loop = OpenLoop(pacs.dicom_port, line, films, folder, Identity(seed, 1))
    began = time.monotonic()
    loop.start()
    loop.join()
    taken = [film.acknowledged for film in loop.sent if film.acknowledged is not None]
    return len(taken) / (max(taken, default=began) - began) if taken else 0.0


def highest_sustained(
    travel: Callable[[float], Trip], rates: Sequence[float], tell: Callable[[Trip], None]
) -> tuple[Trip | None, list[Trip]]:
    """Try rates, lowest first, until the queue grows at one; the last trip that was sustained, and all of them."""
    best: Trip | None = None
    trips = []
    for rate in rates:
        trip = travel(rate)
        trips.append(trip)
        tell(trip)
        if not trip.is_sustained:
            break
        best = trip
    return best, trips
