"""The load of the swap benchmark: an open timetable, failures counted, and the log that tells of loads."""

from __future__ import annotations

import itertools
import statistics
import threading
import time

import pytest
from wetread_bench.swap_load import SwapLoad, Timetable
from wetread_bench.swap_site import LoadLog


def test_moments_keep_to_the_rate_whatever_the_readers_do() -> None:
    table = Timetable(100.0, 50.0, seed=1)
    moments = [table.next() for _ in range(5000)]
    assert moments == sorted(moments)
    assert statistics.mean(b - a for a, b in itertools.pairwise(moments)) * 50 == pytest.approx(1.0, rel=0.1)
    table.set_rate(200.0)
    later = [table.next() for _ in range(5000)]
    assert later[0] > moments[-1]
    assert (later[-1] - later[0]) * 200 / 5000 == pytest.approx(1.0, rel=0.1)


def test_a_late_moment_is_given_at_once_and_none_after_the_end() -> None:
    stop = threading.Event()
    past = time.monotonic() - 100.0
    table = Timetable(past, 10.0, seed=0)
    moment = table.wait(stop)
    assert moment is not None
    assert moment < time.monotonic() - 90.0  # the latency counts from when it was meant to be sent
    stop.set()
    assert Timetable(time.monotonic() + 1e6, 1.0, seed=0).wait(stop) is None


def test_what_fails_is_written_down_as_failed() -> None:
    load = SwapLoad()
    load._films = [b"film"]
    load.aim([("shm", "http://127.0.0.1:1"), ("plain_http", "http://127.0.0.1:1")])
    load.begin(threads=1, rate=None)
    rows: list[tuple[object, ...]] = []
    deadline = time.monotonic() + 60
    while len(rows) < 2 and time.monotonic() < deadline:
        rows += load.take()
        threading.Event().wait(0.01)
    load.end()
    assert {row[2] for row in rows[:2]} == {"shm", "plain_http"}
    assert all(row[4] == 0 and row[6] for row in rows)


def test_the_log_tells_when_a_model_was_loaded() -> None:
    log = LoadLog()
    began = time.monotonic()
    log('I1 1 model_lifecycle.cc:472] "loading: chest_xray_candidate:2"')
    log("I1 1 grpc_server.cc:1] nothing of interest")
    middle = time.monotonic()
    log('I1 1 model_lifecycle.cc:472] "loading: chest_xray:2"')
    log("I1 1 model_lifecycle.cc:839] \"successfully loaded 'chest_xray'\"")
    ended = time.monotonic()
    everything, own = log.span(began, ended), log.span(began, ended, "chest_xray")
    assert everything is not None
    assert own is not None
    assert began <= everything[0] <= middle <= own[0] <= own[1] <= ended
    assert log.span(ended + 1, ended + 2) is None
    assert log.span(began, ended, "chest_ct") is None
