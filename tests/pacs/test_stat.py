from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tiers import tried
from wetread_bench.fresh_films import Identity
from wetread_bench.hospital import STAT_AE_TITLE, GatewayPlan, Hospital
from wetread_bench.intake import synthetic_templates
from wetread_bench.intake_watch import REPORT, StoredWatch
from wetread_bench.orthanc import missing

if TYPE_CHECKING:
    from wetread_embedded import EmbeddedTriton

pytestmark = [
    pytest.mark.pacs,
    pytest.mark.triton,
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing("Orthanc", "storescu")), reason=missing("Orthanc", "storescu")),
]

CHECKOUT = Path(__file__).parents[2]
ROUTINE = tried(80, 160)


def test_a_stat_film_passes_the_routine_films_that_wait(triton: EmbeddedTriton, tmp_path: Path) -> None:
    (film,) = synthetic_templates(CHECKOUT, 1, 512, 12)
    stat = Identity(6, 1)
    routine = [Identity(5, number) for number in range(1, ROUTINE + 1)]
    files = [film.write(tmp_path / f"{one.number}.dcm", one) for one in routine]
    with (
        StoredWatch(tmp_path / "watch") as watch,
        Hospital(tmp_path / "hospital", GatewayPlan(), triton=triton, lua=watch.lua) as hospital,
    ):
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda at: hospital.storescu(files[at::4]), range(4))) == [0] * 4
        last = film.write(tmp_path / "stat.dcm", stat)
        waiting = ROUTINE - _reports(watch)
        assert hospital.storescu([last], called=STAT_AE_TITLE) == 0
        assert watch.wait(lambda stored: any(_is(one, stat) for one in stored), 60.0)
        passed = ROUTINE - (_place(watch, stat))
        assert watch.wait(lambda stored: sum(one.kind == REPORT for one in stored) == ROUTINE + 1, 120.0)
    assert waiting > ROUTINE // 4, "nothing waited: this tells nothing"
    # Only films that were being read or sent already may come before it.
    assert passed >= waiting - 40


def _reports(watch: StoredWatch) -> int:
    return sum(one.kind == REPORT for one in watch.stored())


def _is(one, identity: Identity) -> bool:
    return one.kind == REPORT and one.study_uid == identity.study_uid


def _place(watch: StoredWatch, identity: Identity) -> int:
    """How many reports were stored before its own."""
    reports = [one for one in watch.stored() if one.kind == REPORT]
    return next(place for place, one in enumerate(reports) if _is(one, identity))
