"""What `wetread preprocess` shows: progress on a terminal, warnings, the list of series."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from wetread_preprocess.volumes.on_disk import Found
from wetread_preprocess.volumes.stack import LeftOut

_PLACE = re.compile(r"\bfile (\d+)\b")
_MOST_NAMED = 3


class Screen:
    """Results on the standard output, all else on the standard error."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._console = Console(stderr=True)

    def result(self, text: str) -> None:
        """Say what was written."""
        if not self._quiet:
            typer.echo(text)

    def warn(self, text: str) -> None:
        """Say what is doubtful and went on."""
        if not self._quiet:
            typer.echo(f"wetread: warning: {_safe(text)}", err=True)

    def fail(self, text: str) -> None:
        """Say why there is no result."""
        typer.echo(f"wetread: {_safe(text)}", err=True)

    def left_out(self, left_out: Sequence[LeftOut], files: Sequence[Path]) -> None:
        """Say which files are no part of the volume, by reason."""
        for why, count in Counter(one.why for one in left_out).items():
            places = [one.source for one in left_out if one.why == why]
            names = ", ".join(str(files[place - 1]) for place in places[:_MOST_NAMED])
            more = f" and {count - _MOST_NAMED} more" if count > _MOST_NAMED else ""
            self.warn(f"left out, {why}: {names}{more}")

    @contextmanager
    def counting(self, what: str, total: int) -> Iterator[Callable[[], None]]:
        """Show a bar on a terminal while files are gone through; gives what is called after each."""
        columns = (TextColumn(what), BarColumn(), MofNCompleteColumn())
        hidden = self._quiet or not self._console.is_terminal
        with Progress(*columns, console=self._console, transient=True, disable=hidden) as progress:
            task = progress.add_task(what, total=total)
            yield lambda: progress.advance(task)

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Show on a terminal what is under way."""
        columns = (SpinnerColumn(), TextColumn(what))
        hidden = self._quiet or not self._console.is_terminal
        with Progress(*columns, console=self._console, transient=True, disable=hidden) as progress:
            progress.add_task(what, total=None)
            yield

    def show_series(self, found: Found) -> None:
        """Print what there is, the series that would be taken first on top."""
        for number, one in enumerate(found.series, 1):
            kind = "localiser" if one.is_localiser else "derived" if one.is_derived else ""
            facts = [one.modality or "no modality", one.body_part, kind, f"{one.images} image{'s' * (one.images != 1)}"]
            facts += [f"{one.rows} x {one.columns}"] if one.images else []
            facts += [f"{len(one.files)} files"] if len(one.files) != one.images else []
            typer.echo(f"{number}: {_safe(', '.join(filter(None, facts)))}\n   {_safe(one.uid)}")
        rest = [f"{found.skipped} other files"] if found.skipped else []
        rest += [f"{len(found.unreadable)} DICOM files whose header cannot be read"] if found.unreadable else []
        if rest:
            typer.echo(f"Besides: {', '.join(rest)}.")


def with_names(text: str, files: Sequence[Path]) -> str:
    """Add to a reason the names of the files that it counts; a person at the terminal knows them by these."""
    places = dict.fromkeys(int(place) for place in _PLACE.findall(text))
    names = [f"file {place} is {files[place - 1]}" for place in places if 0 < place <= len(files)]
    return text + (f" ({', '.join(names)})" if 0 < len(names) <= _MOST_NAMED else "")


def _safe(text: str) -> str:
    """Make text safe for a terminal: files may quote escape sequences."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
