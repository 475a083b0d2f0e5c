"""Whether the gateway is behind: then the door takes STAT alone."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from wetread_gateway.pressure import Watch

if TYPE_CHECKING:
    from wetread_gateway.context import Context

LOG = logging.getLogger(__name__)
EVERY_S = 0.5


class Pressure:
    """Looks every half second, in a thread of its own, until the process stops."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._watch = Watch(context)
        self.overloaded = False

    def watch(self) -> None:
        """Look until the process stops."""
        while not self._context.stop.is_set():
            try:
                self._watch.look()
                self.overloaded = self._watch.overloaded
            except SQLAlchemyError:
                # The store is away: what comes in is safe in the spool all the same.
                LOG.warning("the age of the queue is not known", exc_info=True)
            self._context.stop.wait(EVERY_S)
