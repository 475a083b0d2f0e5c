"""`wetread bench chaos`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from wetread_embedded.config import find_checkout

from wetread_bench.chaos import FULL_INSTANCES, FULL_KILLS, ChaosPlan, bench_chaos
from wetread_bench.orthanc import missing


def chaos(
    instances: Annotated[int, typer.Option(min=20, help="Films to send.")] = FULL_INSTANCES,
    kills: Annotated[int, typer.Option(min=0, help="Processes to kill with signal 9 meanwhile.")] = FULL_KILLS,
    seed: Annotated[int, typer.Option(help="The same seed: the same films, faults and moments.")] = 9,
    senders: Annotated[int, typer.Option(min=1, help="Modalities that send at once.")] = 4,
    output: Annotated[Path, typer.Option(help="Folder of the result.")] = Path("build/bench"),
) -> None:
    """Films, kill -9, a PACS that is down and a full disk: is anything that got Success lost, or made twice?"""
    console = Console(highlight=False)
    if absent := missing("Orthanc", "storescu"):
        console.print(f"wetread bench chaos: {absent}")
        raise typer.Exit(1)
    command = shlex.join(["wetread", "bench", *sys.argv[2:]])
    plan = ChaosPlan(instances, kills, seed, senders)
    result = bench_chaos(find_checkout(), plan, command, lambda line: console.print(line, style="dim", markup=False))
    for name, number in result.document.figures.items():
        console.print(f"{number:>9,} {name}")
    for name, value in result.document.measurements.items():
        console.print(f"{name}: {value}", style="dim", markup=False)
    console.print(f"written: {result.document.write(output)}")
    if not result.is_right:
        console.print("[bold red]Something was lost, made twice, or given up though it was readable.[/]")
        raise typer.Exit(1)
