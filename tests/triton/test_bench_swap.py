"""The swap benchmark from end to end, too short to mean anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from wetread_bench.publish import swap_text
from wetread_bench.swap import SwapPlan, bench_swap
from wetread_bench.swap_drafts import Kind

CHECKOUT = Path(__file__).parents[2]
SHORT = SwapPlan(cycles=3, films=2, capacity_s=1.0, quiet_s=0.5, settle_s=0.6, memory_samples=1, load=0.4)


@pytest.mark.triton
@pytest.mark.full  # make test swaps under the same load in test_release_swap_plain
def test_a_short_run_swaps_and_counts_without_a_fault(tmp_path: Path) -> None:
    result = bench_swap(CHECKOUT, tmp_path, SHORT, "test", lambda _: None)
    assert result.faults == ()
    figures = result.document.figures
    assert (figures["failed"], figures["unattributed"]) == (0, 0)
    assert figures["requests"] > 0
    assert figures["rss_after_over_before"] > 0
    assert not result.document.complete
    steps = result.document.measurements["steps"]
    assert isinstance(steps, list)
    done = [(step["step"], step["release"], bool(step["refused"])) for step in steps]
    assert done == [
        ("publish", 2, False),
        ("promote", 2, False),
        ("rollback", 1, False),
        ("publish", 3, True),
        ("publish", 4, False),
        ("promote", 4, False),
        ("rollback", 1, False),
    ]
    assert steps[3]["kind"] == Kind.CORRUPT_ONNX.value
    answered = result.document.measurements["answers_by_release"]
    assert isinstance(answered, dict)
    assert answered.keys() == {"1", "2", "4"}
    text = swap_text(json.loads(result.document.write(tmp_path).read_text()))
    assert "3 releases were published" in text
    assert "**0 failed, and 0 answers belong to no release**" in text
