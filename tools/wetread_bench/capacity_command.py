"""`wetread bench capacity`."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from wetread_embedded.config import find_checkout
from wetread_release.errors import ReleaseError

from wetread_bench.capacity import PRECISIONS, CapacityPlan, bench_capacity
from wetread_bench.document import Document


def capacity(
    seconds: Annotated[float, typer.Option(min=0.5, help="Length of each concurrency's measurement.")] = 6.0,
    poisson: Annotated[float, typer.Option(min=2.0, help="Seconds of each run with arrivals at random.")] = 75.0,
    slots: Annotated[int, typer.Option(min=1, max=16, help="Films that a reader has under way at once.")] = 4,
    precision: Annotated[list[str] | None, typer.Option(help=f"Only these: {', '.join(PRECISIONS)}.")] = None,
    output: Annotated[Path, typer.Option(help="Folder of the result and of what it is made with.")] = Path(
        "build/bench"
    ),
    *,
    quick: Annotated[bool, typer.Option("--quick", help="A short run: shows that it works, no figures.")] = False,
) -> None:
    """What one core reads: films/s and latency by concurrency, under arrivals at random, and the model of it."""
    console = Console()
    chosen = tuple(name for name in PRECISIONS if not precision or name in precision)
    if unknown := set(precision or ()) - set(PRECISIONS):
        raise typer.BadParameter(f"no such precision: {', '.join(sorted(unknown))}")
    plan = CapacityPlan(seconds, poisson_s=poisson, slots=slots, precisions=chosen)
    if quick:
        plan = CapacityPlan(min(seconds, 1.5), 0.5, 1, min(poisson, 8.0), 4.0, slots, 4, chosen, quick=True)
    command = shlex.join(["wetread", "bench", *sys.argv[2:]])
    try:
        result = bench_capacity(
            find_checkout(), output.resolve(), plan, command, lambda line: console.print(line, style="dim")
        )
    except ReleaseError as error:
        Console(stderr=True).print(f"wetread bench capacity: {error}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    show(result, console)
    console.print(f"written: {result.write(output)}")


def show(result: Document, console: Console) -> None:
    """Print a result."""
    table = Table("pipeline", "at once", title="one core: films/s and ms")
    for title in ("films/s", "p50", "p95", "p99"):
        table.add_column(title, justify="right")
    pipelines = result.measurements["pipelines"]
    assert isinstance(pipelines, list)
    for each in pipelines:
        name = f"{each['pipeline']} {each['precision']}"
        for level in each["levels"]:
            numbers = (f"{level[key]:.1f}" for key in ("films_per_s", "p50_ms", "p95_ms", "p99_ms"))
            table.add_row(name, str(level["concurrency"]), *numbers)
        for run in each["poisson"]:
            numbers = (f"{run[key]:.1f}" for key in ("films_per_s", "p50_ms", "p99_ms"))
            rate, p50, p99 = numbers
            table.add_row(name, f"at random, {run['load']:.0%}", rate, p50, "", p99)
    console.print(table)
    for name, value in result.figures.items():
        console.print(f"{name:>40} {value:.4g}", highlight=False)
    for remark in result.remarks:
        console.print(f"note: {remark}", highlight=False)
