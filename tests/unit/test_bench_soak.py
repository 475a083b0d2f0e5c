from __future__ import annotations

import dataclasses
import json
import os

import pytest
from wetread_bench.machine import Machine
from wetread_bench.soak import Sample, Soak, memory_mib, slope


def soak_of(growth: float, requests: int = 200_000, warm_up: float = 300.0) -> Soak:
    """A soak whose server grows by `growth` MiB per 10,000 requests once it is warm."""
    steps = range(0, requests + 1, requests // 100)
    series = tuple(
        Sample(done / 100, done, {"tritonserver": 100 + growth * done / 1e4, "stub": min(warm_up, done / 50)})
        for done in steps
    )
    machine = Machine("cpu", (), 2, 8.0, "kernel")
    return Soak(machine, {}, "commit", "films", 200_000, requests, 2000.0, {"read": requests}, series)


def test_a_slope_is_in_mib_per_ten_thousand_requests_and_deaf_to_spikes():
    points = [(step * 1000, 50.0 + step * 0.3) for step in range(40)]
    points[7] = points[23] = (7000, 5000.0)
    assert slope(points) == pytest.approx(3.0, rel=0.05)
    assert slope(points[:1]) == 0.0


def test_memory_that_stands_still_after_warm_up_is_flat():
    assert soak_of(0.0).slope() == pytest.approx(0.0, abs=1e-6)
    assert soak_of(0.0).verdict.startswith("memory flat")


def test_memory_that_grows_is_said_to_grow_and_by_which_process():
    leaking = soak_of(2.0)
    assert "GROWING: +2.00" in leaking.verdict
    assert leaking.slope("tritonserver") == pytest.approx(2.0)
    assert leaking.slope("stub") == pytest.approx(0.0, abs=1e-6)


def test_a_run_that_was_shortened_says_so(tmp_path):
    short = soak_of(0.0, requests=50_000)
    assert "shortened to 50,000 of 200,000" in short.verdict
    assert "shortened" not in soak_of(0.0).verdict
    assert json.loads(short.write(tmp_path).read_text())["shortened"] is True


def test_a_few_megabytes_in_a_short_run_are_no_growth():
    assert not soak_of(2.0, requests=10_000, warm_up=0.0).grew
    assert soak_of(2.0).grew


def test_errors_of_the_server_are_counted_and_refusals_are_not():
    outcomes = {"read": 9, "InvalidDicom": 5, "error: ServerError: x": 2, "error: a model's process died": 1}
    assert dataclasses.replace(soak_of(0.0), outcomes=outcomes).figures["server_errors"] == 3


def test_memory_is_read_of_the_server_and_every_process_of_its_models():
    class Server:
        pid = os.getpid()

        def stub_pids(self) -> dict[str, list[int]]:
            return {"model": [os.getpid(), 2**22 + 1]}  # the second is gone

    found = memory_mib(Server())
    assert found["tritonserver"] == pytest.approx(found["model/0"], rel=0.2)
    assert found["tritonserver"] > 5
    assert "model/1" not in found
