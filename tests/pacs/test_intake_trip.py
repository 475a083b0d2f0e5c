"""The bench of the door and the whole trip from end to end, too short to mean anything."""

from __future__ import annotations

from functools import partialmethod
from pathlib import Path

import pytest
from wetread_bench.intake import IntakePlan, bench_intake, intake_document
from wetread_bench.intake_trip import Road
from wetread_bench.orthanc import missing

pytestmark = [
    pytest.mark.pacs,
    pytest.mark.triton,
    pytest.mark.full,  # make test has the bench of the receiver
    pytest.mark.skipif(bool(missing("Orthanc", "storescu")), reason=missing("Orthanc", "storescu")),
]

CHECKOUT = Path(__file__).parents[2]
PLAN = IntakePlan(
    seconds=4.0,
    probe_seconds=2.0,
    stat_seconds=3.0,
    straight_seconds=2.0,
    latency_rate=2.0,
    sustained_rate=5.0,
    probe_rates=(5.0,),
    films=2,
    door_instances=40,
    overload_age_s=86400.0,  # however far behind a busy machine is
)
WAIT_S = 300.0


def test_a_short_run_measures_the_whole_trip_and_accounts_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Road, "await_back", partialmethod(Road.await_back, timeout_s=WAIT_S))
    lines: list[str] = []
    result = bench_intake(CHECKOUT, tmp_path, PLAN, lines.append)
    shown = "\n".join(lines)
    assert result.is_whole, shown
    assert (result.latency.films, result.sustained.films) == (8, 20), shown
    document = intake_document(CHECKOUT, PLAN, result, "test")
    assert not document.complete
    assert set(document.figures) == {
        "film_to_sr_p50_ms", "film_to_sr_p99_ms", "films_to_sr_per_s", "sr_build_ms", "trip_over_straight_to_pacs",
        "stat_p99_over_unloaded_at_500", "instances_per_s", "fsync_ms", "door_over_naive",
    }  # fmt: skip
    # A busy machine may hold no rate of them all.
    of_a_rate = {"films_to_sr_per_s", "trip_over_straight_to_pacs"} if result.best is None else set()
    assert {name for name, value in document.figures.items() if value <= 0} == of_a_rate, shown
    assert result.sustained.films_per_s > 0
    assert result.straight_per_s > 0
    cpu = result.sustained.accounts["cpu_ms_per_film"]
    assert isinstance(cpu, dict)
    assert {"storescu", "PACS", "gateway receiver", "gateway reader", "gateway reporter", "tritonserver"} <= set(cpu)
    stages = result.sustained.accounts["stage_ms"]
    assert isinstance(stages, dict)
    assert {"triage", "read", "report", "deliver"} <= set(stages)
    assert document.write(tmp_path).exists()
