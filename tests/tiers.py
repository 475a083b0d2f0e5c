"""How often a tier of the tests tries: `make test` as little as proves a promise, `make test-full` in full."""

from __future__ import annotations

import os

IS_FULL = os.environ.get("WETREAD_TIER") == "full"


def tried(small: int, full: int) -> int:
    """Return how often a test tries: `small` times in `make test`, `full` times in `make test-full`."""
    return full if IS_FULL else small
