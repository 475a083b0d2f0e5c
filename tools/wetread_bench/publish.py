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
SHOWN = ("films",)  # in the README; other results stand in docs/benchmarks alone
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
    return pattern.sub(lambda found: found[1] + films_text(document) + found[2], readme)


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
