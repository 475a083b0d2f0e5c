"""A batch gives way to a real gateway's door, over its spool and its store."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import insert, update
from web_door import instance, open_door, settings_for, waiting_work
from wetread_client.batch import pace as module
from wetread_client.batch.gateway_queue import GatewayQueue
from wetread_client.batch.pace import Pace
from wetread_gateway.state.tables import WORKS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_what_a_gateway_has_to_read_is_told_from_spool_and_store(tmp_path: Path):
    with open_door(settings_for(tmp_path)) as door:
        queue = GatewayQueue(door.url)
        assert queue.waiting() == 0
        for _ in range(2):
            assert door.stow(instance()[1]).status_code in (200, 202)
        assert queue.waiting() == 2
        with door.context.store.write() as connection:
            connection.execute(insert(WORKS).values(waiting_work(age_s=1)))
        assert queue.waiting() == 3


def test_a_batch_waits_until_the_gateway_has_read_its_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    with open_door(settings_for(tmp_path)) as door:
        with door.context.store.write() as connection:
            connection.execute(insert(WORKS).values(waiting_work(age_s=1)))
        looked, asked, sent = threading.Event(), GatewayQueue(door.url), threading.Event()

        class Watched:
            def waiting(self) -> int:
                found = asked.waiting()
                looked.set()
                return found

        def send() -> None:
            pace.await_leave()
            sent.set()

        pace = Pace(queue=Watched())
        thread = threading.Thread(target=send)
        thread.start()
        assert looked.wait(10)
        assert not sent.is_set()
        with door.context.store.write() as connection:
            connection.execute(update(WORKS).values(state="reported"))
        thread.join(10)
        assert sent.is_set()
