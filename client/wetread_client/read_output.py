"""Readings for the terminal: tables, or one JSON object a line."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from wetread_client.errors import WetreadError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from wetread_client.read_run import Outcome, Plan
    from wetread_client.reading import Reading
    from wetread_client.sorting import Work


def error_of(error: WetreadError | OSError | None) -> tuple[str, str]:
    """Give code and message of a failure; for a file that cannot be opened the error's name."""
    if isinstance(error, WetreadError):
        return error.code, error.message
    assert error is not None
    return type(error).__name__, error.strerror or str(error)


def json_line(outcome: Outcome) -> str:
    """Give one outcome as the line that `--json` prints; probabilities are those of the answer, unrounded."""
    reading = outcome.reading
    document: dict[str, Any] = {"file": str(outcome.plan.work.files[0])}
    if outcome.plan.work.is_series:
        document = _series_named(outcome.plan)
    if reading is None:
        code, message = error_of(outcome.error)
        at_fault = _file_at_fault(outcome)
        document["error"] = {"code": code, "message": message} | ({"file": str(at_fault)} if at_fault else {})
        return json.dumps(document)
    document |= {
        "pipeline": reading.pipeline,
        "release": reading.release,
        "findings": [
            {"label": f.label, "probability": f.probability, "positive": f.positive} for f in reading.findings
        ],
        "novelty": reading.novelty,
    }
    if outcome.plan.work.is_series:
        document |= _series_details(outcome, reading)
    return json.dumps(document | {"ms": round(reading.ms, 2)})


def _series_named(plan: Plan) -> dict[str, Any]:
    """Say which series it is; its folder and number do, without a UID."""
    work = plan.work
    return {"folder": str(work.folder), "series": work.number, "files": len(work.files), "why": plan.choice.why}


def _series_details(outcome: Outcome, reading: Reading) -> dict[str, Any]:
    files = outcome.plan.work.files
    segments = zip(reading.segments, reading.segment_ml, strict=False)
    details: dict[str, Any] = {
        "segments": [{"label": segment.label, "ml": round(ml, 3)} for segment, ml in segments],
        "warnings": list(reading.notes.warnings),
        "left_out": [
            {"file": str(files[one.file - 1]) if 0 < one.file <= len(files) else None, "why": one.why}
            for one in reading.notes.left_out
        ],
    }
    return details | ({"segmentation": str(outcome.segmentation)} if outcome.segmentation else {})


def print_choices(console: Console, plans: Sequence[Plan]) -> None:
    """Say which pipelines were chosen and why, where there is more to choose than films'."""
    if not any(plan.work.is_series for plan in plans):
        return
    counts = Counter((plan.choice.why, plan.work.is_series) for plan in plans if plan.choice.pipeline)
    for (why, is_series), count in counts.items():
        kind = "series" if is_series else "film" if count == 1 else "films"
        console.print(f"{shown(why)} ({count} {kind})", highlight=False)


def print_tables(console: Console, outcomes: Sequence[Outcome], skipped: int) -> None:
    """Print readings and failures, in the order of `outcomes`."""
    root = _common_folder([file for outcome in outcomes for file in outcome.plan.work.files])
    films = [one for one in outcomes if one.reading is not None and not one.plan.work.is_series]
    series = [one for one in outcomes if one.reading is not None and one.plan.work.is_series]
    failures = [one for one in outcomes if one.reading is None]
    if films:
        console.print(_films_table(films, root))
    if series:
        console.print(_series_table(series, root))
        for outcome in series:
            for line in _remarks(outcome):
                console.print(f"{_name(outcome.plan.work, root)}: {shown(line)}", highlight=False)
    if failures:
        console.print(_failures_table(failures, root))
    other = f", {skipped} other files skipped" if skipped else ""
    read = len(films) + len(series)
    console.print(f"{read} read, {len(failures)} not{other}. Not for clinical use.", highlight=False)


def shown(text: str) -> str:
    """Make text safe for the terminal: names and reasons may quote a hostile file, escape sequences and all."""
    return escape("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text))


def _films_table(films: Sequence[Outcome], root: Path) -> Table:
    table = _table(f"Read in {shown(str(root))}")
    table.add_column("file", overflow="fold")
    table.add_column("finding")
    table.add_column("probability", justify="right")
    table.add_column("positive")
    table.add_column("novelty", justify="right")
    table.add_column("release", justify="right")
    table.add_column("ms", justify="right")
    for outcome in films:
        reading = outcome.reading
        assert reading is not None
        for label, probability, positive in _findings(reading):
            table.add_row(
                _name(outcome.plan.work, root), label, probability, positive, _novelty(reading), str(reading.release),
                f"{reading.ms:.1f}",
            )  # fmt: skip
    return table


def _series_table(series: Sequence[Outcome], root: Path) -> Table:
    table = _table(f"Series read in {shown(str(root))}")
    table.add_column("series", overflow="fold")
    table.add_column("pipeline")
    table.add_column("finding or segment")
    table.add_column("probability or ml", justify="right")
    table.add_column("positive")
    table.add_column("novelty", justify="right")
    table.add_column("release", justify="right")
    table.add_column("ms", justify="right")
    for outcome in series:
        reading = outcome.reading
        assert reading is not None
        rows = [*_findings(reading)]
        for segment, ml in zip(reading.segments, reading.segment_ml, strict=False):
            rows.append((shown(segment.label), f"{ml:.1f} ml", "-"))
        for label, value, positive in rows or [("-", "-", "-")]:
            table.add_row(
                _name(outcome.plan.work, root), shown(reading.pipeline), label, value, positive, _novelty(reading),
                str(reading.release), f"{reading.ms:.0f}",
            )  # fmt: skip
    return table


def _failures_table(failures: Sequence[Outcome], root: Path) -> Table:
    table = _table(f"Not read in {shown(str(root))}")
    table.add_column("file", overflow="fold")
    table.add_column("code", no_wrap=True)
    table.add_column("reason")
    for outcome in failures:
        code, message = error_of(outcome.error)
        at_fault = _file_at_fault(outcome)
        name = _name(outcome.plan.work, root) if at_fault is None else _within(at_fault, root)
        table.add_row(name, shown(code), shown(message))
    return table


def _remarks(outcome: Outcome) -> Iterator[str]:
    assert outcome.reading is not None
    notes = outcome.reading.notes
    yield from notes.warnings
    for why, count in Counter(one.why for one in notes.left_out).items():
        yield f"{count} left out: {why}"
    if outcome.segmentation:
        yield f"segmentation in {outcome.segmentation}"


def _findings(reading: Reading) -> Iterator[tuple[str, str, str]]:
    for finding in reading.findings:
        positive = "[bold red]yes[/]" if finding.positive else "no"
        yield shown(finding.label), f"{finding.probability:.3f}", positive


def _novelty(reading: Reading) -> str:
    unlike = "\n[yellow]unlike training films[/]" if reading.is_unlike_training else ""
    return "-" if reading.novelty is None else f"{reading.novelty:.2f}{unlike}"


def _file_at_fault(outcome: Outcome) -> Path | None:
    """Give the one file of a series that its error is about."""
    files = outcome.plan.work.files
    name = outcome.error.file if isinstance(outcome.error, WetreadError) else getattr(outcome.error, "filename", None)
    if not outcome.plan.work.is_series or name is None:
        return None
    return Path(name) if Path(name) in files else None


def _name(work: Work, root: Path) -> str:
    if not work.is_series:
        return _within(work.files[0], root)
    folder = os.path.relpath(work.folder.absolute(), root)
    number = "" if work.number is None else f" series {work.number}"
    return shown(f"{root.name if folder == '.' else folder}{number} ({len(work.files)} files)")


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)


def _common_folder(files: Sequence[Path]) -> Path:
    """Give the deepest folder that holds all files, so that the table need not repeat it."""
    return Path(os.path.commonpath([file.absolute().parent for file in files]))


def _within(file: Path, root: Path) -> str:
    return shown(str(file.absolute().relative_to(root)))
