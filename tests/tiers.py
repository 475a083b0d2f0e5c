"""How often a tier of the tests tries: `make test` as little as proves a promise, `make test-full` in full."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from _pytest.mark.structures import ParameterSet

IS_FULL = os.environ.get("WETREAD_TIER") == "full"
Value = TypeVar("Value")


def tried(small: Value, full: Value) -> Value:
    """Return what a test tries: `small` in `make test`, `full` in `make test-full`."""
    return full if IS_FULL else small


def only_full(*values: object) -> list[ParameterSet]:
    """Return values of a parameter that only `make test-full` tries; a tuple is one row of several parameters."""
    rows = [value if isinstance(value, tuple) else (value,) for value in values]
    return [pytest.param(*row, marks=pytest.mark.full) for row in rows]
