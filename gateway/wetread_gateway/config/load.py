"""Read the configuration strictly: every mistake at once, with file, line and remedy."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

from wetread_gateway.config.consistency import contradictions
from wetread_gateway.config.convert import Converter
from wetread_gateway.config.lines import Lines
from wetread_gateway.config.settings import Settings
from wetread_gateway.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from wetread_gateway.config.convert import Mistake
    from wetread_gateway.config.lines import Place


def load(file: Path) -> Settings:
    """Read a configuration; relative paths in it are relative to its folder.

    ConfigError names all mistakes, one a line, as `file:line: what is wrong; remedy`.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file; `wetread gateway init {file}` writes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: it cannot be read as text: {error}") from error
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        number = int(line[1]) if line else text.count("\n") + 1
        raise ConfigError(f"{file}:{number}: this is no TOML: {error}; see https://toml.io") from None
    converter = Converter(file.absolute().parent)
    settings = converter.table(Settings, content, ())
    mistakes = [*converter.mistakes, *_news(settings, converter.mistakes)]
    if mistakes:
        lines = Lines(text)
        found = sorted({(lines.line(place), f"{what}; {remedy}") for place, what, remedy in mistakes})
        raise ConfigError("\n".join(f"{file}:{line}: {what}" for line, what in found))
    return settings


def _news(settings: Settings, known: list[Mistake]) -> list[Mistake]:
    """Give the contradictions that do not merely follow from a value being wrong in itself."""
    wrong = {mistake.place for mistake in known}
    spoilt = {place[0] for place in wrong if place}
    return [
        found
        for found in contradictions(settings)
        if not any(_touches(found.place, place) for place in wrong)
        and not (found.place[0] == "rule" and "destination" in spoilt)
    ]


def _touches(place: Place, other: Place) -> bool:
    """Whether two places are the same or one is within the other."""
    return place[: len(other)] == other or other[: len(place)] == place
