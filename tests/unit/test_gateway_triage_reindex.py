"""The state store is lost; the spool's folders tell what was in it."""

from collections import Counter

import pytest
from triage_site import PIXELS, Site, instance
from wetread_gateway.config.settings import Destination
from wetread_gateway.results.order import ObjectKind
from wetread_gateway.results.uids import object_uid
from wetread_gateway.state.tables import DELIVERIES, OBJECTS, WORKS
from wetread_gateway.triage.reindex import reindex


@pytest.fixture
def open_site(tmp_path):
    """Gives the site, or opens it anew with its state store lost."""
    made = []

    def opened(*, lost=False):
        if made:
            made.pop().close()
        if lost:
            for file in tmp_path.glob("state.sqlite*"):
                file.unlink()
        site = Site(tmp_path)
        site.context.live.change(destination=(Destination("pacs", host="127.0.0.1"),))
        made.append(site)
        return site

    yield opened
    made.pop().close()


def put_results(site, uid, study, work="read", number=1):
    made = {}
    for kind in (ObjectKind.SR_COMPREHENSIVE_3D, ObjectKind.CAPTURE):
        made[kind] = object_uid([uid], work, kind, number)
        site.context.spool.put_result(study, made[kind], b"a result")
    return made


def test_every_folder_is_indexed_as_what_it_is(open_site):
    site = open_site()
    site.arrive(instance("1.2.1", StudyInstanceUID="1.2.11"))
    site.arrive(instance("1.2.2", StudyInstanceUID="1.2.12", Modality="MG"))
    site.arrive(instance("1.2.3", StudyInstanceUID="1.2.13", PixelData=None))
    site.arrive(instance("1.2.4")[:500])
    site.settle()
    before = Counter(row.state for row in site.instances())
    waiting = site.arrive(instance("1.2.5", StudyInstanceUID="1.2.15"))
    site = open_site(lost=True)
    found = reindex(site.context)
    assert (found.instances, found.works, found.results) == (4, 1, 0)
    assert Counter(row.state for row in site.instances()) == before
    assert all((site.folder / "spool" / row.path).is_file() for row in site.instances())
    (work,) = site.works()
    assert (work.kind, work.state, work.number, work.pipeline) == ("read", "waiting", 1, "chest_xray")
    site.settle()
    assert site.instances()[-1].arrival == waiting
    assert len(site.works()) == 2


def test_reindexing_again_changes_nothing(open_site):
    site = open_site()
    site.arrive(instance())
    site.settle()
    put_results(site, "1.2.3.4.1", "1.2.3")
    site = open_site(lost=True)
    reindex(site.context)
    first = (site.instances(), site.works(), site.rows(OBJECTS), site.rows(DELIVERIES))
    assert reindex(site.context).instances == 0
    assert (site.instances(), site.works(), site.rows(OBJECTS), site.rows(DELIVERIES)) == first


def test_results_that_may_not_have_arrived_are_sent_again_and_never_built_again(open_site):
    site = open_site()
    site.arrive(instance())
    site.settle()
    uids = put_results(site, "1.2.3.4.1", "1.2.3")
    site = open_site(lost=True)
    reindex(site.context)
    (work,) = site.works()
    (delivery,) = site.rows(DELIVERIES)
    assert (work.kind, work.state, work.number) == ("read", "reported", 1)
    assert (delivery.state, delivery.destination) == ("waiting", "pacs")
    assert sorted(delivery.objects) == sorted(uids.values())
    assert {row.kind for row in site.rows(OBJECTS)} == {kind.value for kind in uids}


@pytest.mark.parametrize(("folder", "work", "deliveries"), [("done", "finished", []), ("dead", "finished", ["dead"])])
def test_finished_work_is_not_done_again(open_site, folder, work, deliveries):
    site = open_site()
    name = site.arrive(instance())
    site.settle()
    put_results(site, "1.2.3.4.1", "1.2.3")
    site.context.spool.move(name, "1.2.3", folder)
    site = open_site(lost=True)
    reindex(site.context)
    assert [row.state for row in site.works()] == [work]
    assert [row.state for row in site.rows(DELIVERIES)] == deliveries


def test_the_dead_letter_without_a_result_stays_the_dead_letter(open_site):
    site = open_site()
    name = site.arrive(instance())
    site.settle()
    site.context.spool.move(name, "1.2.3", "dead")
    site = open_site(lost=True)
    reindex(site.context)
    assert [row.state for row in site.works()] == ["dead"]


@pytest.mark.slow
def test_a_correction_is_known_by_the_later_twin(open_site):
    site = open_site()
    site.arrive(instance())
    site.settle()
    site.change(WORKS, 1, state="finished")
    site.arrive(instance(PatientID="P2"))
    site.settle()
    put_results(site, "1.2.3.4.1", "1.2.3")
    put_results(site, "1.2.3.4.1", "1.2.3", "withdraw", 2)
    put_results(site, "1.2.3.4.1", "1.2.3", "reuse", 2)
    before = [(work.kind, work.number, work.predecessor is None) for work in site.works()]
    site = open_site(lost=True)
    reindex(site.context)
    assert [row.state for row in site.instances()] == ["corrected", "sorted"]
    works = site.works()
    assert [(work.kind, work.number, work.predecessor is None) for work in works] == before
    assert [work.sources for work in works] == [[1], [1], [2]]


@pytest.mark.slow
def test_a_twin_after_reindexing_is_still_known(open_site):
    site = open_site()
    site.arrive(instance())
    site.settle()
    site = open_site(lost=True)
    reindex(site.context)
    site.arrive(instance())
    site.arrive(instance("1.2.3.4.1", PIXELS + 1))
    site.settle()
    assert [row.state for row in site.instances()] == ["sorted", "duplicate", "quarantined"]
