from __future__ import annotations

import os
from pathlib import Path

import pytest
from wetread_bench.chaos import ChaosPlan, bench_chaos
from wetread_bench.orthanc import missing

pytestmark = [
    pytest.mark.pacs,
    pytest.mark.triton,
    pytest.mark.full,  # make test kills each part of the trip in a test of its own
    pytest.mark.kills,
    pytest.mark.timeout(3000),  # everything is started anew at every kill
    pytest.mark.skipif(bool(missing("Orthanc", "storescu")), reason=missing("Orthanc", "storescu")),
]

CHECKOUT = Path(__file__).parents[2]
INSTANCES, KILLS = 1000, 24


def test_nothing_is_lost_or_made_twice_whatever_is_killed(tmp_path: Path) -> None:
    lines: list[str] = []
    result = bench_chaos(CHECKOUT, ChaosPlan(instances=INSTANCES, kills=KILLS), "test", lines.append, tmp_path)
    figures = result.document.figures
    shown = "\n".join([*lines, str(result.document.measurements)])
    assert figures["acknowledged"] == INSTANCES, shown
    assert (figures["lost"], figures["duplicate_srs"], figures["readable_not_delivered"]) == (0, 0, 0), shown
    assert figures["dead_letter"] == figures["planted_bad"] > 0, shown
    assert result.is_right, shown
    assert figures["kills"] == KILLS, shown
    faults = result.document.measurements["faults"]
    assert isinstance(faults, dict)
    assert faults["PACS down"] == 2, shown
    if os.geteuid() == 0:
        assert result.disk_was_full, shown
