"""`wetread release list`."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from wetread_release.command_options import KeysFolder, RegistryUrl, RolloutsUrl, StateDir, fail, open_site, told
from wetread_release.draft import ANY_TARGET

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wetread_release.listing import Pin, PipelineView, ReleaseRow
    from wetread_release.manifest import GateSummary

_FIGURES = 6  # of a gate record; --json has them all


def list_releases(
    pipeline: Annotated[str | None, typer.Argument(help="Only this one. Default: all.", show_default=False)] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
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
        typer.echo("\n\n".join("\n".join(_lines(view)) for view in views))


def _lines(view: "PipelineView") -> "Iterator[str]":
    """Give what is known of a pipeline, the newest release first: in lines, since a table cuts off what is long."""
    yield _heading(view)
    for row in reversed(view.releases):
        yield from _release(view.pipeline, row)
    for report in view.agents:
        served = f"stable {report.stable or 'none'}, candidate {report.candidate or 'none'}"
        message = f": {report.message}" if report.message else ""
        yield f"  server {report.agent} ({report.device}): {report.state.value}, {served}{message}"
    if not view.agents:
        yield "  no agent is running"
    yield from (f"  {problem}" for problem in view.problems)


def _release(pipeline: str, row: "ReleaseRow") -> "Iterator[str]":
    arms = f"  {', '.join(row.arms).upper()}" if row.arms else ""
    yield f"  release {row.release}{arms}  {row.engine} {row.precision}".rstrip()
    when = datetime.fromtimestamp(row.at, UTC).strftime("%Y-%m-%d %H:%M UTC") if row.at else ""
    said = " ".join(word for word in (when, row.by and f"by {row.by}") if word)
    about = {
        "made": f"{said}: {row.reason}" if row.reason else said,
        "parts": "  ".join(_pin(pipeline, pin) for pin in row.pins),
        "FORCED": row.forced,
        "NOT SERVED": row.problem,
    }
    yield from (f"    {name:<6} {text}" for name, text in about.items() if text)
    for summary in row.gate:
        yield f"    gate   {_gate(summary)}"
    if not row.gate:
        yield "    gate   none"


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


def _pin(pipeline: str, pin: "Pin") -> str:
    """Name a part without its pipeline: `classifier:3`, `classifier_r7:1 (sm_90-trt11)`."""
    name = pin.model.removeprefix(f"{pipeline}_")
    return f"{name}:{pin.version}{'' if pin.target == ANY_TARGET else f' ({pin.target})'}"


def _gate(summary: "GateSummary") -> str:
    figures = ", ".join(f"{name} {value:.4g}" for name, value in list(summary.figures.items())[:_FIGURES])
    return f"{'passed' if summary.passed else 'FAILED'} on {summary.device}{f': {figures}' if figures else ''}"
