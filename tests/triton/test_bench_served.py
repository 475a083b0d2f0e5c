"""The film benchmark from end to end, too short to mean anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiers import tried
from wetread_bench.films import FilmPlan, bench_films

SYNTAXES = tried(("raw",), ("raw", "j2k"))
CHECKOUT = Path(__file__).parents[2]


@pytest.mark.triton
@pytest.mark.slow
def test_a_short_run_measures_and_accounts_without_errors(tmp_path: Path) -> None:
    plan = FilmPlan(seconds=0.8, warm_s=0.3, repeats=1, syntaxes=SYNTAXES, accounting_only=True, count=2, quick=True)
    result = bench_films(CHECKOUT, tmp_path, plan, "test", lambda _: None)
    assert result.errors == {}
    assert not result.complete
    rates = {seen.cell: seen.films_per_s.median for seen in result.measurements}
    assert set(rates) == {f"{cell.format(syntax)}" for syntax in SYNTAXES for cell in ("limit/{}/c1", "shm/{}/c8")}
    assert min(rates.values()) > 0
    served = next(cell for cell in result.accounting if cell.cell == f"shm/{SYNTAXES[-1]}/c8")
    assert {"tritonserver", "classifier"} | ({"decoding"} if "j2k" in SYNTAXES else set()) <= set(served.by_class)
    assert served.models["chest_xray_classifier"].requests > 0
