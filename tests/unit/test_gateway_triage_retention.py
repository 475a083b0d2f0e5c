"""What leaves the spool and the tables, and when."""

import pytest
from rollout_docs import roll
from triage_site import Site, instance
from wetread_gateway.config.settings import Triton
from wetread_gateway.state.tables import DELIVERIES, EVENTS, OBJECTS, SHADOW_READINGS, STUDIES, STUDY_ARMS, WORKS
from wetread_gateway.triage.pixels import digest
from wetread_gateway.triage.retention import Janitor

HOUR, DAY = 3600.0, 86400.0


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    yield made
    made.close()


@pytest.fixture
def janitor(site):
    made = Janitor(site.context, lambda: site.now)
    yield made
    made.close()


def finish(site, state="finished"):
    with site.context.store.write() as connection:
        connection.execute(WORKS.update().values(state=state, changed_at=site.now))


@pytest.mark.slow
def test_images_and_results_leave_a_day_after_the_last_delivery(site, janitor):
    name = site.arrive(instance())
    site.settle()
    finish(site)
    expected = digest(site.context.spool.locate(name, "1.2.3"))
    path = site.context.spool.put_result("1.2.3", "1.2.99", b"result")
    with site.context.store.write() as connection:
        row = {"sop_uid": "1.2.99", "work_id": 1, "kind": "capture", "sop_class": "1", "study_uid": "1.2.3"}
        connection.execute(OBJECTS.insert().values(path=path, created_at=0.0, **row))
    site.now += 23 * HOUR
    assert janitor.purge() == 0
    assert site.files("studies") == [name]
    site.now += 2 * HOUR
    assert janitor.purge() == 1
    (row,) = site.instances()
    assert (row.state, row.path, row.pixel_digest) == ("purged", "", expected)
    assert site.files(".") == []
    assert site.told("received")


@pytest.mark.parametrize("state", ["waiting", "leased", "read", "reported", "dead"])
def test_nothing_leaves_before_its_work_is_over(site, janitor, state):
    name = site.arrive(instance())
    site.settle()
    finish(site, state)
    site.now += 100 * DAY
    assert janitor.purge() == 0
    assert site.files("studies") == [name]
    assert len(site.instances()) == 1


def test_a_study_stays_whole_while_any_of_its_work_goes_on(site, janitor):
    names = [site.arrive(instance(uid)) for uid in ("1.2.1", "1.2.2")]
    site.settle()
    finish(site)
    site.change(WORKS, 2, state="leased")
    site.now += 100 * DAY
    assert janitor.purge() == 0
    assert site.files("studies") == sorted(names)


def test_what_a_destination_never_took_stays(site, janitor):
    name = site.arrive(instance())
    site.settle()
    finish(site)
    with site.context.store.write() as connection:
        row = {"work_id": 1, "destination": "pacs", "objects": [], "state": "dead", "priority": 2, "created_at": 0.0}
        connection.execute(DELIVERIES.insert().values(**row))
    site.now += 100 * DAY
    assert janitor.purge() == 0
    assert site.files("studies") == [name]


def test_what_somebody_must_look_at_stays_and_what_nobody_needs_goes(site, janitor):
    unmatched = site.arrive(instance("1.2.1", StudyInstanceUID="1.2.11", Modality="MG"))
    quarantined = site.arrive(instance("1.2.2")[:500])
    site.arrive(instance("1.2.5", StudyInstanceUID="1.2.13", PixelData=None))
    site.settle()
    site.now += 29 * DAY
    assert janitor.purge() == 1
    assert site.files(".") == sorted([unmatched, quarantined])
    site.now += 2 * DAY
    assert janitor.purge() == 1  # nobody made a rule for it within a month
    assert site.files(".") == [quarantined]


@pytest.mark.slow
def test_rows_and_timeline_go_when_the_window_for_duplicates_is_over(site, janitor):
    site.arrive(instance())
    site.settle()
    finish(site)
    site.now += 2 * DAY
    janitor.purge()
    assert len(site.rows(STUDIES)) == 1
    site.now += 91 * DAY
    janitor.purge()
    assert not site.rows(STUDIES)
    assert not site.instances()
    assert not site.works()
    assert not site.rows(EVENTS)


@pytest.mark.slow
def test_arms_and_shadow_readings_go_with_their_study(tmp_path):
    site = Site(tmp_path)
    roll(tmp_path / "rollout", candidate=4, shadow=True)
    site.context.live.change(triton=Triton(rollouts=str(tmp_path / "rollout")))
    janitor = Janitor(site.context, lambda: site.now)
    site.arrive(instance())
    site.settle()
    row = {"work_id": 1, "pipeline": "chest_xray", "stable_release": 3, "release": 4, "flips": 0, "findings": 1}
    with site.context.store.write() as connection:
        connection.execute(SHADOW_READINGS.insert().values(**row, document={}, read_at=site.now))
    finish(site)
    for days in (2, 91):
        assert len(site.rows(STUDY_ARMS)) == len(site.rows(SHADOW_READINGS)) == 1
        site.now += days * DAY
        janitor.purge()
    assert not site.rows(STUDY_ARMS)
    assert not site.rows(SHADOW_READINGS)
    site.context.stop.set()
    janitor.close()
    site.close()


@pytest.mark.slow
def test_a_crash_while_purging_is_made_good_when_the_file_is_seen_again(site, janitor):
    name = site.arrive(instance())
    site.settle()
    finish(site)
    kept = site.context.spool.locate(name, "1.2.3").read_bytes()
    site.now += 2 * DAY
    janitor.purge()
    (site.folder / "spool" / "received" / name).write_bytes(kept)  # the disk forgot the rename and the removal
    site.settle()
    assert site.files(".") == []
    assert len(site.works()) == 1
