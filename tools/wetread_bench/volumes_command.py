"""`wetread bench volumes`."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from wetread_embedded.config import find_checkout

from wetread_bench.volumes import STEPS, VolumesPlan, bench_volumes
from wetread_bench.volumes_tables import show_volumes


def volumes(
    rounds: Annotated[int, typer.Option(min=1, help="Of each way, in turns; the spread is over rounds.")] = 5,
    step: Annotated[list[str] | None, typer.Option(help=f"Only these steps: {', '.join(STEPS)}.")] = None,
    output: Annotated[Path, typer.Option(help="Folder of the result and of what it is made with.")] = Path(
        "build/bench"
    ),
    *,
    with_monai: Annotated[
        bool, typer.Option("--with-monai", help="Install MONAI in build/monai-venv and compare with it, too.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="A short run: shows that it works, no figures.")] = False,
) -> None:
    """CT and MR series to volumes: each step and the whole against scipy, SimpleITK, torch, MONAI, scikit-image.

    One thread for all, then two, and the peak of memory. Answers that differ are errors.
    """
    if unknown := set(step or ()) - set(STEPS):
        raise typer.BadParameter(f"no such step: {', '.join(sorted(unknown))}")
    chosen = tuple(name for name in STEPS if not step or name in step)
    plan = VolumesPlan(1 if quick else rounds, 1 if quick else min(3, rounds), chosen, with_monai, quick=quick)
    console = Console(highlight=False)
    command = shlex.join(["wetread", "bench", *sys.argv[2:]])
    result = bench_volumes(
        find_checkout(), output.resolve(), plan, command,
        lambda line: console.print(line, style="dim", markup=False, soft_wrap=True),
    )  # fmt: skip
    show_volumes(result, console)
    console.print(f"written: {result.document.write(output)}")
    if result.faults:
        console.print("[bold red]answers differ: this is no result[/]")
        raise typer.Exit(1)
