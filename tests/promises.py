"""docs/promises.md: what the documents promise, and the test that proves it in each tier.

`python tests/promises.py` sorts the page's tests into the columns of their tiers.
"""

from __future__ import annotations

import ast
import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "promises.md"
TIERS = ("check", "test", "full")
CHECK_RUNS = ("unit", "contract", "tests")
"""Folders that `make check` collects."""
NOT_IN_CHECK = {"triton", "pacs", "slow"}
ONLY_IN_FULL = {"full"}
_HEADER = "| Promise | `make check` | `make test` | `make test-full` |\n|---|---|---|---|"
_SECTION = re.compile(r"^## \[(?P<page>[^\]]+)\]\(.+\)$")


@dataclass(frozen=True)
class Promise:
    """A sentence of a page, and the tests that prove it, as `module.py::test` or `module.py::Class::test`."""

    page: str
    sentence: str
    tests: tuple[str, ...]


class NoSuchTest(Exception):
    """The page names a test that does not exist."""


def read(text: str) -> list[Promise]:
    """Return the promises of the page, in its order."""
    found, page = [], ""
    for line in text.splitlines():
        if match := _SECTION.match(line):
            page = match["page"]
        elif page and line.startswith("| ") and not line.startswith("| Promise "):
            sentence, *columns = [cell.strip() for cell in line.strip("|").split("|")]
            tests = tuple(test for column in columns for test in re.findall(r"`([^`]+)`", column))
            found.append(Promise(page, sentence, tests))
    return found


def write(text: str, promises: list[Promise]) -> str:
    """Return the page with its introduction as it is, and its tables made anew."""
    introduction = text.split("\n## [", maxsplit=1)[0].rstrip()
    sections = []
    for page in dict.fromkeys(promise.page for promise in promises):
        rows = [_row(promise) for promise in promises if promise.page == page]
        link = page if page.startswith("docs/") else f"docs/../{page}"
        sections.append("\n".join([f"## [{page}]({Path(link).relative_to('docs')})", "", _HEADER, *rows]))
    return "\n\n".join([introduction, *sections]) + "\n"


def tier(test: str) -> str:
    """Return the cheapest tier that runs a test; NoSuchTest where its module or name is unknown."""
    module, *names = test.split("::")
    if module not in _modules():
        raise NoSuchTest(f"{test}: no test module {module}")
    path = _modules()[module]
    marks = _marks(_tree(path), names)
    if marks is None:
        raise NoSuchTest(f"{test}: {module} has no such test")
    return (
        "full"
        if marks & ONLY_IN_FULL
        else "test"
        if marks & NOT_IN_CHECK or path.parent.name not in CHECK_RUNS
        else "check"
    )


def _row(promise: Promise) -> str:
    cells = [[f"`{test}`" for test in promise.tests if tier(test) == each] for each in TIERS]
    return "| " + " | ".join([promise.sentence, *("<br>".join(cell) for cell in cells)]) + " |"


@functools.cache
def _modules() -> dict[str, Path]:
    return {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _marks(tree: ast.Module, names: list[str]) -> set[str] | None:
    """Return the markers of a test with those of its class and module; None where there is no such test."""
    found, body = _of_body(tree.body), tree.body
    for name in names:
        node = next((each for each in body if getattr(each, "name", None) == name), None)
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            return None
        found |= set().union(*map(_names, node.decorator_list), _of_body(node.body))
        body = node.body
    return found


def _of_body(body: list[ast.stmt]) -> set[str]:
    """Return the markers of the assignment to pytestmark in a module or class."""
    values = [node.value for node in body if isinstance(node, ast.Assign) and _is_pytestmark(node)]
    return set().union(*map(_names, values))


def _is_pytestmark(node: ast.Assign) -> bool:
    return any(isinstance(target, ast.Name) and target.id == "pytestmark" for target in node.targets)


def _names(node: ast.expr) -> Iterator[str]:
    """Yield each NAME of pytest.mark.NAME."""
    for each in ast.walk(node):
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Attribute) and each.value.attr == "mark":
            yield each.attr


if __name__ == "__main__":
    PAGE.write_text(write(PAGE.read_text(), read(PAGE.read_text())))
