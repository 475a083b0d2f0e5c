"""The film benchmark from end to end, too short to mean anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from wetread_bench.films import FilmPlan, bench_films

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.triton
@pytest.mark.full  # make test has the parts of it in test_bench_films
def test_a_short_run_measures_and_accounts_without_errors(tmp_path: Path) -> None:
    plan = FilmPlan(
        seconds=0.8, warm_s=0.3, repeats=1, syntaxes=("raw", "j2k"), accounting_only=True, count=2, quick=True
    )
    result = bench_films(CHECKOUT, tmp_path, plan, "test", lambda _: None)
    assert result.errors == {}
    assert not result.complete
    rates = {seen.cell: seen.films_per_s.median for seen in result.measurements}
    assert set(rates) == {"limit/raw/c1", "shm/raw/c8", "limit/j2k/c1", "shm/j2k/c8"}
    assert min(rates.values()) > 0
    served = next(cell for cell in result.accounting if cell.cell == "shm/j2k/c8")
    assert {"tritonserver", "decoding", "classifier"} <= set(served.by_class)
    assert served.models["chest_xray_classifier"].requests > 0
