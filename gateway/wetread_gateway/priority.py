"""How urgent a piece of work is."""

from __future__ import annotations

from enum import IntEnum


class Priority(IntEnum):
    """The order of work, smallest first; STAT also passes an overloaded door and has slots of its own."""

    STAT = 0
    URGENT = 1
    ROUTINE = 2
