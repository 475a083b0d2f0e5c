from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tiers import tried
from wetread_bench.fresh_films import Identity
from wetread_bench.hospital import STAT_AE_TITLE
from wetread_bench.intake import synthetic_templates
from wetread_bench.intake_watch import REPORT, Stored, StoredWatch
from wetread_bench.orthanc import missing

if TYPE_CHECKING:
    from wetread_bench.hospital import Hospital

pytestmark = [
    pytest.mark.pacs,
    pytest.mark.triton,
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing("Orthanc", "storescu")), reason=missing("Orthanc", "storescu")),
]

CHECKOUT = Path(__file__).parents[2]
ROUTINE = tried(80, 160)


def test_a_stat_film_passes_the_routine_films_that_wait(hospital: Hospital, tmp_path: Path) -> None:
    (film,) = synthetic_templates(CHECKOUT, 1, 512, 12)
    stat = Identity(6, 1)
    routine = [Identity(5, number) for number in range(1, ROUTINE + 1)]
    files = [film.write(tmp_path / f"{one.number}.dcm", one) for one in routine]
    ours = {one.study_uid for one in (stat, *routine)}
    with StoredWatch(tmp_path / "watch") as watch:
        hospital.pacs.run_lua(watch.lua)
        try:
            with ThreadPoolExecutor(4) as pool:
                assert list(pool.map(lambda at: hospital.storescu(files[at::4]), range(4))) == [0] * 4
            last = film.write(tmp_path / "stat.dcm", stat)
            assert hospital.storescu([last], called=STAT_AE_TITLE) == 0
            before = len(_reports(watch.stored(), ours))
            assert watch.wait(lambda stored: len(_reports(stored, ours)) == ROUTINE + 1, 600.0)
            place = _reports(watch.stored(), ours).index(stat.study_uid)
        finally:
            hospital.pacs.run_lua("OnStoredInstance = nil")
    assert ROUTINE - before > 45, "nothing waited: this tells nothing"
    # Only films that were being read or sent already may come before it.
    assert place <= before + 40


def _reports(stored: list[Stored], studies: set[str]) -> list[str]:
    """Studies of the reports that were stored, in their order."""
    return [one.study_uid for one in stored if one.kind == REPORT and one.study_uid in studies]
