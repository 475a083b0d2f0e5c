"""Runs the gate: serve both sides, ask the golden films, read all films, measure, judge, record."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from wetread_client import WetreadError

from wetread_release.device import CPU_TARGET, cpu_device, this_device, this_target
from wetread_release.draft import Draft, content_digest
from wetread_release.errors import BadDraft, GateFailed, ServeFailed
from wetread_release.evidence import GATE
from wetread_release.gate.films import patient_hash, synthetic_films
from wetread_release.gate.judge import Asked, judge
from wetread_release.gate.lay_out import side_of_draft
from wetread_release.gate.measure import measure, readable, steps
from wetread_release.gate.record import (
    REPORT,
    Outcome,
    check_not_weaker,
    drop_records,
    earlier_runs,
    write_golden,
    write_record,
)
from wetread_release.gate.reference import find_reference
from wetread_release.gate.report import picture_flips, write_report
from wetread_release.gate.server import asking, serving
from wetread_release.gate.verdict import failures, figures
from wetread_release.golden import ask, golden_films
from wetread_release.manifest import GateSummary
from wetread_release.volume_pipeline import is_for_series

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from wetread_release.gate.films import FilmSet
    from wetread_release.gate.lay_out import Side
    from wetread_release.gate.limits import Limits
    from wetread_release.gate.server import Answer, GateServer
    from wetread_release.release_site import Site

_TIMED_FILMS = 8
_IDLE_PATIENCE = 10.0
"""Times longer that a start may take at idle priority on a busy machine."""
_STARTUP_S = 120.0


@dataclass(frozen=True)
class GateRun:
    """What the gate is asked."""

    draft: Path
    root: Path
    """The checkout or image that has the backends and the film model."""
    limits: Limits
    films: FilmSet | None = None
    """None: synthetic ones, drawn by the film model of `root`."""
    reference: str = ""
    """See `find_reference`."""
    times: int = 60
    """Films by which each latency is measured."""
    idle: bool = True
    """This process runs at idle priority, and so does its server; said in the record."""
    report: Path | None = None
    """Default: report.html in the draft's gate folder."""
    is_for_url: bool = False
    """Only laid out, for a Triton of this machine's own kind."""
    url: str = ""
    """HTTP address of a Triton on this machine that serves what `lay_out` wrote. Empty: an embedded one is started."""

    @property
    def target(self) -> str:
        """Which parts are judged: an embedded server computes on the CPU."""
        return this_target() if self.url or self.is_for_url else CPU_TARGET

    @property
    def device(self) -> str:
        """What the record is kept by."""
        return this_device() if self.url or self.is_for_url else cpu_device()


class Progress(Protocol):
    """Where a long run tells how far it is."""

    def phase(self, name: str, total: int) -> None:
        """Begin a phase of so many steps; 0: not known."""
        ...

    def step(self) -> None:
        """One step is done. Called from several threads."""
        ...


def run_gate(run: GateRun, site: Site, progress: Progress) -> Outcome:
    """Run the gate on a draft and leave record, golden answers and report in it; the outcome says whether it passed.

    Raises:
        BadDraft: it is not whole, or no server of this machine can run it; or its calibration saw the gate's patients.
        ServeFailed: it does not load, or does not answer the golden films.
        Absent: the reference, the films or the film model are not there.
        GateFailed: it was judged over more or better films already.
    """
    _check_reads_films(run.draft)
    films = run.films if run.films is not None else synthetic_films(run.root)
    check_patients(run.draft, films)
    with tempfile.TemporaryDirectory(prefix="wetread-gate-") as folder:
        scratch = Path(folder)
        sides = find_sides(run, site, scratch)
        place = (run.draft, sides[0].mark, sides[0].engine, run.device)
        earlier = earlier_runs(*place)
        check_not_weaker(earlier, films)
        drop_records(*place)
        progress.phase("starting Triton", 0)
        with _server(run, sides, scratch) as server:
            outcome = replace(_judged(run, server, films, progress), earlier=earlier)
            pictures = picture_flips(server, outcome)
    write_record(run.draft, outcome)
    write_golden(run.draft, run.root, outcome.content, outcome.golden)
    own_report = run.draft / GATE / REPORT
    own_report.unlink(missing_ok=True)  # of an earlier run, where this one's goes elsewhere
    write_report(run.report or own_report, outcome, pictures)
    return outcome


def _check_reads_films(folder: Path) -> None:
    """Refuse a pipeline of series: there are no films to judge it by."""
    if is_for_series(Draft.load(folder).wiring):
        raise BadDraft(
            f"{folder} is a pipeline of series, and the gate judges films: judge it on series of your own, and publish "
            "it with --force and what you found"
        )


def find_sides(run: GateRun, site: Site, scratch: Path) -> tuple[Side, ...]:
    """Give the draft, and its reference where there is one; a published one is fetched into the folder `scratch`."""
    draft = Draft.load(run.draft)
    side = side_of_draft(run.draft, draft, run.target, content=content_digest(run.draft, draft))
    reference = find_reference(site, draft.pipeline, run.reference, run.target, scratch)
    return (side,) if reference is None else (side, reference)


def lay_out(run: GateRun, site: Site, folder: Path) -> tuple[Side, ...]:
    """Write the repositories of both sides into `folder`, made new, for a Triton that is then asked by its URL.

    Raises:
        BadDraft: the folder is there, or the draft is not whole.
        Absent: the reference is not there.
    """
    if folder.exists() and any(folder.iterdir()):
        raise BadDraft(f"{folder} is not empty: name a new folder")
    with tempfile.TemporaryDirectory(prefix="wetread-gate-") as scratch:
        sides = find_sides(run, site, Path(scratch))
        for side in sides:
            side.write(folder, copy=True)
    return sides


def _server(run: GateRun, sides: Sequence[Side], scratch: Path) -> AbstractContextManager[GateServer]:
    if run.url:
        return asking(run.url, sides)
    return serving(sides, run.root, scratch, _STARTUP_S * (_IDLE_PATIENCE if run.idle else 1.0))


def check_patients(draft: Path, films: FilmSet) -> None:
    """Refuse films of patients that the draft's engine was calibrated with; nothing is known without build.json.

    Raises:
        BadDraft: patients are in both; the films that show it are named.
    """
    known = calibration_patients(draft)
    if shared := known & films.patients:
        named = [film.name for film in films.films if film.patient and patient_hash(film.patient) in shared]
        raise BadDraft(
            f"{len(shared)} patients of the gate's films were in the calibration of this draft, among them those of "
            f"{', '.join(named[:5])}: judge on other patients (`--test-split SEED` for a training folder)"
        )


def calibration_patients(draft: Path) -> frozenset[str]:
    """Give the patients that build.json says the engine was calibrated with, hashed; empty when it says none."""
    try:
        document = json.loads((draft / "build.json").read_bytes())
        return frozenset(map(str, (document.get("calibration") or {}).get("patients") or ()))
    except FileNotFoundError:
        return frozenset()
    except (ValueError, AttributeError, TypeError) as error:
        raise BadDraft(f"{draft / 'build.json'} cannot be read: {error!r}") from error


def demand(outcome: Outcome) -> None:
    """Raise GateFailed, with every limit that was not kept, unless the gate was passed."""
    if not outcome.summary.passed:
        raise GateFailed("\n".join(outcome.summary.failures))


def _judged(run: GateRun, server: GateServer, films: FilmSet, progress: Progress) -> Outcome:
    side, reference = server.sides[0], server.sides[1] if len(server.sides) > 1 else None
    golden = golden_films(run.root)
    answers = ask(server.clients[side.name], golden, side.engine, run.device)
    progress.phase("reading films", len(films.films))
    asked = server.read_all(films.films, progress.step)
    judged = judge(films, _asked(server, side, asked), _asked(server, reference, asked) if reference else None)
    progress.phase("measuring", steps(run.times))
    timed = readable(server, _contents(films, golden), _TIMED_FILMS)
    if not timed:
        raise ServeFailed(f"{' and '.join(each.title for each in server.sides)} read none of the films both")
    costs = measure(server, timed, run.times, progress.step)
    found = figures(judged, costs[side.name], costs.get(reference.name) if reference else None)
    problems = failures(judged, found, run.limits, side.engine, reference.engine if reference else None)
    now = round(time.time(), 3)
    return Outcome(
        GateSummary(side.engine, side.precision, run.device, run.target, not problems, found, problems, at=now),
        content=side.mark,
        draft=side,
        reference=reference,
        films=films,
        limits=run.limits,
        judged=judged,
        costs=costs,
        idle=run.idle,
        remarks=(*_remarks(films, reference, is_labelled=bool(judged.findings)), *judged.remarks),
        golden=answers,
    )


def _asked(server: GateServer, side: Side, answers: Mapping[str, tuple[Answer, ...]]) -> Asked:
    return Asked(server.labels(side), server.thresholds(side), answers[side.name])


def _contents(films: FilmSet, golden: Sequence[bytes]) -> Iterator[bytes]:
    """Give the files of the first films that can be loaded, then golden films."""
    for film in films.films:
        with contextlib.suppress(WetreadError, OSError):
            yield film.load()
    yield from golden


def _remarks(films: FilmSet, reference: Side | None, *, is_labelled: bool) -> tuple[str, ...]:
    remarks = []
    if films.synthetic:
        remarks.append("the films are synthetic: they prove that the draft still decides alike, not that it is right")
    if reference is None:
        remarks.append("there is no reference: differences and flips are not judged")
    if not is_labelled:
        remarks.append("the films are not labelled with both kinds: accuracy is not judged")
    return tuple(remarks)
