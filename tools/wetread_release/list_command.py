"""`wetread release list`."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table

from wetread_release.command_options import KeysFolder, RegistryUrl, RolloutsUrl, StateDir, fail, open_site, told
from wetread_release.draft import ANY_TARGET

if TYPE_CHECKING:
    from wetread_release.listing import Pin, PipelineView, ReleaseRow
    from wetread_release.manifest import GateSummary

_FIGURES = 4  # of a gate record in the table; --json has them all


def list_releases(
    pipeline: Annotated[str | None, typer.Argument(help="Only this one. Default: all.", show_default=False)] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
    state_dir: StateDir = None,
    registry: RegistryUrl = "",
    rollouts: RolloutsUrl = "",
    keys: KeysFolder = None,
) -> None:
    """Show the releases of each pipeline: arms, parts, gate figures, who, when and why; and what each server does."""
    with told("list"):
        from wetread_release.listing import overview  # noqa: PLC0415 - --help does without

        views = overview(open_site(state_dir, registry, rollouts, keys), pipeline)
        if pipeline is not None and not views:
            fail("list", f"there is no pipeline {pipeline} here")
        if as_json:
            typer.echo(json.dumps({"pipelines": [asdict(view) for view in views]}, indent=1))
            return
        if not views:
            typer.echo("nothing is published here")
        console = Console()
        for view in views:
            console.print(_shown(view))


def _shown(view: "PipelineView") -> Group:
    table = Table("release", "arm", "engine", "parts", "gate", "by", "when", "why", title=escape(_heading(view)))
    table.columns[3].no_wrap = True  # a version that is cut off is none
    for row in reversed(view.releases):
        table.add_row(*(escape(cell) for cell in _cells(view.pipeline, row)))
    agents = Table("server", "stable", "candidate", "state", "device", "message")
    for report in view.agents:
        cells = (report.agent, str(report.stable or "-"), str(report.candidate or "-"), report.state.value)
        agents.add_row(*(escape(cell) for cell in (*cells, report.device, report.message)))
    problems = [f"[bold red]{escape(problem)}[/]" for problem in view.problems]
    return Group(table, agents if view.agents else "no agent is running", *problems)


def _heading(view: "PipelineView") -> str:
    rollout = view.rollout
    if rollout is None:
        return f"{view.pipeline}: as the checkout ships it"
    share = f", candidate reads {rollout.candidate_percent:g} %" if rollout.candidate else ""
    shadow = " and answers in the shadow" if rollout.shadow else ""
    return (
        f"{view.pipeline}: revision {rollout.revision}, {rollout.act} by {rollout.by}"
        f"{f' (approved by {rollout.approved_by})' if rollout.approved_by else ''}{share}{shadow}"
    )


def _cells(pipeline: str, row: "ReleaseRow") -> tuple[str, ...]:
    pins = "\n".join(_pin(pipeline, pin) for pin in row.pins)
    gate = "\n".join(_gate(summary) for summary in row.gate) or "none"
    if row.forced:
        gate = f"FORCED: {row.forced}\n{gate}"
    why = "\n".join(text for text in (row.reason, row.problem and f"NOT SERVED: {row.problem}") if text)
    when = datetime.fromtimestamp(row.at, UTC).strftime("%Y-%m-%d %H:%M") if row.at else ""
    engine = f"{row.engine} {row.precision}".strip()
    return (str(row.release), ", ".join(row.arms), engine, pins, gate, row.by, when, why)


def _pin(pipeline: str, pin: "Pin") -> str:
    """Name a part without its pipeline: `classifier:3`, `classifier_r7:1 (sm_90-trt11)`."""
    name = pin.model.removeprefix(f"{pipeline}_")
    return f"{name}:{pin.version}{'' if pin.target == ANY_TARGET else f' ({pin.target})'}"


def _gate(summary: "GateSummary") -> str:
    figures = ", ".join(f"{name} {value:.4g}" for name, value in list(summary.figures.items())[:_FIGURES])
    return f"{'passed' if summary.passed else 'FAILED'} on {summary.device}{f': {figures}' if figures else ''}"
