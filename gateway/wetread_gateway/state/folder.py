"""Whose a state folder is: an intake's name stays with its spool."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from wetread_gateway.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

_FILE = "name"


def remembered(folder: Path) -> str:
    """Give the name of the intake that works in a state folder; empty for one without a name."""
    try:
        return (folder / _FILE).read_text("utf-8").strip()
    except FileNotFoundError:
        return ""


def claim(folder: Path, name: str) -> bool:
    """Write the name down, durably; True when it is new. ConfigError when the folder is another intake's."""
    known = remembered(folder)
    if known == name:
        return False
    if known:
        raise ConfigError(
            f"{folder} is the state folder of the intake {known!r}, not of {name!r}: its spool's rows are under that "
            "name; give each intake a folder of its own"
        )
    half = folder / f".{_FILE}"
    half.write_text(f"{name}\n", "utf-8")
    with half.open("rb") as file:
        os.fsync(file.fileno())
    half.rename(folder / _FILE)
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
    return True
