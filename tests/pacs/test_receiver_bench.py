from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from receiver_rig import receiver
from wetread_bench.intake_door import DoorPlan, bench_door

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.pacs
@pytest.mark.skipif(shutil.which("storescu") is None, reason="storescu is not installed (dcmtk)")
def test_the_bench_of_the_door_counts_what_the_door_kept(tmp_path: Path) -> None:
    plan = DoorPlan(instances=40, fsyncs=5)
    with receiver(tmp_path) as door:
        result = bench_door(door.port, tmp_path, plan, [door.process.pid])
        assert result.acknowledged == len(door.received()) == 40
    assert result.pixels == "synthetic noise"
    assert result.instances_per_s > 0
    assert set(result.figures) == {"instances_per_s", "fsync_ms", "door_over_naive"}
    assert not (tmp_path / "door").exists()
