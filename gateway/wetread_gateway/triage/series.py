"""When a series of several images is whole, and what is made of it then."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sqlalchemy import select

from wetread_gateway.state.tables import SERIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from wetread_gateway.context import Context


class SeriesWatch:
    """Watches the open series."""

    def __init__(self, context: Context, clock: Callable[[], float] = time.time) -> None:
        self._context = context
        self._clock = clock

    def check(self) -> bool:
        """Make works of the series that are whole; False when there are none."""
        with self._context.store.read() as connection:
            connection.execute(select(SERIES).where(SERIES.c.is_open)).all()
        return False

    def close(self) -> None:
        """Stop asking."""
