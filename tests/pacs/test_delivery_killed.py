from __future__ import annotations

import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from outbox import Outbox, configure
from test_delivery_orthanc import ALL, dimse
from tiers import tried
from wetread_bench.orthanc import missing
from wetread_gateway.state.tables import DeliveryState, WorkState

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pacs, pytest.mark.kills, pytest.mark.skipif(bool(missing()), reason=missing())]

KILLS, RESULTS = tried(2, 20), tried(20, 200)
# The process as the supervisor starts it, but for its lower priority: beside other tests it would hardly get a turn.
PROCESS = "import sys; from wetread_gateway import process; process.NICE.clear(); sys.exit(process.main())"


def test_a_process_killed_again_and_again_delivers_everything_once(orthanc, tmp_path: Path) -> None:
    config = configure(tmp_path, dimse(orthanc, verify="find"))
    outbox = Outbox.open(config)
    works = [outbox.add_result("pacs", classes=ALL) for _ in range(RESULTS)]
    command = [sys.executable, "-c", PROCESS, "delivery", "delivery-0", "--config", str(config)]
    chance = random.Random(9)
    for _ in range(KILLS):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 20.0
        done = outbox.finished(works)
        while outbox.finished(works) == done and time.monotonic() < until:
            time.sleep(chance.uniform(0.0, 0.05))  # the moment of the kill is what is drawn
        process.kill()
        process.wait()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        rows = [outbox.await_delivery(work, DeliveryState.DELIVERED) for work in works]
    finally:
        process.terminate()
        process.wait()
    assert {outbox.row(work).state for work in works} == {WorkState.FINISHED}
    assert [len(orthanc.find(uid)) for row in rows for uid in row.objects] == [1] * (len(works) * len(ALL))
