"""Whoever waits for a reading is woken for his own study, not for every other's."""

from __future__ import annotations

import asyncio

from sqlalchemy import insert
from web_door import STUDY, make_context, settings_for, waiting_work
from wetread_gateway.state.tables import WORKS
from wetread_gateway.web.waiting import Waiting

OTHER = STUDY + ".2"


def test_a_ring_wakes_those_alone_whose_study_has_moved(tmp_path):
    context = make_context(settings_for(tmp_path))

    async def run() -> tuple[bool, bool]:
        waiting = Waiting(context)
        waiting.start()
        try:
            with waiting.ringing(STUDY) as mine, waiting.ringing(OTHER) as other:
                with context.store.write() as connection:
                    connection.execute(insert(WORKS).values(waiting_work(0) | {"state": "read"}))
                    connection.execute(
                        insert(WORKS).values(waiting_work(0) | {"study_uid": OTHER, "sources_digest": "other"})
                    )
                context.ring("door")
                async with asyncio.timeout(10):
                    await mine.wait()
                return mine.is_set(), other.is_set()
        finally:
            await waiting.stop()

    assert asyncio.run(run()) == (True, False)


def test_nobody_waits_at_a_door_that_closes(tmp_path):
    context = make_context(settings_for(tmp_path))

    async def run() -> bool:
        waiting = Waiting(context)
        waiting.start()
        with waiting.ringing(STUDY) as rung:
            context.stop.set()
            async with asyncio.timeout(10):
                await rung.wait()
            await waiting.stop()
            return waiting.is_over

    assert asyncio.run(run())
