"""`wetread bench intake`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from wetread_embedded.config import find_checkout

from wetread_bench.intake import FULL_SECONDS, PROBE_RATES, IntakePlan, bench_intake, intake_document
from wetread_bench.orthanc import missing


def intake(
    seconds: Annotated[float, typer.Option(min=2.0, help="Length of each main measurement.")] = FULL_SECONDS,
    stat_seconds: Annotated[float, typer.Option(min=0.0, help="Of the STAT measurement; 0: none.")] = 60.0,
    rate: Annotated[float, typer.Option(min=1.0, help="Films a second of the sustained trip.")] = 25.0,
    output: Annotated[Path, typer.Option(help="Folder of the result and of what it is made with.")] = Path(
        "build/bench"
    ),
) -> None:
    """The door and the whole trip: durable instances a second, a film's way to its report, films a second."""
    console = Console(highlight=False)
    if absent := missing("Orthanc", "storescu"):
        console.print(f"wetread bench intake: {absent}")
        raise typer.Exit(1)
    command = shlex.join(["wetread", "bench", *sys.argv[2:]])
    probes = tuple(sorted({rate, *PROBE_RATES}))
    plan = IntakePlan(seconds, min(20.0, seconds), stat_seconds, min(10.0, seconds), 5.0, rate, probes)
    checkout = find_checkout()
    result = bench_intake(checkout, output.resolve(), plan, lambda line: console.print(line, style="dim", markup=False))
    document = intake_document(checkout, plan, result, command)
    table = Table("figure", title="intake")
    table.add_column("value", justify="right")
    for name, value in document.figures.items():
        table.add_row(name, f"{value:,.2f}")
    console.print(_where_the_time_goes(result.sustained.accounts))
    console.print(table)
    console.print(f"written: {document.write(output)}")
    if not result.is_whole:
        console.print("[bold red]Not every film came back.[/]")
        raise typer.Exit(1)


def _where_the_time_goes(accounts: dict[str, object]) -> Table:
    table = Table("process", title="the sustained trip: CPU ms a film")
    for title in ("user", "kernel"):
        table.add_column(title, justify="right")
    cpu = accounts["cpu_ms_per_film"]
    assert isinstance(cpu, dict)
    for name, use in cpu.items():
        table.add_row(name, f"{use['user_ms']:.2f}", f"{use['system_ms']:.2f}")
    table.add_row("all of them", f"{accounts['cpu_ms_per_film_all']}", "")
    return table
