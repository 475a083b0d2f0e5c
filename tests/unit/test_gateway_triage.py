"""What becomes of one instance."""

import pytest
from films import item
from pydicom.uid import (
    ComprehensiveSRStorage,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RLELossless,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from triage_site import CHEST, CT, PIXELS, LentPixels, Site, instance
from wetread_gateway.config.settings import Match, Rule
from wetread_gateway.state.tables import INSTANCES, OBJECTS, WORKS
from wetread_gateway.triage import twins
from wetread_gateway.triage.pixels import digest


@pytest.fixture(scope="module")
def pixels():
    made = LentPixels()
    yield made
    made.end()


@pytest.fixture
def site(tmp_path, pixels, monkeypatch):
    monkeypatch.setattr(twins, "PixelProcess", lambda: pixels)
    made = Site(tmp_path)
    yield made
    made.close()


def test_a_film_becomes_one_work_at_once(site):
    name = site.arrive(instance())
    site.settle()
    (row,) = site.instances()
    (work,) = site.works()
    assert (row.arrival, row.state, row.rule, row.calling_ae) == (name, "sorted", "chest", "MOD")
    assert (work.kind, work.state, work.number, work.sources) == ("read", "waiting", 1, [row.id])
    assert (work.pipeline, work.destinations, work.completeness, work.arm) == (
        "chest_xray",
        ["pacs"],
        "single",
        "stable",
    )
    assert work.options == {
        "any_body_part": False,
        "unknown_age_is_inside": False,
        "report_refusals": True,
        "candidate": 0,
    }
    assert (site.folder / "spool" / row.path).name == name
    assert site.files("studies") == [name]
    assert site.told("received") == ["received"]
    assert site.told("rule") == ["rule 'chest': read by chest_xray"]


def test_stat_at_the_door_is_stat_for_the_reader_and_comes_first(site):
    site.arrive(instance("1.2.1", StudyInstanceUID="1.2.1"))
    site.arrive(instance("1.2.2", StudyInstanceUID="1.2.2"), stat=True)
    site.settle()
    assert [(work.study_uid, work.priority) for work in site.works()] == [("1.2.2", 0), ("1.2.1", 2)]


def test_an_instance_without_a_rule_is_kept_and_shown(site):
    name = site.arrive(instance(Modality="MG"))
    site.settle()
    assert site.instances()[0].state == "unmatched"
    assert site.files("unmatched") == [name]
    assert "no rule matches" in site.told("rule")[0]
    assert not site.works()


def test_a_rule_without_a_pipeline_keeps_the_instance_too(tmp_path):
    site = Site(tmp_path, Rule("kept", "", Match()))
    site.arrive(instance())
    site.settle()
    assert (site.instances()[0].state, site.instances()[0].rule) == ("unmatched", "kept")
    site.close()


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"SOPClassUID": ComprehensiveSRStorage, "Modality": "SR", "PixelData": None}, "a structured report"),
        ({"SOPClassUID": SegmentationStorage, "Modality": "SEG"}, "a segmentation"),
        ({"PixelData": None}, "it has no pixels"),
        (
            {
                "SOPClassUID": SecondaryCaptureImageStorage,
                "ContributingEquipmentSequence": [
                    item(
                        Manufacturer="Wetread",
                        PurposeOfReferenceCodeSequence=[item(CodeValue="109102", CodingSchemeDesignator="DCM")],
                    )
                ],
            },
            "our own result",
        ),
    ],
)
def test_what_is_nothing_to_read_is_never_read(site, attributes, reason):
    name = site.arrive(instance(**attributes))
    site.settle()
    (row,) = site.instances()
    assert row.state == "ignored"
    assert reason in row.reason
    assert site.files("ignored") == [name]
    assert not site.works()


def test_our_own_result_is_known_by_its_uid_too(site):
    site.arrive(instance("1.2.9"))
    site.settle()
    with site.context.store.write() as connection:
        row = {"sop_uid": "1.2.77", "work_id": 1, "kind": "capture", "sop_class": "1", "study_uid": "1.2.3"}
        connection.execute(OBJECTS.insert().values(path="results/x", created_at=0.0, **row))
    site.arrive(instance("1.2.77"))
    site.settle()
    assert [row.state for row in site.instances()] == ["sorted", "ignored"]


def test_what_cannot_be_read_ends_in_quarantine_with_its_reason_and_stops_nobody(site):
    whole = instance("1.2.5")
    site.arrive(whole[:500])
    site.arrive(instance("1.2.6", StudyInstanceUID=None))
    good = site.arrive(whole)
    site.settle()
    assert [row.state for row in site.instances()] == ["quarantined", "quarantined", "sorted"]
    assert "header cannot be read" in site.instances()[0].reason
    assert site.instances()[0].sop_uid == "1.2.5"
    assert site.instances()[1].reason == "it has no Study Instance UID"
    assert site.files("studies") == [good]
    assert len(site.files("quarantine")) == 2
    assert len(site.told("alert")) == 2


def test_the_same_instance_twice_is_read_once(site):
    site.arrive(instance())
    site.arrive(instance())
    site.settle()
    assert [row.state for row in site.instances()] == ["sorted", "duplicate"]
    assert len(site.works()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("syntax", [RLELossless, JPEGLosslessSV1, JPEG2000Lossless])
def test_a_lossless_transcoding_is_a_duplicate(site, syntax):
    site.arrive(instance())
    site.settle()
    site.arrive(instance(syntax=syntax))
    site.settle()
    assert [row.state for row in site.instances()] == ["sorted", "duplicate"]


@pytest.mark.slow
def test_other_pixels_under_a_known_uid_are_quarantined(site):
    site.arrive(instance())
    site.settle()
    other = PIXELS.copy()
    other[3, 5] += 1
    site.arrive(instance(pixels=other))
    site.settle()
    assert [row.state for row in site.instances()] == ["sorted", "quarantined"]
    assert "other pixels" in site.told("alert")[0]
    assert len(site.works()) == 1


@pytest.mark.slow
def test_a_twin_that_cannot_be_decoded_is_quarantined(site):
    site.arrive(instance())
    site.settle()
    broken = instance(syntax=JPEG2000Lossless)
    at = broken.rindex(b"\xff\x52")
    site.arrive(broken[:at] + bytes(len(broken) - at - 8) + broken[-8:])
    site.settle()
    assert site.instances()[1].state == "quarantined"
    assert "not comparable" in site.instances()[1].reason


@pytest.mark.slow
def test_a_correction_withdraws_what_was_read_and_reuses_the_reading(site):
    site.arrive(instance())
    site.settle()
    site.change(WORKS, 1, state="finished")
    site.arrive(instance(PatientID="P2", PatientName="OTHER"))
    site.settle()
    old, new = site.instances()
    assert (old.state, new.state) == ("corrected", "sorted")
    read, withdraw, reuse = site.works()
    assert (withdraw.kind, withdraw.predecessor, withdraw.number, withdraw.sources) == (
        "withdraw",
        read.id,
        2,
        [old.id],
    )
    assert (reuse.kind, reuse.predecessor, reuse.number, reuse.sources) == ("reuse", read.id, 2, [new.id])
    assert (withdraw.patient_digest, reuse.patient_digest) == (old.patient_digest, new.patient_digest)
    assert any("a correction" in line for line in site.told("alert"))


@pytest.mark.slow
def test_a_correction_of_what_was_never_read_is_simply_read(site):
    site.arrive(instance())
    site.settle()
    site.arrive(instance(AccessionNumber="A2"))
    site.settle()
    assert [(w.kind, w.state, w.predecessor) for w in site.works()] == [
        ("read", "superseded", None),
        ("read", "waiting", None),
    ]


@pytest.mark.slow
def test_a_correction_to_another_study_withdraws_in_the_old_one(site):
    site.arrive(instance())
    site.settle()
    site.change(WORKS, 1, state="reported")
    site.arrive(instance(StudyInstanceUID="1.2.4"))
    site.settle()
    assert [(w.kind, w.study_uid) for w in site.works()] == [
        ("read", "1.2.3"),
        ("withdraw", "1.2.3"),
        ("reuse", "1.2.4"),
    ]


@pytest.mark.slow
def test_a_late_copy_of_what_was_corrected_is_not_taken_for_a_correction(site):
    for patient in ("P1", "P2", "P1"):
        site.arrive(instance(PatientID=patient))
        site.settle()
    assert [row.state for row in site.instances()] == ["corrected", "sorted", "quarantined"]


@pytest.mark.slow
def test_a_purged_twin_is_known_by_the_digest_of_its_pixels(site):
    name = site.arrive(instance())
    site.settle()
    path = site.context.spool.locate(name, "1.2.3")
    site.change(INSTANCES, 1, state="purged", pixel_digest=digest(path), path="")
    path.unlink()
    site.arrive(instance(syntax=RLELossless))
    site.arrive(instance("1.2.3.4.1", pixels=PIXELS + 1))
    site.settle()
    assert [row.state for row in site.instances()] == ["purged", "duplicate", "quarantined"]


def test_two_patients_in_one_study_are_told_of_once_and_read_apart(site):
    site.arrive(instance("1.2.1"))
    site.arrive(instance("1.2.2", PatientID="P2"))
    site.settle()
    site.arrive(instance("1.2.8", PatientID="P2"))
    site.settle()
    assert len({work.patient_digest for work in site.works()}) == 2
    assert len([line for line in site.told("alert") if "different patients" in line]) == 1


def test_a_file_that_a_crash_left_in_received_is_moved_and_not_sorted_again(site):
    name = site.arrive(instance())
    site.settle()
    (site.folder / "spool" / "studies" / "1.2.3" / name).rename(site.folder / "spool" / "received" / name)
    site.settle()
    assert site.files("studies") == [name]
    assert len(site.instances()) == len(site.works()) == 1


def test_a_changed_rule_counts_for_the_next_instance(site):
    site.context.live.change(rule=(CT,))
    site.arrive(instance("1.2.1"))
    site.settle()
    site.context.live.change(rule=(CHEST,))
    site.arrive(instance("1.2.2"))
    site.settle()
    assert [row.state for row in site.instances()] == ["unmatched", "sorted"]
