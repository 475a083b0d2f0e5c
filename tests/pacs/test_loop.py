from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sent_films import await_objects, await_true, captures, objects, of_kind, rows
from tiers import tried
from wetread_bench.fresh_films import Identity
from wetread_bench.hospital import storescu
from wetread_bench.intake import synthetic_templates
from wetread_bench.orthanc import missing
from wetread_gateway.state.tables import WORKS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wetread_bench.hospital import Hospital

pytestmark = [
    pytest.mark.pacs,
    pytest.mark.triton,
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing("Orthanc", "storescu")), reason=missing("Orthanc", "storescu")),
]

CHECKOUT = Path(__file__).parents[2]
ASSOCIATIONS, BATCH = tried(3, 60), 4
QUIET_S = 3.0
# The worst of routers: everything that is stored, results too, goes to the gateway.
FORWARD_EVERYTHING = "function OnStoredInstance(id, tags, metadata) SendToModality(id, 'wetread') end"


@pytest.fixture
def forwarding(hospital: Hospital) -> Iterator[Hospital]:
    hospital.pacs.run_lua(FORWARD_EVERYTHING)
    yield hospital
    hospital.pacs.run_lua("OnStoredInstance = nil")


def test_a_pacs_that_forwards_everything_gets_one_report_and_one_capture_a_film(
    forwarding: Hospital, tmp_path: Path
) -> None:
    pacs = forwarding.pacs
    films = synthetic_templates(CHECKOUT, 2, 512, 12)
    studies = []
    for first in range(1, ASSOCIATIONS * BATCH + 1, BATCH):
        sent = [Identity(11, number) for number in range(first, first + BATCH)]
        files = [films[one.number % 2].write(tmp_path / f"{one.number - first}.dcm", one) for one in sent]
        assert storescu(pacs.dicom_port, files, called=pacs.ae_title).returncode == 0
        studies += [one.study_uid for one in sent]
    for study in studies:
        assert len(await_objects(forwarding, study, 3)) >= 3
    assert await_true(lambda: _is_quiet(forwarding))
    for study in studies:
        found = objects(forwarding, study)
        assert (len(found), len(of_kind(found, "SR")), len(captures(found))) == (3, 1, 1)
        assert len(rows(forwarding, WORKS, study)) == 1


def _is_quiet(hospital: Hospital) -> bool:
    """Nothing was stored and nothing sent for a while."""
    change = hospital.pacs.last_change()
    threading.Event().wait(QUIET_S)
    return hospital.pacs.last_change() == change
