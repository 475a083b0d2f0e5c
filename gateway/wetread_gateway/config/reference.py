"""The reference of all settings, made from the dataclasses: `python -m wetread_gateway.config.reference FILE`."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args, get_origin, get_type_hints

from wetread_gateway.config import settings
from wetread_gateway.config.bounds import BOUNDS, Range

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADERS = {  # what a list of tables, or a table within one, is written as
    "Peer": "[[peer]]",
    "Destination": "[[destination]]",
    "Rule": "[[rule]]",
    "Match": "[rule.match]",
    "Tls": "[dicom.tls]",
    "HttpTls": "[http.tls]",
}
_TYPES = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}


def reference() -> str:
    """Give the reference as Markdown."""
    lines = [
        "# Settings of the gateway",
        "",
        "<!-- Made by `python -m wetread_gateway.config.reference docs/gateway-settings.md`; do not edit. -->",
        "",
        "The configuration is a TOML file, read strictly: an unknown key, a wrong type or a value out of range is",
        "refused with its line and the remedy. `wetread gateway init` writes one, `wetread gateway check` reads it.",
        "A changed file is taken up without a restart, but for addresses, ports, TLS and the numbers of processes.",
        "Relative paths are relative to the file. Secrets stand in files of their own.",
    ]
    docs = _field_docs()
    for cls in _classes():
        lines += ["", f"## `{_header(cls)}`", "", str(cls.__doc__), ""]
        lines += ["| key | type | default | what it is |", "|---|---|---|---|", *_rows(cls, docs[cls.__name__])]
    return "\n".join(lines) + "\n"


def _classes() -> Iterator[type]:
    """Give the tables in the order of the file, without the root; those of TLS come last."""
    found = [value for value in vars(settings).values() if dataclasses.is_dataclass(value)]
    for value in sorted(found, key=lambda cls: cls in (settings.Tls, settings.HttpTls)):
        if value is not settings.Settings:
            yield cast("type", value)


def _header(cls: type) -> str:
    return _HEADERS.get(cls.__name__, f"[{cls.__name__.lower()}]")


def _field_docs() -> dict[str, dict[str, str]]:
    """Read the string below each field: Python keeps none of them."""
    docs: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(settings)).body:
        if isinstance(node, ast.ClassDef):
            own = docs.setdefault(node.name, {})
            for field, below in zip(node.body, node.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    own[field.target.id] = _string(below)
    return docs


def _string(node: ast.stmt) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return " ".join(node.value.value.split())
    return ""


def _rows(cls: type, docs: dict[str, str]) -> Iterator[str]:
    hints = get_type_hints(cls, localns={"Path": Path})
    for field in dataclasses.fields(cast("Any", cls)):
        if dataclasses.is_dataclass(_inner(hints[field.name])):
            continue  # a table of its own
        kind = _kind(hints[field.name], f"{cls.__name__}.{field.name}")
        yield f"| `{field.name}` | {kind} | {_default(field)} | {docs[field.name].replace('|', chr(92) + '|')} |"


def _inner(hint: Any) -> Any:
    """Give the type without `None`."""
    if isinstance(hint, types.UnionType):
        (hint,) = (option for option in get_args(hint) if option is not type(None))
    return hint


def _kind(hint: Any, name: str) -> str:
    hint = _inner(hint)
    if get_origin(hint) is Literal:
        return ", ".join(f'`"{option}"`' for option in get_args(hint))
    if get_origin(hint) is tuple:
        return f"list of {_TYPES[get_args(hint)[0]]}s"
    limit = BOUNDS.get(name)
    if isinstance(limit, Range):
        return f"{_TYPES[hint]}, {_number(limit.least)} to {_number(limit.most)}"
    return _TYPES[hint]


def _default(field: dataclasses.Field[object]) -> str:
    if field.default is dataclasses.MISSING:
        return "(needed)"
    if field.default in (None, "", ()):
        return "-"
    return f"`{_toml(field.default)}`"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return _number(cast("float", value))


def _number(value: float) -> str:
    if isinstance(value, float) and not value.is_integer():
        return f"{value:g}"
    return f"{int(value):_}" if value >= 100_000 else str(int(value))


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
