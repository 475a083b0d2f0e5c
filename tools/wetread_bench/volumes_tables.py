"""The result of the bench of volumes as tables for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from wetread_bench.volumes_rows import OURS

if TYPE_CHECKING:
    from rich.console import Console

    from wetread_bench.volumes import VolumesResult
    from wetread_bench.volumes_rows import Findings


def show_volumes(result: VolumesResult, console: Console) -> None:
    """Print a result."""
    document = result.document
    machine = document.machine
    console.print(f"\n{machine.cpu}, {machine.cores} cores ({', '.join(machine.flags)}), {machine.memory_gib} GiB")
    for name, told in document.inputs.items():
        assert isinstance(told, dict)
        console.print(f"{name}: {told['files']} files, {told['bytes'] / 1e6:.1f} MB, {told['source']}")
    console.print(_times(result.found))
    console.print(_checks(result.found))
    memory = document.measurements["memory"]
    assert isinstance(memory, dict)
    for name, ways in memory.items():
        peaks = (
            f"{way} {told['peak_bytes'] / 1e6:.0f} MB, {told['over_output']:.2f} x its output"
            for way, told in ways.items()
        )
        console.print(f"peak memory, {name}: {'; '.join(peaks)}")
    console.print(f"kernels ready, s: {document.measurements['cold_start_s']}")
    for figure, number in document.figures.items():
        console.print(f"{number:>12.4g} {figure}")
    for remark in document.remarks:
        console.print(f"note: {remark}", markup=False)
    for fault in result.faults:
        console.print(fault, style="red", markup=False, soft_wrap=True)


def _times(found: Findings) -> Table:
    table = Table("step", "series", "way", title="milliseconds: median of the rounds (lowest - highest)")
    for title in ("cores", "ms", "spread", "of ours"):
        table.add_column(title, justify="right", no_wrap=True)
    ours = {(row.step, row.input, row.threads): row.ms.median for row in found.rows if row.way == OURS}
    before = None
    for row in sorted(found.rows, key=lambda row: (_order(found, row.step), row.input, row.threads)):
        group = (row.step, row.input, row.threads)
        if before not in (None, group):
            table.add_section()
        before = group
        ratio = "" if row.way == OURS else f"{row.ms.median / ours[group]:.2f}"
        spread = f"{row.ms.low:.1f} - {row.ms.high:.1f}"
        table.add_row(row.step, row.input, row.way, str(row.threads), f"{row.ms.median:.1f}", spread, ratio)
    return table


def _order(found: Findings, step: str) -> int:
    return [row.step for row in found.rows].index(step)


def _checks(found: Findings) -> Table:
    table = Table("step", "series", "against", "what", title="the same answers?")
    for title in ("value", "at most"):
        table.add_column(title, justify="right", no_wrap=True)
    for check in found.checks:
        style = "" if check.is_right else "bold red"
        value, most = f"{check.value:.3g}", f"{check.most:g}"
        table.add_row(check.step, check.input, check.against, check.what, value, most, style=style)
    return table
