"""`wetread read`: films in, a table or JSON lines out."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from wetread_client.cli import FAILED
from wetread_client.client import Client, FilmResult
from wetread_client.connect import Way  # noqa: TC001 -- as above
from wetread_client.errors import WetreadError
from wetread_client.film_files import FilmFiles, find_films

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from wetread_client.reading import Reading


def read(
    paths: Annotated[list[Path], typer.Argument(help="Files, folders or DICOMDIRs; DICOM, PNG, JPEG or TIFF films.")],
    *,
    pipeline: Annotated[str, typer.Option(help="The pipeline that reads them.")] = "chest_xray",
    url: Annotated[
        str, typer.Option(help="http://, https://, grpc:// or grpcs:// host:port.")
    ] = "http://127.0.0.1:8000",
    ca: Annotated[Path | None, typer.Option(help="PEM file of the authorities to trust.", exists=True)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line, as each is ready.")] = False,
    heatmap: Annotated[Path | None, typer.Option(help="Write a PNG of each film with its heatmap to a folder.")] = None,
    any_body_part: Annotated[bool, typer.Option("--any-body-part", help="Read whatever part a file names.")] = False,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Films under way at once.")] = 8,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for each film, retries included.")] = 30.0,
    transport: Annotated[Way, typer.Option(help="How films travel.")] = "auto",
) -> None:
    """Read films. Exits with 0 when all were read, 1 when some were not, 2 for a wrong call. Not for clinical use."""
    for path in paths:
        if not path.exists():
            raise typer.BadParameter(f"no such file or folder: {path}", param_hint="PATH")
    found = find_films(paths)
    if not found.files:
        raise typer.BadParameter(f"no films in {', '.join(map(str, paths))}", param_hint="PATH")
    try:
        client = Client(url, pipeline, transport=transport, timeout_s=timeout, ca=ca)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--url") from error
    with client:
        if trouble := _trouble(client):
            typer.echo(f"wetread: {trouble}", err=True)
            raise typer.Exit(FAILED)
        results = client.read_many(found.files, concurrency, any_body_part=any_body_part, heatmap=heatmap is not None)
        shown = _with_progress(_with_overlays(results, heatmap), len(found.files))
        failed = _print_lines(shown) if as_json else _print_table(shown, found)
    if failed:
        raise typer.Exit(FAILED)


def _trouble(client: Client) -> str | None:
    """Say once what would fail every film, None when the pipeline is ready."""
    if client.is_ready():
        return None
    if not client.is_live():
        return f"no server answers at {client.url}; start one with `wetread serve` or name another with --url"
    return f"the server at {client.url} does not serve the pipeline {client.pipeline}; `wetread doctor` tells more"


def _with_overlays(results: Iterable[FilmResult], folder: Path | None) -> Iterator[FilmResult]:
    """Pass results on; with a folder, draw each reading there first."""
    if folder is None:
        yield from results
        return
    from wetread_client.overlay import CannotDraw, OverlayFolder  # noqa: PLC0415 -- Pillow and pydicom

    overlays = OverlayFolder(folder)
    for result in results:
        if result.reading is not None:
            try:
                overlays.draw(result.file, result.reading)
            except CannotDraw as reason:
                typer.echo(f"wetread: no picture of {result.file}: {reason}", err=True)
        yield result


def _with_progress(results: Iterable[FilmResult], total: int) -> Iterator[FilmResult]:
    """Pass results on; beside them a bar on a terminal, where it cannot mix with their lines."""
    console = Console(stderr=True)
    if not console.is_terminal or total == 1:
        yield from results
        return
    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        yield from progress.track(results, total=total)


def error_of(result: FilmResult) -> tuple[str, str]:
    """Give code and message of a failed film; for a file that cannot be opened the error's name."""
    if isinstance(result.error, WetreadError):
        return result.error.code, result.error.message
    assert result.error is not None
    return type(result.error).__name__, result.error.strerror or str(result.error)


def json_line(result: FilmResult) -> str:
    """Give one result as the line that `--json` prints; probabilities are those of the answer, unrounded."""
    reading = result.reading
    if reading is None:
        code, message = error_of(result)
        return json.dumps({"file": str(result.file), "error": {"code": code, "message": message}})
    findings = [{"label": f.label, "probability": f.probability, "positive": f.positive} for f in reading.findings]
    document = {
        "file": str(result.file),
        "pipeline": reading.pipeline,
        "release": reading.release,
        "findings": findings,
        "novelty": reading.novelty,
        "ms": round(reading.ms, 2),
    }
    return json.dumps(document)


def _print_lines(results: Iterable[FilmResult]) -> int:
    """Print results as JSON lines, each as it comes; gives how many failed."""
    failed = 0
    for result in results:
        failed += result.reading is None
        typer.echo(json_line(result))
        sys.stdout.flush()
    return failed


def _print_table(results: Iterable[FilmResult], found: FilmFiles) -> int:
    """Print results as tables in the order of the files; gives how many failed."""
    by_file = {result.file: result for result in results}
    ordered = [by_file[file] for file in found.files]
    readings = [(result.file, result.reading) for result in ordered if result.reading is not None]
    failures = [result for result in ordered if result.reading is None]
    root = _common_folder(found.files)
    console = Console()
    if readings:
        console.print(_readings_table(readings, root))
    if failures:
        table = Table(title=f"Not read in {_shown(str(root))}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("file", overflow="fold")
        table.add_column("code", no_wrap=True)
        table.add_column("reason")
        for result in failures:
            table.add_row(_within(result.file, root), *map(_shown, error_of(result)))
        console.print(table)
    skipped = f", {found.skipped} other files skipped" if found.skipped else ""
    console.print(f"{len(readings)} read, {len(failures)} not{skipped}. Not for clinical use.", highlight=False)
    return len(failures)


def _readings_table(readings: list[tuple[Path, Reading]], root: Path) -> Table:
    table = Table(title=f"Read in {_shown(str(root))}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("file", overflow="fold")
    table.add_column("finding")
    table.add_column("probability", justify="right")
    table.add_column("positive")
    table.add_column("novelty", justify="right")
    table.add_column("release", justify="right")
    table.add_column("ms", justify="right")
    for file, reading in readings:
        novelty = "-" if reading.novelty is None else f"{reading.novelty:.2f}"
        unlike = "\n[yellow]unlike training films[/]" if reading.is_unlike_training else ""
        for finding in reading.findings:
            table.add_row(
                _within(file, root),
                _shown(finding.label),
                f"{finding.probability:.3f}",
                "[bold red]yes[/]" if finding.positive else "no",
                f"{novelty}{unlike}",
                str(reading.release),
                f"{reading.ms:.1f}",
            )
    return table


def _common_folder(files: Sequence[Path]) -> Path:
    """Give the deepest folder that holds all files, so that the table need not repeat it."""
    return Path(os.path.commonpath([file.absolute().parent for file in files]))


def _within(file: Path, root: Path) -> str:
    return _shown(str(file.absolute().relative_to(root)))


def _shown(text: str) -> str:
    """Make text safe for the terminal: names and reasons may quote a hostile file, escape sequences and all."""
    return escape("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text))
