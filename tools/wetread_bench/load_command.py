"""`wetread bench load`."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from wetread_embedded.config import find_checkout

from wetread_bench.load_bench import QUICK, LoadPlan, bench_load


def load(
    output: Annotated[Path, typer.Option(help="Folder of the result.")] = Path("build/bench"),
    *,
    quick: Annotated[bool, typer.Option("--quick", help="A short run: shows that it works, no figures.")] = False,
) -> None:
    """One core's capacity over the door, ten minutes at 80 % of it, and two minutes at three times as much."""
    console = Console()
    command = shlex.join(["wetread", "bench", *sys.argv[2:]])
    document = bench_load(
        find_checkout(),
        QUICK if quick else LoadPlan(),
        command,
        lambda line: console.print(line, style="dim", markup=False, highlight=False),
    )
    for name, value in document.figures.items():
        console.print(f"{name:>32} {value:.5g}", markup=False, highlight=False)
    for remark in document.remarks:
        console.print(remark, style="bold red", markup=False)
    console.print(f"written: {document.write(output)}")
    if document.figures["lost"]:
        raise typer.Exit(1)
