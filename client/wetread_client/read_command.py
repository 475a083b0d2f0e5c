"""`wetread read`: films and series in, tables or JSON lines out."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path  # noqa: TC003 -- typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from wetread_client.cli import FAILED
from wetread_client.client import Client
from wetread_client.connect import Way, connect
from wetread_client.film_files import find_films
from wetread_client.read_output import json_line, print_choices, print_tables
from wetread_client.read_run import FILM_S, SERIES_S, Outcome, Reader, ReadOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from wetread_client.read_run import Plan


def read(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Files, folders or DICOMDIRs: DICOM, PNG, JPEG or TIFF films, and CT or MR series."),
    ],
    *,
    pipeline: Annotated[
        str | None, typer.Option(help="The pipeline that reads them; else each by its modality and body part.")
    ] = None,
    url: Annotated[
        str, typer.Option(help="http://, https://, grpc:// or grpcs:// host:port.")
    ] = "http://127.0.0.1:8000",
    ca: Annotated[Path | None, typer.Option(help="PEM file of the authorities to trust.", exists=True)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line, as each is ready.")] = False,
    heatmap: Annotated[Path | None, typer.Option(help="Write a PNG of each film with its heatmap to a folder.")] = None,
    segmentation: Annotated[
        Path | None, typer.Option(help="Write the segmentation of each series to a folder, as NIfTI.")
    ] = None,
    any_body_part: Annotated[bool, typer.Option("--any-body-part", help="Read whatever part a file names.")] = False,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Films under way at once.")] = 8,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Seconds for each film or series, retries included.",
            show_default=f"{FILM_S:g} for a film, {SERIES_S:g} for a series",
        ),
    ] = None,
    transport: Annotated[Way, typer.Option(help="How films and series travel.")] = "auto",
) -> None:
    """Read films and series. A film is a file; the files of a series are found by their headers, in whatever folders.
    Exits with 0 when all were read, 1 when some were not, 2 for a wrong call. Not for clinical use."""
    for path in paths:
        if not path.exists():
            raise typer.BadParameter(f"no such file or folder: {path}", param_hint="PATH")
    found = find_films(paths)
    if not found.files:
        raise typer.BadParameter(f"no films in {', '.join(map(str, paths))}", param_hint="PATH")
    try:
        connect(url, transport, ca).close()
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--url") from error
    options = ReadOptions(concurrency, any_body_part, heatmap is not None, timeout)
    with Reader(lambda name: Client(url, name, transport=transport, ca=ca), options) as reader:
        plans, looked_at = reader.plan(found.files, frozenset(paths), pipeline)
        if not plans:
            raise typer.BadParameter(f"no films in {', '.join(map(str, paths))}", param_hint="PATH")
        if trouble := reader.trouble(plans):
            typer.echo(f"wetread: {trouble}", err=True)
            raise typer.Exit(FAILED)
        if not as_json:
            print_choices(Console(), plans)
        outcomes = _with_segmentations(_with_overlays(reader.read(plans), heatmap), segmentation, plans)
        shown = _with_progress(outcomes, len(plans))
        failed = _print_lines(shown) if as_json else _print_tables(shown, plans, found.skipped + looked_at.skipped)
    if failed:
        raise typer.Exit(FAILED)


def _with_overlays(outcomes: Iterable[Outcome], folder: Path | None) -> Iterator[Outcome]:
    """Pass outcomes on; with a folder, draw each film's reading there first."""
    if folder is None:
        yield from outcomes
        return
    from wetread_client.overlay import CannotDraw, OverlayFolder  # noqa: PLC0415 -- Pillow and pydicom

    overlays = OverlayFolder(folder)
    for outcome in outcomes:
        work = outcome.plan.work
        if outcome.reading is not None and not work.is_series:
            try:
                overlays.draw(work.files[0], outcome.reading)
            except CannotDraw as reason:
                typer.echo(f"wetread: no picture of {work.files[0]}: {reason}", err=True)
        yield outcome


def _with_segmentations(outcomes: Iterable[Outcome], folder: Path | None, plans: Sequence[Plan]) -> Iterator[Outcome]:
    """Pass outcomes on; with a folder, write each series' segmentation there first."""
    if folder is None:
        yield from outcomes
        return
    from wetread_client.nifti import SegmentationFolder, is_even  # noqa: PLC0415 -- only here

    segmentations = SegmentationFolder(folder, [plan.work for plan in plans if plan.work.is_series])
    for outcome in outcomes:
        reading, work = outcome.reading, outcome.plan.work
        file = None if reading is None or not work.is_series else segmentations.write(work, reading)
        if reading is not None and file and reading.notes.series and not is_even(reading.notes.series):
            reason = "its slices lie at uneven distances, NIfTI has one matrix for all: between the ends it is off"
            typer.echo(f"wetread: {file}: {reason}", err=True)
        yield replace(outcome, segmentation=file)


def _with_progress(outcomes: Iterable[Outcome], total: int) -> Iterator[Outcome]:
    """Pass outcomes on; beside them a bar on a terminal, where it cannot mix with their lines."""
    console = Console(stderr=True)
    if not console.is_terminal or total == 1:
        yield from outcomes
        return
    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        yield from progress.track(outcomes, total=total)


def _print_lines(outcomes: Iterable[Outcome]) -> int:
    """Print outcomes as JSON lines, each as it comes; gives how many failed."""
    failed = 0
    for outcome in outcomes:
        failed += outcome.reading is None
        typer.echo(json_line(outcome))
        sys.stdout.flush()
    return failed


def _print_tables(outcomes: Iterable[Outcome], plans: Sequence[Plan], skipped: int) -> int:
    """Print outcomes as tables in the order of the plans; gives how many failed."""
    by_work = {outcome.plan.work: outcome for outcome in outcomes}
    ordered = [by_work[plan.work] for plan in plans]
    print_tables(Console(), ordered, skipped)
    return sum(outcome.reading is None for outcome in ordered)
