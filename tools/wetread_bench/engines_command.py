"""`wetread bench engines`."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from wetread_embedded.config import find_checkout
from wetread_models.data import data_folder
from wetread_release.errors import ReleaseError

from wetread_bench.document import Document
from wetread_bench.engines import BATCHES, PRECISIONS, EnginesPlan, bench_engines


def engines(
    repeats: Annotated[int, typer.Option(min=3, help="Runs of each file, engine and batch, in turns.")] = 30,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with NORMAL and PNEUMONIA. Default: chest_xray in WETREAD_DATA.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the training's split by patients.")] = 0,
    output: Annotated[Path, typer.Option(help="Folder of the result and of what it is made with.")] = Path(
        "build/bench"
    ),
    *,
    quick: Annotated[bool, typer.Option("--quick", help="A short run: shows that it works, no figures.")] = False,
) -> None:
    """The shipped classifier in FP32, FP16 and INT8: batches 1, 8, 32 on every engine here, alone and in Triton.

    Without real films, synthetic ones calibrate INT8 and are compared, and the result says so. What this machine has
    no device for is marked as not run.
    """
    console = Console()
    folder = data or data_folder() / "chest_xray"
    plan = EnginesPlan(
        3 if quick else repeats, 8 if quick else 60, folder if folder.is_dir() else None, seed, quick=quick
    )
    command = shlex.join(["wetread", "bench", *sys.argv[2:]])
    try:
        result = bench_engines(
            find_checkout(), output.resolve(), plan, command, lambda line: console.print(line, style="dim")
        )
    except ReleaseError as error:
        Console(stderr=True).print(f"wetread bench engines: {error}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    _show(result, console)
    console.print(f"written: {result.write(output)}")


def _show(result: Document, console: Console) -> None:
    table = Table("engine", "batch", *PRECISIONS, title="milliseconds a batch, one thread, medians")
    rows = result.measurements["engines"]
    assert isinstance(rows, list)
    for engine in dict.fromkeys(row["engine"] for row in rows):
        for batch in BATCHES:
            cells = {row["precision"]: row for row in rows if (row["engine"], row["batch"]) == (engine, batch)}
            table.add_row(engine, str(batch), *(_cell(cells[precision]) for precision in PRECISIONS))
    console.print(table)
    for name, value in result.figures.items():
        console.print(f"{name:>40} {value:.4g}", highlight=False)
    for remark in result.remarks:
        console.print(f"note: {remark}", highlight=False)


def _cell(row: dict[str, object]) -> str:
    ms = row.get("ms")
    return f"{ms['median']:.2f}" if isinstance(ms, dict) else "not run"
