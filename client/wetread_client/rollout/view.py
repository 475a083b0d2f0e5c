"""A rollout for a human and for a program."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from wetread_client.rollout.document import Gate, Key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.table import Table

    from wetread_client.rollout.document import Rollout
    from wetread_client.rollout.store import AgentReport

_KEYS = {Key.PATIENT: "patient", Key.STUDY: "study", Key.ACCESSION: "accession number"}
_GATES = {
    Gate.PASSED: "passed the gate",
    Gate.FORCED: "without a passed gate: forced",
    Gate.NONE: "not through the gate",
}


def as_json(rollout: Rollout, reports: Sequence[AgentReport] = ()) -> dict[str, Any]:
    """Give the document with the reports of its agents, for JSON."""
    agents = [{**asdict(report), "live": report.is_live} for report in reports]
    return {**asdict(rollout), **({"agents": agents} if agents else {})}


def summary(rollout: Rollout, reports: Iterable[AgentReport] = ()) -> str:
    """Say in a few lines what is in force."""
    lines = [
        f"{rollout.pipeline}  revision {rollout.revision}: {rollout.act} by {rollout.by}, {when(rollout.at)}"
        + (f", approved by {rollout.approved_by}" if rollout.approved_by else "")
        + (f": {rollout.reason}" if rollout.reason else ""),
        f"  stable     release {rollout.stable or 'none'}, reads {100 - rollout.candidate_percent:g} %",
    ]
    if rollout.candidate is not None:
        shadow = "; answers everything in the shadow too" if rollout.shadow else ""
        lines.append(
            f"  candidate  release {rollout.candidate}, reads {rollout.candidate_percent:g} % by "
            f"{_KEYS[rollout.key]}{shadow} ({_GATES[rollout.candidate_gate]})"
        )
    if rollout.previous is not None:
        lines.append(f"  previous   release {rollout.previous}, what a rollback goes back to")
    if rollout.light_model:
        lines.append(f"  light      {rollout.light_model} reads routine works")
    lines += [f"  server     {_report(report)}" for report in reports if report.is_live]
    return "\n".join(lines)


def history_table(pipeline: str, history: Iterable[Rollout]) -> Table:
    """Give the steps as a table, the newest last."""
    from rich.markup import escape  # noqa: PLC0415 -- the summary does without
    from rich.table import Table  # noqa: PLC0415

    table = Table("rev", "when", "step", "stable", "candidate", "by", "approved by", "reason", title=escape(pipeline))
    for each in history:
        cells = (str(each.revision), when(each.at), each.act, str(each.stable or "-"), _candidate(each))
        table.add_row(*(escape(cell) for cell in (*cells, each.by, each.approved_by, each.reason)))
    return table


def when(at: float) -> str:
    """Give seconds since the epoch as UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _candidate(rollout: Rollout) -> str:
    if rollout.candidate is None:
        return "-"
    shadow = " + shadow" if rollout.shadow else ""
    return f"{rollout.candidate} at {rollout.candidate_percent:g} %{shadow}"


def _report(report: AgentReport) -> str:
    arms = f"stable {report.stable or 'none'}, candidate {report.candidate or 'none'}"
    return f"{report.agent}: {report.state}, {arms}" + (f": {report.message}" if report.message else "")
