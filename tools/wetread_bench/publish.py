"""Committed copies of results, and the README's figures, which are read from them."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wetread_bench.encode import TITLES

DOCS = Path("docs") / "benchmarks"
README = Path("README.md")
# In the README; other results stand in docs/benchmarks alone.
SHOWN = ("films", "intake", "chaos", "swap", "volumes", "load")
_COLUMNS = (
    ("in process (the limit)", "limit", 1), ("shared memory", "shm", 8), ("HTTP", "http", 8), ("gRPC", "grpc", 8),
    ("plain stack", "plain", 8),
)  # fmt: skip


class NotPublishable(Exception):
    """A result that must not be shown: partial, quick, or with errors; or a README without its markers."""


def publish(name: str, output: Path, checkout: Path) -> Path:
    """Copy `output/<name>.json` to docs/benchmarks, write the figures that the README shows anew; return the copy.

    Raises:
        NotPublishable: see there.
        FileNotFoundError: there is no result.
    """
    source = output / f"{name}.json"
    document = json.loads(source.read_text())
    if not document["complete"]:
        raise NotPublishable(f"{source} is of a quick, filtered or failed run, or of a busy machine")
    readme = checkout / README
    text = readme.read_text()
    if name in SHOWN:
        text = replaced(text, name, document)
    target = checkout / DOCS / source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    readme.write_text(text)
    return target


def stale(checkout: Path) -> list[str]:
    """The committed results that the README does not show as they are."""
    text = (checkout / README).read_text()
    return [
        path.stem
        for path in sorted((checkout / DOCS).glob("*.json"))
        if path.stem in SHOWN and replaced(text, path.stem, json.loads(path.read_text())) != text
    ]


def replaced(readme: str, name: str, document: Mapping[str, Any]) -> str:
    """The README with the figures between `<!-- figures:NAME -->` and `<!-- /figures -->` written anew."""
    pattern = re.compile(rf"(<!-- figures:{re.escape(name)} -->\n).*?(<!-- /figures -->)", re.DOTALL)
    if not pattern.search(readme):
        raise NotPublishable(f"{README} lacks the marker <!-- figures:{name} -->")
    return pattern.sub(lambda found: found[1] + _TEXTS[name](document) + found[2], readme)


def films_text(document: Mapping[str, Any]) -> str:
    """The figures of the film benchmark as Markdown."""
    rates = {
        (seen["way"], seen["syntax"], seen["concurrency"]): seen["films_per_s"]["median"]
        for seen in document["measurements"]
    }
    lines = ["| films/s | " + " | ".join(title for title, _, _ in _COLUMNS) + " |", "|---|" + "---:|" * len(_COLUMNS)]
    for syntax in dict.fromkeys(seen["syntax"] for seen in document["measurements"]):
        numbers = (rates.get((way, syntax, concurrency)) for _, way, concurrency in _COLUMNS)
        cells = " | ".join("" if number is None else f"{number:.1f}" for number in numbers)
        lines.append(f"| {TITLES[syntax]} | {cells} |")
    machine, figures = document["machine"], document["figures"]
    lines += [
        "",
        f"2048 x 2048 films of 12 bits, 8 at once, {machine['cores']} cores of {machine['cpu']} "
        f"({', '.join(machine['flags'])}); load generator on the same cores; {document['inputs']['count']} "
        f"{document['inputs']['source']}.",
        f"Of the limit: {figures['served_over_limit_raw']:.0%} uncompressed, {figures['served_over_limit_j2k']:.0%} "
        f"JPEG 2000. One film over shared memory takes {figures['p50_over_inprocess_raw']:.2f} times its time in "
        "process.",
    ]
    return "\n".join(lines) + "\n"


def intake_text(document: Mapping[str, Any]) -> str:
    """The figures of the gateway's benchmark as Markdown."""
    figures, seen, machine = document["figures"], document["measurements"], document["machine"]
    latency, best = seen["latency"], seen["best"]
    rows = [
        (f"last byte of a film to its report in the PACS, at {latency['rate']:.0f} films/s",
         f"p50 {figures['film_to_sr_p50_ms']:.0f} ms, p99 {figures['film_to_sr_p99_ms']:.0f} ms"),
        ("films/s from the modality to report and capture in the PACS, the queue standing still",
         f"{figures['films_to_sr_per_s']:.1f} (p50 {best['report_p50_ms']:.0f} ms)" if best else "none"),
        ("the same, over the PACS taking the films itself", f"{figures['trip_over_straight_to_pacs']:.2f}"),
        ("instances/s of 512 KB made durable, over 4 associations",
         f"{figures['instances_per_s']:.0f} (an fsync takes {figures['fsync_ms']:.1f} ms)"),
        ("the same, over a plain pynetdicom receiver with an fsync an instance", f"{figures['door_over_naive']:.2f}"),
        ("a report built", f"{figures['sr_build_ms']:.1f} ms"),
    ]  # fmt: skip
    if "stat_p99_over_unloaded_at_500" in figures:
        rows.append(
            ("p99 of STAT among five times the routine films that can be read, over its p99 alone",
             f"{figures['stat_p99_over_unloaded_at_500']:.2f}")
        )  # fmt: skip
    lines = ["| | |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows), ""]
    lines.append(
        f"2048 x 2048 films of 12 bits, uncompressed, {seen['sustained']['seconds']:.0f} s each; senders, gateway, "
        f"Triton and PACS on the same {machine['cores']} cores of {machine['cpu']}. `wetread bench intake`."
    )
    return "\n".join(lines) + "\n"


def chaos_text(document: Mapping[str, Any]) -> str:
    """The figures of the chaos run as Markdown."""
    figures = {name: round(value) for name, value in document["figures"].items()}
    return (
        f"In one seeded run {figures['acknowledged']:,} instances were acknowledged under {figures['kills']} `kill -9` "
        "of gateway, Triton and its model processes, two failures of the PACS and a full disk: "
        f"**{figures['lost']} lost, {figures['duplicate_srs']} reports twice**; {figures['dead_letter']} of "
        f"{figures['planted_bad']} planted bad films ended with a reason. Counted from the senders' logs and the "
        "PACS's index. `wetread bench chaos`.\n"
    )


def swap_text(document: Mapping[str, Any]) -> str:
    """The figures of the swap benchmark as Markdown."""
    figures, seen, machine = document["figures"], document["measurements"], document["machine"]
    published = [step for step in seen["steps"] if step["step"] == "publish"]
    broken = sum(1 for step in published if step["refused"])
    promotes = sum(1 for step in seen["steps"] if step["step"] == "promote")
    quiet, light = seen["latency_ms"]["quiet at 70 %"]["shm"], seen["latency_ms"]["quiet at 40 %"]["shm"]
    return (
        f"In one run {len(published)} releases were published while films were read without a pause; {broken} of them, "
        f"broken on purpose, were refused, and {promotes} were promoted and rolled back. Of "
        f"{round(figures['requests']):,} requests, over shared memory and by plain Triton clients over HTTP and gRPC, "
        f"**{round(figures['failed'])} failed, and {round(figures['unattributed'])} answers belong to no release**. At "
        f"70 % of capacity the p99 around promotes and rollbacks is {figures['p99_swap_over_quiet']:.2f} times the "
        f"quiet one ({quiet['p99_ms']:.0f} ms); at 40 % it is, while a release is loaded beside, "
        f"{figures['p99_publish_over_quiet']:.2f} times the quiet one ({light['p99_ms']:.0f} ms). The server's memory "
        f"afterwards is {figures['rss_after_over_before']:.2f} times that before. Load and server on the same "
        f"{machine['cores']} cores of {machine['cpu']}. `wetread bench swap`.\n"
    )


def volumes_text(document: Mapping[str, Any]) -> str:
    """The figures of the benchmark of CT and MR series as Markdown."""
    figures, machine = document["figures"], document["machine"]
    medians = {
        (row["step"], row["input"], row["way"], row["threads"]): row["ms"]["median"]
        for row in document["measurements"]["rows"]
    }
    lines = ["| ms | Wetread | others |", "|---|---:|---|"]
    for title, step, series, threads in _VOLUME_ROWS:
        ours = medians[step, series, "wetread", threads]
        others = [
            f"{way} {ms:,.0f}" for (other, of, way, count), ms in medians.items()
            if (other, of, count) == (step, series, threads) and way != "wetread"
        ]  # fmt: skip
        lines.append(f"| {title} | {ours:,.0f} | {', '.join(others)} |")
    lines += [
        "",
        f"A CT of 100 x 512 x 512 and an MR of 384 x 384 x 274, {machine['cores']} cores of {machine['cpu']}, all ways "
        f"in turns in one run. The peak of memory of a whole CT is {figures['peak_memory_over_output']:.2f} times its "
        f"float32 result; resampled values differ from SimpleITK's by at most {figures['resample_max_difference']:.0e} "
        f"of the range, N4's field by {abs(figures['n4_field_difference']):.1g} %. `wetread bench volumes`.",
    ]
    return "\n".join(lines) + "\n"


def load_text(document: Mapping[str, Any]) -> str:
    """The figures of the load benchmark as Markdown."""
    figures, seen, machine = document["figures"], document["measurements"], document["machine"]
    at_80, at_300 = seen["at_80"], seen["at_300"]
    return (
        f"One core of {machine['cpu']} with the whole stack on it, door, spool, Triton, reports, reads "
        f"**{figures['capacity_per_s']:.1f} films a second** that arrive at random (nothing refused, p99 at most 3 "
        f"times that of a film alone, {seen['unloaded_p99_ms']:.0f} ms). "
        f"{at_80['seconds'] / 60:.0f} minutes at 80 % of it: "
        f"{at_80['offered']:,} films, {at_80['refused']} refused, **{at_80['lost']} lost**, p99 "
        f"{figures['p99_over_unloaded_at_80']:.2f} times. {at_300['seconds']:.0f} s at 300 %: goodput "
        f"{figures['goodput_at_300']:.0%} of capacity, {at_300['refused']:,} refused, "
        f"{at_300['refused_before_body']:,} of them before the body was sent, {at_300['lost']} lost; STAT's p99 is "
        f"{figures['stat_p99_over_unloaded_at_300']:.2f} times that of a film alone. Films of 512 KB over "
        "`POST /v1/read`, open loop; the generator has the other core. `wetread bench load`.\n"
    )


_VOLUME_ROWS = (
    ("CT to 1 mm, linear, one core", "resample, linear", "ct", 1),
    ("the same, anti-aliased", "resample, linear, anti-aliased", "ct", 1),
    ("whole CT, files to tensor, two cores", "series, files to tensor", "ct", 2),
    ("whole MR, files to tensor, two cores", "series, files to tensor", "mr", 2),
    ("non-local means in 3D, a crop, one core", "non-local means 3D", "mr", 1),
    ("N4 of the MR, two cores", "N4", "mr", 2),
)
_TEXTS = {
    "films": films_text, "intake": intake_text, "chaos": chaos_text, "swap": swap_text, "volumes": volumes_text,
    "load": load_text,
}  # fmt: skip
