"""One line of the doctor's report."""

from __future__ import annotations

from typing import NamedTuple


class Check(NamedTuple):
    """What was looked at, and what was found. `fine` is None where it works but somebody should know.

    `detail` says how to mend what is not fine.
    """

    name: str
    fine: bool | None
    detail: str
