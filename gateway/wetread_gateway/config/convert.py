"""TOML's values into the frozen dataclasses of the settings, every mistake noted with its place."""

from __future__ import annotations

import types
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, cast, get_args, get_origin, get_type_hints

from wetread_gateway.config.bounds import BOUNDS

if TYPE_CHECKING:
    from dataclasses import Field

    from wetread_gateway.config.lines import Place

T = TypeVar("T")
_SAID: dict[type, str] = {
    str: "a text in quotes",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Path: "a path in quotes",
}
_EXAMPLE: dict[type, str] = {str: '"..."', int: "4", float: "2.5", bool: "true", Path: '"/etc/wetread/..."'}
MADE_BY_US = frozenset({"Gateway.state_dir"})
"""Paths that need not be there yet."""
_STAND_IN: dict[type, object] = {str: "", int: 0, float: 0.0, bool: False, Path: Path()}


class Mistake(NamedTuple):
    """What is wrong at a place, and how to mend it."""

    place: Place
    what: str
    remedy: str


class Converter:
    """Makes dataclasses of tables. A value that is wrong is noted in `mistakes` and its default taken instead.

    `folder`: what relative paths are relative to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.mistakes: list[Mistake] = []

    def table(self, cls: type[T], content: object, place: Place) -> T:
        """Give a `cls` of the table `content`."""
        if not isinstance(content, dict):
            remedy = f"write [{_name(place)}] above its keys"
            self._note(place, f"{_name(place)} is {_is(content)}, not a table", remedy)
            content = {}
        known = {field.name: field for field in fields(cast("Any", cls))}
        hints = get_type_hints(cls, localns={"Path": Path})
        for key in content:
            if key not in known:
                self._unknown(key, list(known), place)
        values = {
            name: self._field(cls, field, hints[name], content, place)
            for name, field in known.items()
            if name in content or not _has_default(field)
        }
        return cls(**values)

    def _field(self, cls: type, field: Field[object], hint: Any, content: dict[str, object], place: Place) -> object:
        where = (*place, field.name)
        if field.name not in content:
            self._missing(cls, field, hint, where)
            return _STAND_IN[hint] if hint in _STAND_IN else Converter(self._folder).table(hint, {}, ())
        found = len(self.mistakes)
        value = self._value(hint, content[field.name], where)
        limit = BOUNDS.get(f"{cls.__name__}.{field.name}")
        if limit and len(self.mistakes) == found:
            complaint = limit.complaint(cast("Any", value))
            if complaint:
                default = f" (the default is {_toml(field.default)})" if field.default not in (MISSING, (), "") else ""
                self._note(where, f"{_name(where)}: {complaint}", f"give another value{default}")
        if isinstance(value, Path) and len(self.mistakes) == found:
            value = self._path(value, f"{cls.__name__}.{field.name}", where)
        if field.default is not MISSING and any(mistake.place == where for mistake in self.mistakes[found:]):
            return field.default
        return value

    def _value(self, hint: Any, value: object, place: Place) -> object:
        """Give `value` as `hint` has it."""
        if isinstance(hint, types.UnionType):
            (hint,) = (option for option in get_args(hint) if option is not type(None))
        if is_dataclass(hint) and isinstance(hint, type):
            return self.table(hint, value, place)
        if get_origin(hint) is tuple:
            return self._list(get_args(hint)[0], value, place)
        if get_origin(hint) is Literal:
            return self._choice(get_args(hint), value, place)
        return self._simple(hint, value, place)

    def _list(self, hint: Any, value: object, place: Place) -> tuple[object, ...]:
        if isinstance(value, list):
            return tuple(self._value(hint, item, (*place, index)) for index, item in enumerate(value))
        if is_dataclass(hint):
            remedy = f"write [[{_name(place)}]] with two brackets above each of them"
            self._note(place, f"{_name(place)} is one table, not a list of them", remedy)
        else:
            example = f'["{value}"]' if isinstance(value, str) else f"[{_EXAMPLE[hint]}]"
            self._note(place, f"{_name(place)} is {_is(value)}, not a list", f"write {place[-1]} = {example}")
        return ()

    def _choice(self, options: tuple[str, ...], value: object, place: Place) -> object:
        if value not in options:
            offered = ", ".join(f'"{option}"' for option in options)
            remedy = f"write one of {offered}" + _did_you_mean(value, list(options))
            self._note(place, f"{_name(place)}: {value!r} is none of its values", remedy)
            return options[0]
        return value

    def _simple(self, hint: type, value: object, place: Place) -> object:
        taken = str if hint is Path else hint
        if type(value) is taken and not (hint is Path and not value):
            return cast("object", hint(value))
        if hint is float and type(value) is int:
            return float(value)
        remedy = f"write {_SAID[hint]}, such as {_EXAMPLE[hint]}"
        self._note(place, f"{_name(place)} is {_is(value)}, not {_SAID[hint]}", remedy)
        return _STAND_IN[hint]

    def _path(self, path: Path, field: str, place: Place) -> Path:
        path = self._folder / path.expanduser()
        if field not in MADE_BY_US and not path.is_file():
            what = "is no file" if path.exists() else "does not exist"
            self._note(place, f"{_name(place)}: {path} {what}", "correct the path or put the file there")
        return path

    def _unknown(self, key: str, known: list[str], place: Place) -> None:
        where = f"in [{_name(place)}]" if place else "at the top"
        remedy = _did_you_mean(key, known).lstrip("; ") or f"known are {', '.join(known)}"
        self._note((*place, key), f"unknown key {key!r} {where}", remedy)

    def _missing(self, cls: type, field: Field[object], hint: Any, where: Place) -> None:
        if is_dataclass(hint):
            needed = next(inner.name for inner in fields(hint) if not _has_default(inner))
            self._note(where, f"[{field.name}] is missing", f'add [{field.name}] with {needed} = "..."')
        else:
            table = f"[{_name(where[:-1])}]"
            self._note(where, f"{field.name} is missing in {table}", f"add {field.name} = {_EXAMPLE[hint]} to it")

    def _note(self, place: Place, what: str, remedy: str) -> None:
        self.mistakes.append(Mistake(place, what, remedy))


def _has_default(field: Field[object]) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _name(place: Place) -> str:
    """Write a place as TOML does; the number of a table in a list is not part of its header."""
    return ".".join(str(part) for part in place if isinstance(part, str))


def _is(value: object) -> str:
    said = {bool: "true or false", dict: "a table", list: "a list", str: f"the text {value!r}"}
    return said.get(type(value), f"{value}")


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)


def _did_you_mean(word: object, known: list[str]) -> str:
    close = get_close_matches(str(word), known, n=1)
    return f'; did you mean "{close[0]}"?' if close else ""
