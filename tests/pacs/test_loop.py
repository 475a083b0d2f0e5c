from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sent_films import await_true, captures, objects, of_kind, rows
from tiers import tried
from wetread_bench.fresh_films import Identity
from wetread_bench.intake import synthetic_templates
from wetread_bench.intake_senders import Line, OpenLoop
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
SECONDS = tried(3, 60)
RATE = 4.0
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
    before = len(pacs.instances())
    films = synthetic_templates(CHECKOUT, 2, 512, 12)
    line = Line(RATE, SECONDS, called=pacs.ae_title)
    with OpenLoop(pacs.dicom_port, line, films, tmp_path, Identity(11, 1)) as sending:
        sending.join()
    studies = [film.identity.study_uid for film in sending.sent if film.acknowledged is not None]
    assert len(studies) == round(RATE * SECONDS)
    assert await_true(lambda: len(pacs.instances()) >= before + 3 * len(studies))
    assert await_true(lambda: _is_quiet(forwarding), 60.0)
    for study in studies:
        found = objects(forwarding, study)
        assert (len(found), len(of_kind(found, "SR")), len(captures(found))) == (3, 1, 1)
        assert len(rows(forwarding, WORKS, study)) == 1


def _is_quiet(hospital: Hospital) -> bool:
    """Nothing was stored and nothing sent for a while."""
    change = hospital.pacs.last_change()
    threading.Event().wait(QUIET_S)
    return hospital.pacs.last_change() == change
