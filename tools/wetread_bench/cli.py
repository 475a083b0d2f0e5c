"""`wetread bench`."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from wetread_embedded.config import find_checkout

from wetread_bench.capacity_command import capacity
from wetread_bench.chaos_command import chaos
from wetread_bench.encode import SYNTAXES
from wetread_bench.engines_command import engines
from wetread_bench.films import FilmPlan, bench_films
from wetread_bench.intake_command import intake
from wetread_bench.load_command import load
from wetread_bench.publish import NotPublishable
from wetread_bench.publish import publish as publish_result
from wetread_bench.soak_command import soak
from wetread_bench.swap_command import swap
from wetread_bench.tables import show
from wetread_bench.volumes_command import volumes

app = typer.Typer(
    help="Measure throughput and latency.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
Output = Annotated[Path, typer.Option(help="Folder of the results and of what they are made with.")]


@app.callback()
def bench() -> None:
    """Measure throughput and latency."""


@app.command()
def films(
    seconds: Annotated[float, typer.Option(min=0.2, help="Length of each measurement.")] = 6.0,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds over all measurements; the spread is over rounds.")] = 3,
    syntax: Annotated[
        list[str] | None, typer.Option(help=f"Only these transfer syntaxes: {', '.join(SYNTAXES)}.")
    ] = None,
    output: Output = Path("build/bench"),
    *,
    quick: Annotated[bool, typer.Option("--quick", help="A short run: shows that it works, no figures.")] = False,
    accounting_only: Annotated[
        bool, typer.Option("--accounting-only", help="Only where the time goes: the limit and shared memory.")
    ] = False,
) -> None:
    """Films of five transfer syntaxes: served, in process without a server, and by a plain stack."""
    chosen = tuple(name for name in SYNTAXES if not syntax or name in syntax)
    if unknown := set(syntax or ()) - set(SYNTAXES):
        raise typer.BadParameter(f"no such syntax: {', '.join(sorted(unknown))}")
    if quick:
        seconds, repeats = min(seconds, 1.0), 1
    plan = FilmPlan(seconds, min(1.0, seconds / 2), repeats, chosen, accounting_only=accounting_only, quick=quick)
    console = Console()
    command = shlex.join(["wetread", "bench", *sys.argv[2:]])
    result = bench_films(
        find_checkout(), output.resolve(), plan, command, lambda line: console.print(line, style="dim")
    )
    show(result, console)
    console.print(f"written: {result.write(output)}")
    if result.errors:
        console.print("[bold red]requests failed: this is no result[/]")
        raise typer.Exit(1)


@app.command()
def publish(
    name: Annotated[str, typer.Argument(help="The benchmark, e.g. films.")], output: Output = Path("build/bench")
) -> None:
    """Copy a result to docs/benchmarks and write the README's figures from it."""
    try:
        print(publish_result(name, output, find_checkout()))
    except (NotPublishable, FileNotFoundError) as error:
        print(f"wetread bench publish: {error}", file=sys.stderr)
        raise typer.Exit(1) from error


app.command("engines")(engines)
app.command("capacity")(capacity)
app.command("soak")(soak)
app.command("chaos")(chaos)
app.command("intake")(intake)
app.command("load")(load)
app.command("swap")(swap)
app.command("volumes")(volumes)
