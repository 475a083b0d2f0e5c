"""The films of the load, for what is not locust: every call gives another."""

from __future__ import annotations

import importlib
import itertools
import secrets
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def film_maker(checkout: Path) -> Callable[[], bytes]:
    """Give a function that gives a new film; the load's own, which are no part of an installed package."""
    folder = str(checkout / "client" / "loadtest")
    if folder not in sys.path:
        sys.path.append(folder)
    films = importlib.import_module("wetread_loadtest.films").Films(secrets.randbelow(1 << 31))
    numbers = itertools.count(1)

    def make() -> bytes:
        film: bytes = films.film(next(numbers))[1]
        return film

    return make
