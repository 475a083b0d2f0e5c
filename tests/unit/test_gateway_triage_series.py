"""When a series of several images is read, and what becomes of late, lost and corrected slices."""

import threading

import pytest
from pydicom.uid import CTImageStorage
from triage_site import PIXELS, Site, instance
from waiting import WAIT_S
from wetread_gateway.config.settings import Peer
from wetread_gateway.state.tables import WORKS
from wetread_gateway.triage.series import SeriesWatch


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    yield made
    made.close()


def a_slice(number: int, **attributes) -> bytes:
    given = {"Modality": "CT", "SOPClassUID": CTImageStorage, "InstanceNumber": number} | attributes
    return instance(f"1.2.3.4.{number}", PIXELS + number, **given)


def send(site: Site, *numbers: int, **attributes) -> None:
    for number in numbers:
        site.arrive(a_slice(number, **attributes))
    site.settle()


def counting(site: Site, answer: int | None) -> list[tuple[str, str]]:
    """Let the source answer a count; gives what it was asked for."""
    asked = []
    site.context.live.change(peer=(Peer("MOD", "127.0.0.1", 104),))
    answered = threading.Event()

    def count(_peer, _dicom, study, series):
        asked.append((study, series))
        answered.set()
        return answer

    site.triage.series.close()
    site.triage.series = SeriesWatch(site.context, lambda: site.now, count)
    return asked


def wait_for_answer(site: Site) -> None:
    for future in list(site.triage.series._asking.values()):
        future.exception(timeout=WAIT_S)


def test_a_series_is_whole_with_the_senders_count_and_two_quiet_seconds(site):
    send(site, 3, 1, 2, NumberOfSeriesRelatedInstances=3)
    site.later(1.5)
    assert not site.works()
    site.later(0.6)
    (work,) = site.works()
    numbers = {row.id: row.instance_number for row in site.instances()}
    assert [numbers[source] for source in work.sources] == [1, 2, 3]
    assert (work.completeness, work.expected, work.pipeline, work.priority) == ("confirmed", 3, "chest_ct", 1)
    site.later(100)
    assert len(site.works()) == 1


def test_a_series_cut_at_its_end_is_read_as_unconfirmed_with_the_count_expected(site):
    send(site, 1, 2, NumberOfSeriesRelatedInstances=3)
    site.later(14)
    assert not site.works()
    site.later(1.1)
    (work,) = site.works()
    assert (work.completeness, work.expected, len(work.sources)) == ("unconfirmed", 3, 2)
    assert "2 of 3 images" in site.told("complete")[0]
    assert site.told("alert")


def test_a_series_without_a_count_waits_for_its_associations_to_end(site):
    send(site, 1, 2)
    site.context.spool.opened("receiver-0.9", "MOD")
    site.later(60)
    assert not site.works()
    site.context.spool.closed("receiver-0.9", "MOD")
    site.later(0.5)
    assert site.works()[0].completeness == "unconfirmed"
    assert site.works()[0].expected is None


def test_the_source_is_asked_for_the_count_when_the_sender_gave_none(site):
    asked = counting(site, 2)
    send(site, 1, 2)
    site.later(2.1)
    wait_for_answer(site)
    site.later(0.3)
    assert asked == [("1.2.3", "1.2.3.4")]
    assert (site.works()[0].completeness, site.works()[0].expected) == ("confirmed", 2)


def test_a_source_that_names_more_images_is_waited_for(site):
    asked = counting(site, 3)
    send(site, 1, 2)
    site.later(2.1)
    wait_for_answer(site)
    site.later(5)
    assert not site.works()
    send(site, 3)
    site.later(2.1)
    assert len(asked) == 1
    assert site.works()[0].completeness == "confirmed"


def test_a_source_that_does_not_answer_delays_nothing_for_ever(site):
    counting(site, None)
    send(site, 1)
    site.later(2.1)
    wait_for_answer(site)
    site.later(15)
    assert site.works()[0].completeness == "unconfirmed"


def test_a_late_slice_replaces_a_work_that_nobody_has_begun(site):
    send(site, 1, 2, NumberOfSeriesRelatedInstances=2)
    site.later(3)
    send(site, 3)
    site.later(16)
    first, second = site.works()
    assert (first.state, second.state, second.predecessor) == ("superseded", "waiting", None)
    assert len(second.sources) == 3


def test_a_late_slice_starts_a_new_reading_with_a_predecessor(site):
    send(site, 1, 2, NumberOfSeriesRelatedInstances=2)
    site.later(3)
    site.change(WORKS, 1, state="leased")
    send(site, 3)
    site.later(16)
    first, second = site.works()
    assert (second.kind, second.number, second.predecessor) == ("read", 2, first.id)
    assert len(second.sources) == 3


def test_slices_of_two_patients_never_meet(site):
    send(site, 1, 2)
    send(site, 3, PatientID="P2")
    site.later(16)
    assert sorted(len(work.sources) for work in site.works()) == [1, 2]
    assert len({work.patient_digest for work in site.works()}) == 2


@pytest.mark.slow
def test_a_corrected_series_is_withdrawn_at_once_and_its_reading_reused_when_whole(site):
    send(site, 1, 2, NumberOfSeriesRelatedInstances=2)
    site.later(3)
    site.change(WORKS, 1, state="finished")
    send(site, 1, PatientID="P2", NumberOfSeriesRelatedInstances=2)
    assert [work.kind for work in site.works()] == ["read", "withdraw"]
    send(site, 2, PatientID="P2", NumberOfSeriesRelatedInstances=2)
    site.later(3)
    read, withdraw, reuse = site.works()
    assert (withdraw.predecessor, reuse.predecessor) == (read.id, read.id)
    assert (reuse.kind, reuse.number, reuse.patient_digest) == ("reuse", 2, site.instances()[3].patient_digest)
    site.later(60)
    assert len(site.works()) == 3


@pytest.mark.slow
def test_a_half_corrected_series_is_read_anew_on_both_sides(site):
    send(site, 1, 2, 3, NumberOfSeriesRelatedInstances=3)
    site.later(3)
    site.change(WORKS, 1, state="finished")
    send(site, 1, PatientID="P2")
    site.later(16)
    kinds = sorted((work.kind, len(work.sources), work.completeness) for work in site.works())
    assert kinds == [
        ("read", 1, "unconfirmed"),
        ("read", 2, "unconfirmed"),
        ("read", 3, "confirmed"),
        ("withdraw", 3, "confirmed"),
    ]


def test_a_series_whose_rule_has_gone_is_kept_and_shown(site):
    send(site, 1, 2)
    site.context.live.change(rule=())
    site.later(16)
    assert {row.state for row in site.instances()} == {"unmatched"}
    assert len(site.files("unmatched")) == 2
    assert not site.works()


def test_stat_slices_make_a_stat_work(site):
    site.arrive(a_slice(1), stat=True)
    site.arrive(a_slice(2))
    site.settle()
    site.later(16)
    assert site.works()[0].priority == 0
