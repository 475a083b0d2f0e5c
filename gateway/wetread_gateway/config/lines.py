"""On which line of a TOML file a key stands: tomllib does not tell."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

Place: TypeAlias = "tuple[str | int, ...]"
"""A key by its way from the root; the n-th table of `[[peer]]` is ("peer", n)."""


class Lines:
    """The lines of a text that tomllib has read without complaint."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Place, int] = {}
        self._counts: dict[Place, int] = {}
        table: Place = ()
        for number, statement in _statements(text):
            content = tomllib.loads(statement)
            if statement.lstrip().startswith("["):
                table = self._enter(content, number)
            else:
                self._note(table, content, number)

    def line(self, place: Place) -> int:
        """Give the line of `place`, or of the nearest table around it; counted from 1."""
        while place and place not in self._lines:
            place = place[:-1]
        return self._lines.get(place, 1)

    def _enter(self, header: dict[str, object], number: int) -> Place:
        """Give the place of the table that `header` opens; `header` is a chain of dictionaries of one key."""
        place: Place = ()
        node: object = header
        while isinstance(node, dict) and node:
            ((key, node),) = node.items()
            place = (*place, key)
            self._lines.setdefault(place, number)
            if isinstance(node, list):
                self._counts[place] = self._counts.get(place, 0) + 1
                node = node[0]
            if place in self._counts:  # what follows belongs to the last table of the array
                place = (*place, self._counts[place] - 1)
            self._lines.setdefault(place, number)
        return place

    def _note(self, place: Place, value: object, number: int) -> None:
        if place:
            self._lines.setdefault(place, number)
        if isinstance(value, dict):
            for key, inner in value.items():
                self._note((*place, key), inner, number)
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                self._note((*place, index), inner, number)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Give each header and each key with its value, which may take several lines, and the line it begins on."""
    begun, statement = 0, ""
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if not statement:
            begun = number
        statement += line
        try:
            content = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue  # the value goes on
        if content:
            yield begun, statement
        statement = ""
