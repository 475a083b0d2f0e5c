"""Markdown from tables and paragraphs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pydicom.sr.coding import Code

MADE = "<!-- Made by `python -m wetread_gateway.conformance docs/`; do not edit. -->"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Give a table; cells are written as they are, but for what would end them."""
    lines = [_row(header), "|" + "---|" * len(header), *map(_row, rows)]
    return "\n".join(lines)


def document(parts: Iterable[str]) -> str:
    """Join headings, paragraphs and tables with an empty line between them."""
    return "\n\n".join(parts) + "\n"


def numbered(sections: Sequence[tuple[str, Iterable[str]]]) -> Iterator[str]:
    """Give sections with their numbers, from 1."""
    for number, (title, parts) in enumerate(sections, 1):
        yield f"## {number} {title}"
        yield from parts


def code(concept: Code) -> str:
    """Write a coded concept."""
    return f'({concept.value}, {concept.scheme_designator}, "{concept.meaning}")'


def status(value: int) -> str:
    """Write a DIMSE status."""
    return f"`0x{value:04X}`"


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
