"""`wetread release preflight`: will TensorRT take this model?"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wetread_release.command_options import FAILED, USAGE, console, fail, say, told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wetread_release.tensorrt.preflight import Report
    from wetread_release.tensorrt.profiles import AxisRange
    from wetread_release.tensorrt.refusals import Refusal

_SHOWN = 3  # nodes of one kind
_MIB = 1 << 20


def preflight(
    model: Annotated[Path, typer.Argument(help="The ONNX file.", exists=True, dir_okay=False)],
    *,
    batch: Annotated[str, typer.Option(help="Rows of a request: smallest,best,largest.")] = "1,8,16",
    axis: Annotated[
        list[str] | None,
        typer.Option(
            help="Sizes of another axis that may differ: name=smallest,best,largest. Once for each.",
            show_default=False,
        ),
    ] = None,
    precision: Annotated[
        Literal["fp32", "fp16", "int8"] | None,
        typer.Option(help="Ask for the FP32 file in this precision. Default: as the file is.", show_default=False),
    ] = None,
    rules_only: Annotated[bool, typer.Option("--rules-only", help="Leave NVIDIA's compiler out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder for links to NVIDIA's libraries. Default: in XDG's cache.", show_default=False),
    ] = None,
) -> None:
    """Ask NVIDIA's own ONNX parser and engine compiler, on any CPU, whether TensorRT will take a model.

    Prints every node that is refused, why, and what to do; then compiles with the real shapes. Exit code 1: refused.

    What a pass proves: the parser takes every node, and the compiler makes an engine of these shapes in this precision.

    What it does not: speed on a GPU, accuracy, and Triton's own plan, which is built on the server's GPU. The libraries
    are those of TensorRT for RTX; TensorRT's plugins are out of their reach.

    Needs the extra `tensorrt`. Without it a list of rules answers: operators, types, axes, Q/DQ; it is only that.
    """
    with told("preflight"):
        from wetread_release.tensorrt import preflight as asking  # noqa: PLC0415 - --help does without
        from wetread_release.tensorrt.builder import PlanSpec  # noqa: PLC0415
        from wetread_release.tensorrt.libraries import default_cache  # noqa: PLC0415

        spec = PlanSpec(model, _range("--batch", batch), _axes(axis or []))
        with console.status("reading the model") as status:
            report = asking.preflight(
                spec,
                precision,
                cache or default_cache(),
                rules_only=rules_only,
                progress=lambda step: status.update(f"{model.name}: {step}"),
            )
    if as_json:
        typer.echo(json.dumps(_document(report), indent=1))
    else:
        _show(report)
    if not report.passed:
        raise typer.Exit(FAILED)


def _axes(given: list[str]) -> "dict[str, AxisRange]":
    axes = {}
    for text in given:
        name, equals, sizes = text.rpartition("=")
        if not equals:
            fail("preflight", f"--axis {text!r}: give name=smallest,best,largest", USAGE)
        axes[name] = _range(f"--axis {name}", sizes)
    return axes


def _range(option: str, text: str) -> "AxisRange":
    from wetread_release.errors import BadModel  # noqa: PLC0415
    from wetread_release.tensorrt.profiles import AxisRange  # noqa: PLC0415

    try:
        return AxisRange.parse(text, option)
    except BadModel as error:
        fail("preflight", str(error), USAGE)


def _show(report: "Report") -> None:
    """Print the table to stdout, and what it proves to stderr."""
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    if report.refusals:
        table = Table(
            title=f"{report.model.name}, {report.precision}: what TensorRT does not take", title_justify="left"
        )
        for heading in ("node", "operator", "why", "what to do", "says"):
            table.add_column(heading, overflow="fold")
        for first, nodes in _alike(report.refusals):
            table.add_row(nodes, first.operator, first.why, first.remedy, first.by)
        Console(markup=False, highlight=False).print(table)
    else:
        typer.echo(f"{report.model.name}, {report.precision}: {_verdict(report)}")
    for remark in report.remarks:
        say(remark)
    if report.refusals:
        say(f"wetread release preflight: {report.model}: {_count(len(report.refusals))} in the way")


def _alike(refusals: "tuple[Refusal, ...]") -> "Iterator[tuple[Refusal, str]]":
    """Give refusals of one kind once, with all their nodes: a quantised model has hundreds."""
    kinds: dict[tuple[str, str], list[Refusal]] = {}
    for refusal in refusals:
        kinds.setdefault((refusal.operator, refusal.remedy), []).append(refusal)
    for alike in kinds.values():
        names = [refusal.node for refusal in alike[:_SHOWN]]
        more = len(alike) - len(names)
        yield alike[0], ", ".join(names) + (f" and {more} more, see --json" if more else "")


def _count(things: int) -> str:
    return "one thing is" if things == 1 else f"{things} things are"


def _verdict(report: "Report") -> str:
    if report.compiled is None:
        return "no rule is against it"
    shapes = (
        "; ".join(f"{each.name} {each.minimum} to {each.maximum}" for each in report.profiles) or "its fixed shapes"
    )
    return (
        f"{report.asked} takes it and compiled it for {shapes} in {report.compiled.build_s:.1f} s "
        f"({report.compiled.plan_bytes / _MIB:.1f} MiB)"
    )


def _document(report: "Report") -> dict[str, object]:
    compiled = report.compiled
    return {
        "model": str(report.model),
        "precision": report.precision,
        "passed": report.passed,
        "asked": report.asked or "rules only",
        "refusals": [refusal.as_json() for refusal in report.refusals],
        "profiles": [vars(profile) for profile in report.profiles],
        "parse_s": compiled and compiled.parse_s,
        "build_s": compiled and compiled.build_s,
        "plan_bytes": compiled and compiled.plan_bytes,
        "log": compiled.log if compiled else [],
        "remarks": report.remarks,
    }
