"""`wetread bench soak`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from wetread_embedded.config import find_checkout

from wetread_bench.soak import SoakPlan
from wetread_bench.soak import soak as run_soak


def soak(
    requests: Annotated[int, typer.Option(min=100, help="Requests to send.")] = 200_000,
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="Stop after so long; the result says that it was shortened.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder of the result and of what it is made with.")] = Path(
        "build/bench"
    ),
) -> None:
    """Good and bad films over shared memory, hundreds of thousands of them: does the server's memory stay flat?"""
    console = Console()
    result = run_soak(
        find_checkout(), output.resolve(), SoakPlan(requests, minutes), lambda line: console.print(line, style="dim")
    )
    for name, count in sorted(result.outcomes.items()):
        console.print(f"{count:>9,} {name}", markup=False, highlight=False)
    console.print(result.verdict)
    console.print(f"written: {result.write(output)}")
    if result.figures["server_errors"] or result.grew:
        raise typer.Exit(1)
