"""`wetread release gate`."""

import os
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from wetread_release.command_options import (
    FAILED,
    USAGE,
    KeysFolder,
    RegistryUrl,
    RolloutsUrl,
    StateDir,
    console,
    fail,
    open_site,
    say,
    told,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wetread_release.gate.films import FilmSet
    from wetread_release.gate.record import Outcome
    from wetread_release.gate.run import GateRun
    from wetread_release.release_site import Site

_SHOWN = ("flips_percent", "auc", "auc_drop", "sensitivity", "specificity", "mean_difference", "p50_ms", "p99_ms")
_COSTS = ("network_speedup", "rate_ratio", "latency_ratio", "memory_ratio")


def gate(
    draft: Annotated[Path, typer.Argument(help="Folder of the draft, as `build` and `new` leave it.")],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of DICOM films or pictures; folders in it named as findings label them. Default: synthetic "
            "films, which prove that the draft decides alike, not that it is right.",
            show_default=False,
        ),
    ] = None,
    limits: Annotated[
        Path | None, typer.Option(help="TOML file of limits, those that are not the default.", show_default=False)
    ] = None,
    reference: Annotated[
        str,
        typer.Option(
            help="`checkout`, `none` or a release's number. Default: the stable release, else the checkout's.",
            show_default=False,
        ),
    ] = "",
    report: Annotated[
        Path | None,
        typer.Option(
            help="The HTML report; it shows the pixels of films that flipped. Default: gate/report.html of the draft, "
            "which is published with it.",
            show_default=False,
        ),
    ] = None,
    *,
    test_split: Annotated[
        int | None,
        typer.Option(
            help="--data is a training folder: only the films of patients that a training with this split seed kept "
            "for its test.",
            show_default=False,
        ),
    ] = None,
    max_films: Annotated[int, typer.Option(min=1, help="Choose so many of the films, the same each time.")] = 5000,
    times: Annotated[int, typer.Option(min=4, help="Films by which each latency is measured.")] = 60,
    full_speed: Annotated[
        bool,
        typer.Option("--full-speed", help="Not at idle priority: only where no patients are read on this machine."),
    ] = False,
    lay_out: Annotated[
        Path | None,
        typer.Option(
            help="Only write model_repository/ and ensembles/ of both sides into this folder, for a Triton of this "
            "machine that an embedded one cannot stand for, such as one with a GPU; then ask it with --url.",
            show_default=False,
        ),
    ] = None,
    url: Annotated[
        str, typer.Option(help="HTTP address of a Triton on this machine that serves what --lay-out wrote.")
    ] = "",
    state_dir: StateDir = None,
    registry: RegistryUrl = "",
    rollouts: RolloutsUrl = "",
    keys: KeysFolder = None,
) -> None:
    """Serve a draft beside its reference, let both read the same films, and hold the differences against limits.

    Records are kept in the draft, one for each engine and device; the draft and its reference are compared on this
    machine and in this run alone. Ends with 1, naming limits and films, when the gate is not passed.
    """
    if test_split is not None and data is None:
        fail("gate", "--test-split chooses among the films of --data: name that folder, too", USAGE)
    if lay_out is not None and url:
        fail("gate", "--lay-out comes first, then a Triton that serves it, then --url without --lay-out", USAGE)
    if not full_speed:
        go_idle()
    with told("gate"):
        from wetread_release.gate.limits import Limits  # noqa: PLC0415 - --help does without
        from wetread_release.gate.run import GateRun, run_gate  # noqa: PLC0415

        site = open_site(state_dir, registry, rollouts, keys)
        if site.checkout is None:
            fail("gate", "no model_repository/ and ensembles/ here or above: run inside a checkout of wetread")
        chosen = Limits() if limits is None else Limits.load(limits)
        films = None if lay_out else _films(data, test_split, max_films)
        idle = not full_speed and not url
        run = GateRun(
            draft, site.checkout, chosen, films, reference, times, idle, report, is_for_url=lay_out is not None, url=url
        )
        if lay_out is not None:
            _write(run, site, lay_out)
            return
        with _shown() as progress:
            outcome = run_gate(run, site, progress)
    _tell(outcome, report or draft / "gate" / "report.html")


def _write(run: "GateRun", site: "Site", folder: Path) -> None:
    from wetread_release.gate.run import lay_out  # noqa: PLC0415 - as above

    sides = lay_out(run, site, folder)
    names = " and ".join(side.ensemble for side in sides)
    typer.echo(f"{folder}: serve both repositories with Triton, load {names}, then: wetread release gate --url")


def _films(data: Path | None, test_split: int | None, max_films: int) -> "FilmSet | None":
    from wetread_release.gate.films import films_in, films_of_test_patients  # noqa: PLC0415 - as above

    if data is None:
        return None
    films = films_in(data) if test_split is None else films_of_test_patients(data, test_split)
    return films.at_most(max_films)


def go_idle() -> None:
    """Run only when nobody else wants the CPU; the server inherits it, and its models' processes do."""
    with suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _tell(outcome: "Outcome", report: Path) -> None:
    """Print figures on stdout, remarks and failures on stderr; end with 1 when the gate is not passed."""
    figures = outcome.summary.figures
    against = outcome.reference.title if outcome.reference else "no reference"
    typer.echo(f"{outcome.draft.pipeline}: {outcome.judged.read} films ({outcome.films.where}) against {against}")
    for names in (_SHOWN, _COSTS):
        line = ", ".join(f"{name} {figures[name]:.4g}" for name in names if name in figures)
        if line:
            typer.echo(f"  {line}")
    for remark in outcome.remarks:
        say(f"wetread release gate: {remark}")
    if not outcome.summary.passed:
        for failure in outcome.summary.failures:
            say(f"wetread release gate: {failure}")
        fail("gate", f"FAILED on {outcome.summary.device}; the films stand in {report}", FAILED)
    typer.echo(f"passed on {outcome.summary.device}; the report: {report}")


class _Bar:
    """A progress bar of one phase at a time."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("starting", total=None)
        self._lock = threading.Lock()

    def phase(self, name: str, total: int) -> None:
        """Begin a phase."""
        self._bar.reset(self._task, description=name, total=total or None)

    def step(self) -> None:
        """One step is done."""
        with self._lock:
            self._bar.advance(self._task)


@contextmanager
def _shown() -> "Iterator[_Bar]":
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield _Bar(bar)
