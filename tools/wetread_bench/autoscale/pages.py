"""What is committed of capacity and autoscaling: made anew from one result by one command, and checked against it."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wetread_bench.autoscale import search as searching
from wetread_bench.autoscale import tables
from wetread_bench.autoscale.curve import ServiceCurve
from wetread_bench.autoscale.day import Day
from wetread_bench.autoscale.manifest import Manifest
from wetread_bench.autoscale.plot import draw_day, draw_search
from wetread_bench.autoscale.simulate import Cluster, simulate
from wetread_bench.autoscale.study import STEP_MINUTE, naive, step_outcome, surroundings, sweep

if TYPE_CHECKING:
    from collections.abc import Callable

    Report = Callable[[str], None]

POD = Path("docs") / "benchmarks" / "capacity.json"
RESULT = Path("docs") / "benchmarks" / "autoscale.json"
DAY = Path("tools") / "wetread_bench" / "autoscale" / "day.csv"
HPA = Path("k8s") / "components" / "autoscale" / "hpa.yaml"
PAGE = Path("docs") / "capacity.md"
DAY_PLOT = Path("docs") / "images" / "autoscale-day.svg"
SEARCH_PLOT = Path("docs") / "images" / "autoscale-search.svg"
PRECISION = "fp32"
DAY_SEED = 12
SEARCHED_DAYS = (DAY_SEED, 13, 14, 15)
OTHER_DAYS = (16, 17, 18)
"""Seeds of days on which the numbers were not chosen."""
_WORKS = re.compile(r'(name: wetread_works_per_second\b.*?averageValue: )"[^"]*"', re.DOTALL)
_WINDOW = re.compile(r"(scaleDown:\s+stabilizationWindowSeconds: )\d+")
_TOLERANCE = re.compile(r'(tolerance: )"[^"]*"')


class Unwritable(Exception):
    """A file lacks the place that is to be written."""


def refresh_pages(checkout: Path, pod: Path | None, report: Report, *, search: bool = True) -> list[Path]:
    """Make the day, the manifest's three numbers, the result, the plots and the page anew; give their paths.

    `pod`: the result of the capacity bench, else the committed one. `search`: choose the numbers anew, else keep the
    committed result's choice, its share taken of the new capacity.
    """
    curve = ServiceCurve.load(pod or checkout / POD, PRECISION)
    cluster = Cluster()
    capacity = curve.peak(cluster.reader.slots)
    day = Day.make(capacity, DAY_SEED)
    day.write(
        checkout / DAY, f"works a minute of a hospital group's peak day, seed {DAY_SEED}; wetread simulate refresh"
    )
    manifest = Manifest.load(checkout / HPA)
    if search:
        days = [Day.make(capacity, seed) for seed in SEARCHED_DAYS]
        found = list(searching.candidates(days, manifest, curve, cluster, report))
        picked, rows = asdict(searching.chosen(found)), searching.rows(found)
    else:
        told = json.loads((checkout / RESULT).read_text())
        rows, picked = told["search"], told["chosen"]
    target = searching.target_of(picked["share"], curve, cluster.reader.slots)
    write_numbers(checkout / HPA, target, picked["window_s"], picked["tolerance"])
    manifest = Manifest.load(checkout / HPA)
    report("the day, the naive autoscaler's, cold starts and steps")
    outcomes = {
        "shipped": simulate(day, manifest, curve, cluster),
        "CPU alone": simulate(day, naive(manifest), curve, cluster),
    }
    swept = [asdict(row) for row in sweep(day, manifest, curve, cluster)]
    others = {str(seed): simulate(Day.make(capacity, seed), manifest, curve, cluster).numbers() for seed in OTHER_DAYS}
    steps = {
        name: step_outcome(told_manifest, curve, cluster).recovered_after_s(STEP_MINUTE)
        for name, told_manifest in (("shipped", manifest), ("CPU alone", naive(manifest)))
    }
    result = {
        "name": "autoscale",
        "works_per_s_a_pod": round(capacity, 2),
        "day": {"works": round(day.total), "peak_hour_works_per_s": round(day.peak_hour_per_s, 2), "seed": DAY_SEED},
        "cluster": surroundings(cluster),
        "outcomes": {name: seen.numbers() for name, seen in outcomes.items()},
        "other_days": others,
        "step_recovers_s": steps,
        "sweep": swept,
        "search": rows,
        "chosen": picked,
        "figures": {f"shipped_{name}": value for name, value in outcomes["shipped"].numbers().items()},
    }
    (checkout / RESULT).write_text(json.dumps(finite(result), indent=1) + "\n")
    draw_day(checkout / DAY_PLOT, outcomes, capacity)
    draw_search(checkout / SEARCH_PLOT, rows, picked, swept)
    write_page(checkout)
    return [checkout / each for each in (DAY, HPA, RESULT, DAY_PLOT, SEARCH_PLOT, PAGE)]


def write_numbers(hpa: Path, works_per_s: float, window_s: int, tolerance: float) -> None:
    """Write the three numbers that were searched for into the manifest."""
    text, works = _WORKS.subn(rf'\g<1>"{works_per_s:g}"', hpa.read_text())
    text, windows = _WINDOW.subn(rf"\g<1>{window_s}", text)
    text, tolerances = _TOLERANCE.subn(rf'\g<1>"{tolerance:g}"', text)
    if (works, windows, tolerances) != (1, 1, 1):
        raise Unwritable(f"{hpa} lacks wetread_works_per_second's averageValue, or window or tolerance to shrink")
    hpa.write_text(text)


def write_page(checkout: Path) -> None:
    """Write the tables of the page anew from the committed results."""
    page = checkout / PAGE
    page.write_text(page_text(checkout))


def page_text(checkout: Path) -> str:
    """Give the page as the committed results have it; it stands so where nobody forgot to refresh it."""
    pod = json.loads((checkout / POD).read_text())
    result = json.loads((checkout / RESULT).read_text())
    manifest = Manifest.load(checkout / HPA)
    capacity = ServiceCurve.load(checkout / POD, PRECISION).peak(Cluster().reader.slots)
    made = {
        "pod": tables.pod(pod),
        "sizing": tables.sizing(capacity),
        "manifest": tables.manifest(manifest, capacity),
        "day": tables.day(result),
        "others": tables.others(result),
        "sweep": tables.sweep(result),
        "search": tables.search(result),
    }
    text = (checkout / PAGE).read_text()
    for name, table in made.items():
        pattern = re.compile(rf"(<!-- made:{name} -->\n).*?(<!-- /made -->)", re.DOTALL)
        if not pattern.search(text):
            raise Unwritable(f"{PAGE} lacks the marker <!-- made:{name} -->")
        text = pattern.sub(lambda found, table=table: found[1] + table + found[2], text)  # type: ignore[misc]
    return text


def finite(value: Any) -> Any:
    """JSON knows no infinity: what never came is null."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
