"""Wakes the requests that wait for a reading: one doorbell, and one question to the store, for all of them."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import select, union
from sqlalchemy.exc import SQLAlchemyError

from wetread_gateway.state.tables import INSTANCES, WORKS, InstanceState
from wetread_gateway.web.outcome import OVER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wetread_gateway.context import Context


LOG = logging.getLogger(__name__)


class Waiting:
    """A thread that waits at the door's bell and wakes those for whom something is there. `start` it within the loop.

    If it woke everybody, every reading would cost as many looks as requests wait: an overload would feed itself.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._rung: defaultdict[str, set[asyncio.Event]] = defaultdict(set)  # by study; of the loop's thread alone
        self._studies: tuple[str, ...] = ()

    @property
    def is_over(self) -> bool:
        """Whether the door closes: nobody should wait any longer."""
        return self._stop.is_set() or self._context.stop.is_set()

    def start(self) -> None:
        """Begin to listen."""
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._listen, args=(loop,), name="door bell", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Listen no more; whoever waits is woken."""
        self._stop.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
        self._wake(self._studies)

    @contextmanager
    def ringing(self, study_uid: str) -> Iterator[asyncio.Event]:
        """Give what is set within a quarter of a second when something of a study may have come to its end."""
        rung = asyncio.Event()
        self._rung[study_uid].add(rung)
        self._studies = tuple(self._rung)
        try:
            yield rung
        finally:
            self._rung[study_uid].discard(rung)
            if not self._rung[study_uid]:
                del self._rung[study_uid]
            self._studies = tuple(self._rung)

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        bell = self._context.bell("door")
        while not self.is_over:
            bell.wait(0.25)  # rung or not: a ring may be lost, and some changes ring nothing
            if studies := self._studies:
                loop.call_soon_threadsafe(self._wake, self._moved(studies))
        bell.close()
        loop.call_soon_threadsafe(self._wake, self._studies)  # nobody should wait any longer

    def _moved(self, studies: tuple[str, ...]) -> tuple[str, ...]:
        """Give those that have a work which is over, or an instance that is not read; all where that is not known."""
        over = select(WORKS.c.study_uid).where(WORKS.c.study_uid.in_(studies), WORKS.c.state.in_(OVER))
        aside = select(INSTANCES.c.study_uid).where(
            INSTANCES.c.study_uid.in_(studies), INSTANCES.c.state != InstanceState.SORTED
        )
        try:
            with self._context.store.read() as connection:
                return tuple(connection.execute(union(over, aside)).scalars())
        except SQLAlchemyError:
            LOG.warning("the store is away: whoever waits looks for himself", exc_info=True)
            return studies

    def _wake(self, studies: tuple[str, ...]) -> None:
        for study_uid in studies:
            for rung in self._rung.get(study_uid, ()):
                rung.set()
