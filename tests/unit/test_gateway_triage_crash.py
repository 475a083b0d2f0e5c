"""kill -9 at any moment loses no instance and sorts none twice."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from pydicom.uid import RLELossless
from test_gateway_triage_series import a_slice
from tiers import tried
from triage_site import PIXELS, Site, instance
from waiting import wait_for

KILLS = tried(12, 40)
UNIT = Path(__file__).parent


def batches() -> list[list[bytes]]:
    """Seven or eight instances a kill, of every sort, some to come together, in the order in which they come."""
    made = []
    for number in range(KILLS):
        uid = f"1.2.50.{number}"
        own = {"StudyInstanceUID": uid, "SeriesInstanceUID": f"{uid}.1", "PatientID": f"P{number}"}
        sent = [instance(f"{uid}.1.{image}", PIXELS + image, **own) for image in range(4)]
        sent.append(instance(f"{uid}.1.1", PIXELS + 1, syntax=RLELossless, **own))
        sent.append(instance(f"{uid}.1.2", PIXELS + 2, **own | {"PatientID": f"Q{number}"}))
        sent.append(instance(f"{uid}.1.9", Modality="MG", **own))
        sent.append(a_slice(number + 1, StudyInstanceUID="1.2.60", SeriesInstanceUID="1.2.60.1"))
        made.append(sent)
    return [batch[: 8 if at < KILLS // 2 else 7] for at, batch in enumerate(made)]


@pytest.mark.slow
def test_kills_lose_no_instance_and_sort_none_twice(tmp_path):
    chance = random.Random(20)
    site = Site(tmp_path)
    names, killed = [], 0
    environment = os.environ | {"PYTHONPATH": f"{UNIT}:{UNIT.parent}"}
    command = [sys.executable, str(UNIT / "triage_child.py"), str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as forks:
        for batch in batches():
            names += [site.arrive(data) for data in batch]
            forks.stdin.write("\n")
            forks.stdin.flush()
            child = int(forks.stdout.readline())
            if not killed:
                assert wait_for(site.instances), "no child does anything"
            time.sleep(chance.uniform(0.0, 0.4))  # the moment is the point
            killed += 1
            os.kill(child, signal.SIGKILL)
            assert forks.stdout.readline() == "ended\n"
        forks.stdin.close()
    site.settle()
    site.later(60)  # the children's clock was the real one
    rows = site.instances()
    assert sorted(row.arrival for row in rows) == sorted(names)
    assert site.files(".") == sorted(names)
    assert all((tmp_path / "spool" / row.path).is_file() for row in rows)
    states = Counter(row.state for row in rows)
    assert states == {"sorted": 4 * KILLS + KILLS // 2, "corrected": KILLS, "duplicate": KILLS, "unmatched": KILLS}
    works = site.works()
    assert max(Counter((work.sources_digest, work.number) for work in works).values()) == 1
    sources = Counter(source for work in works if work.state != "superseded" for source in work.sources)
    assert set(sources.values()) == {1}
    read = {row.id for row in rows if row.state == "sorted"}
    assert set(sources) == read
    site.close()
