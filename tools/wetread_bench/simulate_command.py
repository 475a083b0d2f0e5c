"""`wetread simulate`."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from wetread_embedded.config import find_checkout

from wetread_bench.autoscale.curve import ServiceCurve
from wetread_bench.autoscale.day import Day
from wetread_bench.autoscale.manifest import BadManifest, Manifest
from wetread_bench.autoscale.outcome import Outcome
from wetread_bench.autoscale.pages import DAY, HPA, POD, finite, refresh_pages
from wetread_bench.autoscale.plot import draw_day
from wetread_bench.autoscale.simulate import Cluster, simulate
from wetread_bench.autoscale.study import STEP_MINUTE, naive, step_outcome, sweep

app = typer.Typer(
    help="Replay a day of arrivals against an autoscaler.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_SHIPPED = "Default: the checkout's."


@app.callback()
def simulate_all() -> None:
    """Replay a day of arrivals against an autoscaler."""


@app.command()
def hpa(
    hpa: Annotated[Path | None, typer.Option(help=f"The autoscaler's manifest. {_SHIPPED}")] = None,
    day: Annotated[Path | None, typer.Option(help=f"Works a minute, CSV. {_SHIPPED}")] = None,
    pod: Annotated[Path | None, typer.Option(help=f"A result of `wetread bench capacity`. {_SHIPPED}")] = None,
    precision: Annotated[str, typer.Option(help="Of the pod's classifier.")] = "fp32",
    cold_start: Annotated[float, typer.Option(min=0, help="Seconds from a pod's creation to its readiness.")] = 60.0,
    step: Annotated[float, typer.Option(help="Beside the day: a step to so many times the load; 0: none.")] = 0.0,
    plot: Annotated[Path | None, typer.Option(help="Draw the day as SVG.")] = None,
    seed: Annotated[int, typer.Option(help="Of the arrivals and of the works' sizes.")] = 1,
    *,
    swept: Annotated[bool, typer.Option("--sweep", help="Beside the day: cold starts of 10 to 300 s.")] = False,
    with_naive: Annotated[bool, typer.Option("--naive", help="Beside it: an autoscaler that sees CPU alone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """A day against the autoscaler that ships: waiting, replicas, flapping, cost; 1 where it misses its bars."""
    checkout = find_checkout()
    try:
        manifest = Manifest.load(hpa or checkout / HPA)
        table = Day.load(day or checkout / DAY)
        curve = ServiceCurve.load(pod or checkout / POD, precision)
    except (OSError, ValueError, KeyError, BadManifest) as error:
        typer.echo(f"wetread simulate hpa: {error}", err=True)
        raise typer.Exit(2) from error
    cluster = Cluster(cold_start_s=cold_start)
    outcomes = {"shipped" if hpa is None else hpa.name: simulate(table, manifest, curve, cluster, seed)}
    if with_naive:
        outcomes["CPU alone"] = simulate(table, naive(manifest), curve, cluster, seed)
    steps = {}
    if step:
        for name in outcomes:
            told = naive(manifest) if name == "CPU alone" else manifest
            steps[name] = step_outcome(told, curve, cluster, step, seed).recovered_after_s(STEP_MINUTE)
    rows = [asdict(row) for row in sweep(table, manifest, curve, cluster, seed)] if swept else []
    if plot:
        draw_day(plot, outcomes, curve.peak(cluster.reader.slots))
    if as_json:
        days = {name: seen.numbers() for name, seen in outcomes.items()}
        typer.echo(json.dumps(finite({"day": days, "step_recovers_s": steps, "sweep": rows}), indent=1))
    else:
        _show(outcomes, steps, rows, step)
    raise typer.Exit(0 if next(iter(outcomes.values())).holds else 1)


@app.command()
def refresh(
    pod: Annotated[Path | None, typer.Option(help=f"A result of `wetread bench capacity`. {_SHIPPED}")] = None,
    *,
    keep: Annotated[
        bool, typer.Option("--keep-numbers", help="Do not search: keep the share, window and tolerance.")
    ] = False,
) -> None:
    """Make the day, the search, the manifest's numbers, the plots and the pages anew from a pod's capacity."""
    console = Console()
    for file in refresh_pages(find_checkout(), pod, lambda line: console.print(line, style="dim"), search=not keep):
        console.print(f"written: {file}", highlight=False, soft_wrap=True)


def _show(outcomes: dict[str, Outcome], steps: dict[str, float], rows: list[dict[str, float]], factor: float) -> None:
    console = Console()
    table = Table("", *outcomes, title="a day; seconds are waiting and reading")
    for name in next(iter(outcomes.values())).numbers():
        table.add_row(
            name,
            *(f"{seen.numbers()[name]:,.4g}" if name != "works" else f"{seen.works:,}" for seen in outcomes.values()),
        )
    console.print(table)
    for name, seconds in steps.items():
        text = "not within the hour" if math.isinf(seconds) else f"{seconds:.0f} s"
        console.print(f"step to {factor:g} times the load, {name}: p99 under 2 s again after {text}", highlight=False)
    if rows:
        swept = Table(*rows[0], title="cold starts")
        for row in rows:
            swept.add_row(*(f"{value:.4g}" if not isinstance(value, bool) else str(value) for value in row.values()))
        console.print(swept)
