"""The plots of a day and of the search, as small SVG files that come out the same each time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from wetread_bench.autoscale.outcome import BAR_P99_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from wetread_bench.autoscale.outcome import Outcome

OURS, OTHERS, LOAD, BAR = "#1b6ca8", "#c8553d", "#999999", "#444444"
_SMALLEST_S = 0.01


def draw_day(file: Path, outcomes: Mapping[str, Outcome], capacity: float) -> None:
    """Draw the replicas over the day above the minutes' p99; the first outcome is ours."""
    figure, (above, below) = _figure(2, 1, (9.0, 5.4))
    first = next(iter(outcomes.values()))
    hours = [minute / 60 for minute in range(len(first.minutes))]
    above.plot(
        hours, [minute.arrived / 60 / capacity for minute in first.minutes], color=LOAD, lw=0.7,
        label="load, in pods at full work",
    )  # fmt: skip
    for (name, outcome), colour in zip(outcomes.items(), (OURS, OTHERS, BAR), strict=False):
        at = [moment / 3600 for moment, _ in outcome.replicas] + [hours[-1]]
        counts = [count for _, count in outcome.replicas]
        above.step(at, [*counts, counts[-1]], where="post", color=colour, lw=1.2, label=name)
        below.plot(hours, [max(_SMALLEST_S, minute.p99_s) for minute in outcome.minutes], color=colour, lw=0.7)
    above.set_ylabel("replicas")
    above.legend(fontsize=8, frameon=False, loc="upper left")
    below.axhline(BAR_P99_S, color=BAR, lw=0.8, ls=":")
    below.set_yscale("log")
    below.set_ylabel("p99 of a minute, s")
    below.set_xlabel("hour")
    _save(figure, file)


def draw_search(
    file: Path, rows: Sequence[Mapping[str, Any]], pick: Mapping[str, Any], sweep: Sequence[Mapping[str, Any]]
) -> None:
    """Draw what was tried: cost against the worst minute and against flapping; and the cold starts of the chosen."""
    figure, axes = _figure(1, 3, (11.0, 3.6))
    left, middle, right = axes
    for share in dict.fromkeys(row["share"] for row in rows):
        some = [row for row in rows if row["share"] == share]
        label = f"{share:.0%} of capacity"
        some = sorted(some, key=lambda row: row["pod_hours"])
        left.plot(
            [r["pod_hours"] for r in some],
            [r["long_worst_minute_p99_s"] or math.nan for r in some],
            "o-",
            ms=3,
            lw=0.8,
            label=label,
        )
        middle.plot([r["pod_hours"] for r in some], [r["direction_changes"] for r in some], "o-", ms=3, lw=0.8)
    left.plot(pick["pod_hours"], pick["long_worst_minute_p99_s"] or math.nan, "o", ms=10, mfc="none", color=BAR)
    middle.plot(pick["pod_hours"], pick["direction_changes"], "o", ms=10, mfc="none", color=BAR)
    left.axhline(BAR_P99_S, color=BAR, lw=0.8, ls=":")
    left.set_yscale("log")
    middle.axhline(6, color=BAR, lw=0.8, ls=":")
    left.set(xlabel="pod hours a day", ylabel="worst minute's p99, s (cold start 120 s)")
    middle.set(xlabel="pod hours a day", ylabel="changes of direction")
    left.legend(fontsize=7, frameon=False)
    starts = [row["cold_start_s"] for row in sweep]
    right.plot(starts, [row["p99_s"] for row in sweep], "o-", ms=3, lw=0.8, color=OURS, label="the day's p99")
    right.plot(
        starts,
        [row["worst_minute_p99_s"] for row in sweep],
        "o-",
        ms=3,
        lw=0.8,
        color=OTHERS,
        label="its worst minute's",
    )
    right.axhline(BAR_P99_S, color=BAR, lw=0.8, ls=":")
    right.set_yscale("log")
    right.set(xlabel="cold start, s", ylabel="p99, s")
    right.legend(fontsize=7, frameon=False)
    _save(figure, file)


def _figure(rows: int, columns: int, inches: tuple[float, float]) -> tuple[Any, list[Axes]]:
    import matplotlib as mpl  # noqa: PLC0415 -- only where plots are drawn

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "wetread"
    mpl.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(rows, columns, figsize=inches, constrained_layout=True)
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.tick_params(labelsize=8)
    return figure, list(axes)


def _save(figure: Any, file: Path) -> None:
    from matplotlib import pyplot as plt  # noqa: PLC0415

    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    file.write_text("\n".join(line.rstrip() for line in file.read_text().splitlines()) + "\n")
