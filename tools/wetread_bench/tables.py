"""A result as tables for a terminal."""

from rich.console import Console
from rich.table import Table

from wetread_bench.encode import TITLES
from wetread_bench.results import Accounting, Measurement, Result, Spread

WAYS = {
    "limit": "in process, all cores", "in_process": "in process, one film", "shm": "shared memory",
    "shm_no_pool": "shared memory, no pool", "http": "HTTP", "grpc": "gRPC", "shm_open": "shared memory, open loop",
    "plain": "plain stack",
}  # fmt: skip


def show(result: Result, console: Console) -> None:
    """Print a result."""
    machine = result.machine
    console.print(f"\n{machine.cpu}, {machine.cores} cores ({', '.join(machine.flags)}), {machine.memory_gib} GiB")
    sizes = ", ".join(f"{TITLES[name]} {size / 1e6:.2f}" for name, size in result.inputs["mean_bytes"].items())
    console.print(f"films: {result.inputs['source']}; mean MB: {sizes}")
    console.print(_measurements(result.measurements))
    console.print(_stages(result))
    console.print(_costs(result.accounting))
    console.print(_models(result.accounting))
    console.print(_figures(result))
    console.print(f"perf_analyzer (uncompressed, shared memory, concurrency 8): {result.perf_analyzer}")
    other = max(account.other_cpu_share for account in result.accounting)
    if other > 0.05:
        console.print(f"[bold red]Other processes took up to {other:.0%} of the cores: a busy machine.[/]")
    for error, count in result.errors.items():
        console.print(f"[bold red]{count} x {error}[/]")


def _measurements(measurements: list[Measurement]) -> Table:
    table = Table("way", "syntax", "at once", title="films/s and latency: median (lowest - highest round)")
    for title in ("films/s", "p50 ms", "p99 ms"):
        table.add_column(title, justify="right")
    for seen in measurements:
        numbers = (_text(spread) for spread in (seen.films_per_s, seen.p50_ms, seen.p99_ms))
        table.add_row(WAYS[seen.way], TITLES[seen.syntax], str(seen.concurrency), *numbers)
    return table


def _stages(result: Result) -> Table:
    table = Table("in process", title="in process, ms a film and process (a batch's time shared out)")
    for title in ("batch", "preprocess", "classify", "postprocess"):
        table.add_column(title, justify="right")
    batches = result.settings["calibration"]["batches"]
    for seen in result.measurements:
        if seen.stages_ms:
            batch = batches.get(seen.syntax, 1) if seen.way == "limit" else 1
            numbers = (f"{milliseconds:.2f}" for milliseconds in seen.stages_ms.values())
            table.add_row(f"{WAYS[seen.way]}, {TITLES[seen.syntax]}", str(batch), *numbers)
    return table


def _costs(accounting: list[Accounting]) -> Table:
    names = list(dict.fromkeys(name for account in accounting for name in account.by_class))
    table = Table("cell", title="CPU ms a film by class of process: user + kernel, thousands of page faults below")
    for title in ("all", *names, "others"):
        table.add_column(title, justify="right")
    for account in accounting:
        uses = [account.by_class.get(name) for name in names]
        texts = [
            f"{use.user_ms:.2f} + {use.system_ms:.2f}\n[dim]{use.minor_faults / 1000:.2f} k[/]" if use else ""
            for use in uses
        ]
        table.add_row(account.cell, f"{account.cpu_ms_per_film:.2f}", *texts, f"{account.other_cpu_share:.0%}")
    return table


def _models(accounting: list[Accounting]) -> Table:
    table = Table("cell", "model", title="Triton's statistics: ms a request (its batch's whole time)")
    for title in ("mean batch", "queue", "input", "infer", "output"):
        table.add_column(title, justify="right")
    for account in accounting:
        for model, use in account.models.items():
            if use.requests:
                numbers = (use.mean_batch, use.queue_ms, use.input_ms, use.infer_ms, use.output_ms)
                table.add_row(account.cell, model, *(f"{number:.2f}" for number in numbers))
    return table


def _figures(result: Result) -> Table:
    table = Table("figure", "of", title="figures: median (lowest - highest round)")
    table.add_column("value", justify="right")
    for ratio in result.ratios:
        table.add_row(ratio.name, f"{ratio.above} : {ratio.below}", _text(ratio.spread))
    return table


def _text(spread: Spread) -> str:
    digits = 2 if spread.median < 100 else 1
    return f"{spread.median:.{digits}f} ({spread.low:.{digits}f} - {spread.high:.{digits}f})"
