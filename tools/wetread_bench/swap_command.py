"""`wetread bench swap`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from wetread_embedded.config import find_checkout

from wetread_bench.swap import FULL_CYCLES, SwapPlan, bench_swap

QUICK = SwapPlan(cycles=5, films=4, capacity_s=2.0, quiet_s=1.0, memory_samples=1)


def swap(
    cycles: Annotated[
        int, typer.Option(min=2, help="Releases to publish; 8 of 20 are broken, the others are promoted, rolled back.")
    ] = FULL_CYCLES,
    seconds: Annotated[
        float, typer.Option(min=0.2, help="Of the quiet window before each publish and each promote.")
    ] = SwapPlan.quiet_s,
    output: Annotated[Path, typer.Option(help="Folder of the result and of what it is made with.")] = Path(
        "build/bench"
    ),
    *,
    quick: Annotated[bool, typer.Option("--quick", help="A short run: shows that it works, no figures.")] = False,
) -> None:
    """Publish, promote and roll back under constant load: does a request fail, does an answer belong to no release?"""
    console = Console(highlight=False)
    plan = QUICK if quick else SwapPlan(cycles=cycles, quiet_s=seconds)
    command = shlex.join(["wetread", "bench", *sys.argv[2:]])
    result = bench_swap(
        find_checkout(),
        output.resolve(),
        plan,
        command,
        lambda line: console.print(line, style="dim", markup=False, soft_wrap=True),
    )
    for kind, ways in result.document.measurements["latency_ms"].items():  # type: ignore[attr-defined]
        told = "  ".join(f"{way} p50 {ms['p50_ms']:.1f} p99 {ms['p99_ms']:.1f}" for way, ms in ways.items())
        console.print(f"{kind:>14}: {told} ms", markup=False)
    for name, number in result.document.figures.items():
        console.print(f"{number:>10,} {name}")
    for fault in result.faults:
        console.print(fault, style="red", markup=False, soft_wrap=True)
    console.print(f"written: {result.document.write(output)}")
    if not result.is_right:
        console.print("[bold red]A request failed, an answer belongs to no release, or a step went wrong.[/]")
        raise typer.Exit(1)
