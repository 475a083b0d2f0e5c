"""A result as tables for a terminal."""

from rich.console import Console
from rich.table import Table

from wetread_bench.encode import TITLES
from wetread_bench.results import Accounting, Measurement, Result, Spread

WAYS = {
    "limit": "limit", "in_process": "one film in process", "shm": "shared memory",
    "shm_no_pool": "shm, no pool", "http": "HTTP", "grpc": "gRPC", "shm_open": "shm, open loop",
    "plain": "plain stack",
}  # fmt: skip

SHOWN = tuple(f"{cell}/{syntax}/c{count}" for syntax in TITLES for cell, count in (("limit", 1), ("shm", 8)))
"""The cells whose costs are printed; the JSON has all."""


def show(result: Result, console: Console) -> None:
    """Print a result."""
    machine = result.machine
    console.print(f"\n{machine.cpu}, {machine.cores} cores ({', '.join(machine.flags)}), {machine.memory_gib} GiB")
    sizes = ", ".join(f"{TITLES[name]} {size / 1e6:.2f}" for name, size in result.inputs["mean_bytes"].items())
    console.print(f"films: {result.inputs['count']} {result.inputs['source']}; mean MB: {sizes}")
    console.print(_measurements(result.measurements))
    console.print(_stages(result))
    shown = [account for account in result.accounting if account.cell in SHOWN]
    console.print(_costs(shown))
    console.print(_models(shown))
    console.print(_gap(result.accounting))
    console.print(_figures(result))
    console.print(f"perf_analyzer (uncompressed, shared memory, concurrency 8): {result.perf_analyzer}")
    other = max(account.other_cpu_share for account in result.accounting)
    if other > 0.05:
        console.print(f"[bold red]Other processes took up to {other:.0%} of the cores: a busy machine.[/]")
    for error, count in result.errors.items():
        console.print(f"[bold red]{count} x {error}[/]")


def _measurements(measurements: list[Measurement]) -> Table:
    table = Table("way", "films", title="films/s and latency: medians of the rounds")
    for title in ("at once", "films/s", "lowest - highest", "p50 ms", "p99 ms"):
        table.add_column(title, justify="right", no_wrap=True)
    for seen in measurements:
        rate = seen.films_per_s
        numbers = (_number(value) for value in (rate.median, seen.p50_ms.median, seen.p99_ms.median))
        films, p50, p99 = numbers
        at_once = str(seen.concurrency) if seen.way not in ("limit", "shm_open") else "-"
        spread = f"{_number(rate.low)} - {_number(rate.high)}"
        table.add_row(WAYS[seen.way], TITLES[seen.syntax], at_once, films, spread, p50, p99)
    return table


def _stages(result: Result) -> Table:
    table = Table("in process", title="in process, ms a film (CPU ms, without the decoding child)")
    for title in ("batch", "preprocess", "classify", "postprocess"):
        table.add_column(title, justify="right")
    batches = result.settings["calibration"]["batches"]
    for seen in result.measurements:
        if seen.stages_ms:
            batch = batches.get(seen.syntax, 1) if seen.way == "limit" else 1
            of = seen.stages_ms
            stages = ("preprocess", "classify", "postprocess")
            numbers = (f"{of[stage]:.2f} ({of[f'{stage}_cpu']:.2f})" for stage in stages)
            table.add_row(f"{WAYS[seen.way]}, {TITLES[seen.syntax]}", str(batch), *numbers)
    return table


def _costs(accounting: list[Accounting]) -> Table:
    table = Table("cell", "processes", title="CPU ms a film by class of process")
    for title in ("user", "kernel", "both", "page faults"):
        table.add_column(title, justify="right")
    for account in accounting:
        for name, use in sorted(account.by_class.items(), key=lambda item: -item[1].user_ms - item[1].system_ms):
            numbers = (f"{number:.2f}" for number in (use.user_ms, use.system_ms, use.user_ms + use.system_ms))
            table.add_row(account.cell, name, *numbers, f"{use.minor_faults:.0f}")
        table.add_row(account.cell, "[bold]all[/]", "", "", f"[bold]{account.cpu_ms_per_film:.2f}[/]", "")
        table.add_section()
    return table


def _gap(accounting: list[Accounting]) -> Table:
    """The limit's CPU time over the served path's: what the throughput's ratio is when the cores are full.

    It hardly depends on what else the machine does, so it is the number to tune by.
    """
    cells = {account.cell: account for account in accounting}
    table = Table("films", title="CPU ms a film: the limit, and shared memory at concurrency 8")
    for title in ("limit", "served", "limit / served"):
        table.add_column(title, justify="right")
    for syntax, title in TITLES.items():
        limit, served = cells.get(f"limit/{syntax}/c1"), cells.get(f"shm/{syntax}/c8")
        if limit and served and served.cpu_ms_per_film:
            quotient = limit.cpu_ms_per_film / served.cpu_ms_per_film
            table.add_row(title, f"{limit.cpu_ms_per_film:.2f}", f"{served.cpu_ms_per_film:.2f}", f"{quotient:.3f}")
    return table


def _models(accounting: list[Accounting]) -> Table:
    table = Table("cell", "model", title="Triton's statistics: ms a request (its batch's whole time)")
    for title in ("mean batch", "queue", "input", "infer", "output"):
        table.add_column(title, justify="right")
    for account in accounting:
        for model, use in account.models.items():
            if account.cell.startswith("shm"):
                numbers = (use.mean_batch, use.queue_ms, use.input_ms, use.infer_ms, use.output_ms)
                table.add_row(account.cell, model.split("_")[-1], *(f"{number:.2f}" for number in numbers))
    return table


def _figures(result: Result) -> Table:
    table = Table("figure", "of", title="figures: median (lowest - highest round)")
    table.add_column("value", justify="right")
    for ratio in result.ratios:
        table.add_row(ratio.name, f"{ratio.above} : {ratio.below}", _text(ratio.spread))
    return table


def _text(spread: Spread) -> str:
    return f"{_number(spread.median)} ({_number(spread.low)} - {_number(spread.high)})"


def _number(value: float) -> str:
    return f"{value:.{2 if value < 10 else 1 if value < 1000 else 0}f}"
