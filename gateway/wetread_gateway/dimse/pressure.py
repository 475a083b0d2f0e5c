"""Whether the gateway is behind: then the door takes STAT alone."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from wetread_gateway.priority import Priority
from wetread_gateway.state.tables import WORKS, WorkState

if TYPE_CHECKING:
    from wetread_gateway.context import Context
    from wetread_gateway.state.store import StateStore

LOG = logging.getLogger(__name__)
EVERY_S = 1.0


def oldest_waiting_s(store: StateStore) -> float:
    """Give the age of the oldest work, STAT aside, that has not been read; 0 when there is none."""
    query = select(func.min(WORKS.c.created_at)).where(
        WORKS.c.state.in_((WorkState.WAITING, WorkState.LEASED)), WORKS.c.priority != Priority.STAT
    )
    with store.read() as connection:
        oldest = connection.execute(query).scalar()
    return 0.0 if oldest is None else time.time() - float(oldest)


class Pressure:
    """Looks every second, in a thread of its own, until the process stops."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.age_s = 0.0

    @property
    def overloaded(self) -> bool:
        """Whether routine work has waited too long."""
        return self.age_s > self._context.settings.intake.overload_age_s

    def watch(self) -> None:
        """Look until the process stops."""
        while not self._context.stop.is_set():
            try:
                self.age_s = oldest_waiting_s(self._context.store)
            except SQLAlchemyError:
                # The store is away: what comes in is safe in the spool all the same.
                LOG.warning("the age of the queue is not known", exc_info=True)
            self._context.stop.wait(EVERY_S)
