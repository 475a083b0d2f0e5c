"""The tables of docs/capacity.md as Markdown, from the committed results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wetread_bench.autoscale import sizing as sizes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from wetread_bench.autoscale.manifest import Manifest, Rules

    Told = Mapping[str, Any]

_OUTCOMES = (
    ("works read", "works", "{:,.0f}"), ("lost", "lost", "{:,.0f}"), ("p50, s", "p50_s", "{:.2f}"),
    ("p99, s", "p99_s", "{:.2f}"), ("p99.9, s", "p999_s", "{:.2f}"), ("p99 of STAT, s", "stat_p99_s", "{:.2f}"),
    ("p99 of the worst minute, s", "worst_minute_p99_s", "{:.2f}"),
    ("minutes with a p99 over 2 s", "minutes_over_bar", "{:.0f}"),
    ("changes of direction", "direction_changes", "{:.0f}"), ("changes", "changes", "{:.0f}"),
    ("most replicas", "peak_replicas", "{:.0f}"), ("pod hours", "pod_hours", "{:.0f}"),
)  # fmt: skip


def pod(result: Told) -> str:
    """One core's films a second and latencies by concurrency, and the model beside the real runs."""
    lines = _head("pipeline", "films at once", "films/s", "p50 ms", "p95 ms", "p99 ms")
    for each in result["measurements"]["pipelines"]:
        name = f"`{each['pipeline']}` {each['precision'].upper()}"
        lines += [
            _row(
                name,
                level["concurrency"],
                *(f"{level[key]:.1f}" for key in ("films_per_s", "p50_ms", "p95_ms", "p99_ms")),
            )
            for level in each["levels"]
        ]
    lines += ["", *_head("arrivals at random", "films/s", "modelled", "p99 ms", "modelled")]
    for each in result["measurements"]["pipelines"]:
        for run in each["poisson"]:
            name = f"{each['precision'].upper()}, {run['load']:.0%} of the peak"
            model = run["model"]
            lines.append(
                _row(
                    name,
                    f"{run['films_per_s']:.1f}",
                    f"{model['films_per_s']:.1f}",
                    f"{run['p99_ms']:.0f}",
                    f"{model['p99_ms']:.0f}",
                )
            )
    machine = result["machine"]
    told = "" if result["complete"] else " **A short run on a busy machine, to be measured again.**"
    lines += [
        "",
        f"One core of {machine['cpu']} ({', '.join(machine['flags'])}) for the server, one for the generator.{told}",
    ]
    return _text(lines)


def sizing(films_per_s_a_pod: float) -> str:
    """Pods and GPUs for some numbers of studies a day."""
    return sizes.table(films_per_s_a_pod)


def manifest(shipped: Manifest, capacity: float) -> str:
    """The shipped numbers."""
    lines = _head("what", "number")
    for metric in shipped.metrics:
        unit = " %" if metric.target_kind == "Utilization" else ""
        each = " a pod" if metric.target_kind == "AverageValue" else ""
        share = f" ({metric.target / capacity:.0%} of what one pod reads)" if metric.name.endswith("per_second") else ""
        lines.append(_row(f"{metric.source} `{metric.name}`", f"{metric.target:g}{unit}{each}{share}"))
    lines.append(_row("replicas", f"{shipped.min_replicas} to {shipped.max_replicas}"))
    for title, rules in (("to grow", shipped.up), ("to shrink", shipped.down)):
        if rules is not None:
            lines.append(_row(title, _rules(rules)))
    return _text(lines)


def day(result: Told) -> str:
    """The peak day, shipped and naive, and the step."""
    outcomes = result["outcomes"]
    lines = _head("the peak day", *outcomes)
    for title, key, shape in _OUTCOMES:
        lines.append(_row(title, *(shape.format(seen[key]) for seen in outcomes.values())))
    steps = result["step_recovers_s"]
    lines.append(
        _row("seconds to recover from a step to ten times the load", *(_seconds(steps[name]) for name in outcomes))
    )
    told = result["day"]
    lines += [
        "",
        f"{told['works']:,} works, {told['peak_hour_works_per_s']:.0f} a second in the peak hour; a pod reads "
        f"{result['works_per_s_a_pod']:.1f} a second; cold start {result['cluster']['cold_start_s']:.0f} s.",
    ]
    return _text(lines)


def others(result: Told) -> str:
    """Days on which the numbers were not chosen."""
    lines = _head("day of seed", "p99, s", "p99 of the worst minute, s", "changes of direction", "lost", "pod hours")
    for seed, seen in result["other_days"].items():
        numbers = (f"{seen['p99_s']:.2f}", f"{seen['worst_minute_p99_s']:.2f}", seen["direction_changes"], seen["lost"])
        lines.append(_row(seed, *numbers, f"{seen['pod_hours']:.0f}"))
    return _text(lines)


def sweep(result: Told) -> str:
    """Cold starts."""
    lines = _head(
        "cold start, s", "p99, s", "p99 of the worst minute, s", "minutes over 2 s", "changes of direction",
        "pod hours", "recovers from the step after, s", "keeps the bars",
    )  # fmt: skip
    for row in result["sweep"]:
        lines.append(
            _row(
                f"{row['cold_start_s']:.0f}", f"{row['p99_s']:.2f}", f"{row['worst_minute_p99_s']:.2f}",
                row["minutes_over_bar"], row["direction_changes"], f"{row['pod_hours']:.0f}",
                _seconds(row["step_recovers_s"]), "yes" if row["holds"] else "no",
            )
        )  # fmt: skip
    lines += ["", _breaks(result["sweep"])]
    return _text(lines)


def _breaks(rows: Sequence[Told]) -> str:
    """Say in a sentence at which cold start the bars break."""
    kept = [row["cold_start_s"] for row in rows if row["holds"]]
    calm = [row["cold_start_s"] for row in rows if not row["minutes_over_bar"]]
    missed = [row["cold_start_s"] for row in rows if not row["holds"]]
    days = f"up to {max(kept):.0f} s" if kept else "with none of these cold starts"
    first = f"; it is missed first with {min(missed):.0f} s" if missed else ", the longest that was tried"
    minutes = f"up to {max(calm):.0f} s" if calm else "with none"
    beyond = ": beyond, a burst is over the bar until the pods that it needs have come" if len(calm) < len(rows) else ""
    return f"The day keeps its bars {days}{first if kept else ''}. No minute has a p99 over 2 s {minutes}{beyond}."


def search(result: Told) -> str:
    """What was tried, the chosen one marked."""
    lines = _head(
        "works/s a pod, of capacity", "window to shrink, s", "tolerance to shrink", "p99, s", "worst minute, s",
        "changes of direction", "pod hours", "worst minute with 120 s of cold start, s", "",
    )  # fmt: skip
    pick = result["chosen"]
    for row in result["search"]:
        mark = "**chosen**" if row == pick else "holds" if row["holds"] else ""
        lines.append(
            _row(
                f"{row['share']:.0%}", row["window_s"], row["tolerance"], f"{row['p99_s']:.2f}",
                f"{row['worst_minute_p99_s']:.2f}", row["direction_changes"],
                f"{row['pod_hours']:.0f}", _number(row["long_worst_minute_p99_s"]), mark,
            )
        )  # fmt: skip
    return _text(lines)


def _rules(rules: Rules) -> str:
    change = ", ".join(
        f"{policy.value}{' %' if policy.kind == 'Percent' else ' pods'} in {policy.period_s} s"
        for policy in rules.policies
    )
    which = {"Max": "the larger", "Min": "the smaller", "Disabled": "none"}[rules.select]
    tolerance = "" if rules.tolerance is None else f"; tolerance {rules.tolerance:g}"
    return f"window {rules.window_s} s; {which} of {change}{tolerance}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.0f}"


def _head(*titles: str) -> list[str]:
    return [_row(*titles), "|---|" + "---:|" * (len(titles) - 1)]


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _text(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"
