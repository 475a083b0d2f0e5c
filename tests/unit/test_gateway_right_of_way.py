"""STAT has the right of way, for a moment, and never for good."""

from __future__ import annotations

import os
import threading
import time

import pytest
from wetread_gateway import right_of_way
from wetread_gateway.instance import Arrival
from wetread_gateway.priority import Priority
from wetread_gateway.right_of_way import ANSWER_S, LONGEST_S, WINDOW_S, RightOfWay
from wetread_gateway.spool.spool import Spool, is_stat


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test turns; the sign's own time is the real one's."""
    turned = {"s": 0.0}
    real_time, real_monotonic = time.time, time.monotonic
    monkeypatch.setattr(right_of_way.time, "time", lambda: real_time() + turned["s"])
    monkeypatch.setattr(right_of_way.time, "monotonic", lambda: real_monotonic() + turned["s"])
    return turned


def test_nothing_yields_before_the_first_stat(tmp_path):
    assert not RightOfWay(tmp_path).must_yield()


def test_routine_yields_in_every_process_until_the_window_is_over(tmp_path, clock):
    RightOfWay(tmp_path).claim()
    other = RightOfWay(tmp_path)
    assert other.must_yield()
    clock["s"] += WINDOW_S
    assert not other.must_yield()


def test_it_ends_soon_after_the_reading(tmp_path, clock):
    way, other = RightOfWay(tmp_path), RightOfWay(tmp_path)
    way.end()  # nothing to end
    way.claim()
    way.end()
    clock["s"] += ANSWER_S
    assert not other.must_yield()
    way.claim()
    assert other.must_yield()


def test_an_unbroken_row_of_stat_lets_a_routine_step_pass_now_and_then(tmp_path, clock):
    stat, routine = RightOfWay(tmp_path), RightOfWay(tmp_path)
    passed = []
    for step in range(40):
        now = time.time()
        stat.claim()
        os.utime(tmp_path / "stat", (now, now))
        if not routine.must_yield():
            passed.append(step)
        clock["s"] += 0.1
    assert passed
    assert len(passed) < 15
    assert 0.1 * (passed[1] - passed[0]) > LONGEST_S


def test_who_gives_way_goes_on_when_told_to_stop(tmp_path):
    way = RightOfWay(tmp_path)
    way.claim()
    stop = threading.Event()
    stop.set()
    way.give_way(stop)
    assert way.must_yield()  # it came back at once, within the window


def test_a_file_of_the_spool_tells_whether_it_is_stat(tmp_path):
    spool = Spool(tmp_path)
    arrival = {"door": "dimse", "calling_ae": "A", "called_ae": "B", "address": "", "association": "a"}
    for stat in (True, False):
        how = Arrival(**arrival, received_at=time.time(), stat=stat)
        path = spool.open("r", how, "1.2", "1.2.3", "1.2.840.10008.1.2.1").commit()
        assert is_stat(path) is stat
    assert Priority.STAT == 0  # names begin with it
