"""The Segmentation of a series, and the report that stands beside it."""

from __future__ import annotations

import json
import random
import zlib
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from highdicom.seg import Segmentation
from highdicom.sr import Comprehensive3DSR
from report_cases import of_kind, parsed, references
from segmented_series import SEGMENTS, blobs, segmented
from series_files import file_bytes, series_datasets
from sr_checker import problems
from wetread_gateway.errors import CannotReport
from wetread_gateway.results.order import ObjectKind
from wetread_gateway.results.reporter import Reporter
from wetread_gateway.results.source import Source
from wetread_gateway.results.sources import sources_of
from wetread_gateway.state.tables import WorkKind

SEG, SR = ObjectKind.SEGMENTATION, ObjectKind.SR_COMPREHENSIVE_3D


def built(made, files=None):
    return Reporter().build(made, files[0] if files else None)


def seg_of(objects) -> Segmentation:
    return Segmentation.from_dataset(parsed(of_kind(objects, SEG)))


def pixels(seg: Segmentation, uids) -> np.ndarray:
    """The labels of the source images named, in that order, found by the references of the frames alone."""
    return seg.get_pixels_by_source_instance(
        list(uids), combine_segments=True, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )


def groups_of(objects):
    return Comprehensive3DSR.from_dataset(parsed(of_kind(objects, SR))).content


def comments(objects) -> list[str]:
    container = parsed(of_kind(objects, SR)).ContentSequence[-1]
    return [item.TextValue for item in container.ContentSequence if item.ValueType == "TEXT"]


@pytest.mark.slow
def test_every_pixel_comes_back_on_the_image_that_it_lies_on_whatever_the_order_of_the_sources(tmp_path):
    case = segmented(tmp_path)
    shuffled = random.Random(3).sample(case.files, len(case.files))
    seg = seg_of(built(case.order(shuffled, wanted=frozenset({SEG}))))
    assert np.array_equal(pixels(seg, case.kept.sop_uids), case.labels)
    assert np.array_equal(pixels(seg, reversed(case.kept.sop_uids)), case.labels[::-1])
    assert seg.SegmentationType == "BINARY"
    assert seg.NumberOfFrames == sum((case.labels == n).any(axis=(1, 2)).sum() for n in (1, 2)), "no empty frame"


@pytest.mark.slow
def test_the_same_order_gives_the_same_bytes_and_another_order_of_the_sources_the_same_pixels_and_uid(tmp_path):
    case = segmented(tmp_path)
    first, again = built(case.order(), case.files), built(case.order(), case.files)
    assert first == again
    turned = built(case.order(case.files[::-1], wanted=frozenset({SEG})))
    assert of_kind(turned, SEG).sop_instance_uid == of_kind(first, SEG).sop_instance_uid
    assert seg_of(turned).PixelData == seg_of(first).PixelData


@pytest.mark.slow
def test_the_segmentation_lies_where_the_source_lies_and_says_what_the_card_says(tmp_path):
    case = segmented(tmp_path)
    seg = seg_of(built(case.order(wanted=frozenset({SEG}))))
    source = pydicom.dcmread(case.files[0])
    for keyword in ("FrameOfReferenceUID", "StudyInstanceUID", "PatientID", "PatientName", "AccessionNumber"):
        assert seg[keyword].value == source[keyword].value, keyword
    assert [item.SegmentLabel for item in seg.SegmentSequence] == [label for label, _, _ in SEGMENTS]
    for item, (_, (code,), _) in zip(seg.SegmentSequence, SEGMENTS, strict=True):
        assert item.SegmentedPropertyTypeCodeSequence[0].CodeValue == code.value
        assert item.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning == "Tissue"
        assert item.SegmentAlgorithmType == "AUTOMATIC"
        assert item.SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion == "3"
    assert (seg.SeriesNumber, seg.ContentLabel) == (9006, "AI_READING")
    assert "brain_mr, release 3 (stable arm)" in seg.ContributingEquipmentSequence[0].ContributionDescription


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["tilted", "irregular", "sagittal"])
def test_tilted_irregular_and_turned_series_keep_each_slices_place(shape, tmp_path):
    places = np.arange(12)
    series = {
        "tilted": {"positions_mm": np.stack([np.zeros(12), 0.7 * places, 2.0 * places], axis=1)},
        "irregular": {"positions_mm": np.stack([np.zeros(12), np.zeros(12), 0.4 * places**1.5], axis=1)},
        "sagittal": {"row_direction": (0.0, 1.0, 0.0), "column_direction": (0.0, 0.0, -1.0)},
    }[shape]
    case = segmented(tmp_path, **series)
    seg = seg_of(built(case.order(case.files[::-1], wanted=frozenset({SEG}))))
    assert np.array_equal(pixels(seg, case.kept.sop_uids), case.labels)
    where = dict(zip(case.kept.sop_uids, case.kept.positions_mm, strict=True))
    for frame in seg.PerFrameFunctionalGroupsSequence:
        image = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        told = [float(x) for x in frame.PlanePositionSequence[0].ImagePositionPatient]
        assert told == pytest.approx(where[image], abs=1e-9)


@pytest.mark.slow
def test_images_that_were_not_read_are_not_referred_to_but_are_evidence(tmp_path):
    case = segmented(tmp_path)
    stray = tmp_path / "stray.dcm"
    (dataset,) = series_datasets(np.zeros((1, 20, 20), np.int16), modality="MR", body_part="BRAIN")
    stray.write_bytes(file_bytes(dataset))
    objects = built(case.order([*case.files[:5], stray, *case.files[5:]]))
    seg, report = parsed(of_kind(objects, SEG)), parsed(of_kind(objects, SR))
    named = {item.ReferencedSOPInstanceUID for item in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert named == set(case.kept.sop_uids)
    evidence = {
        item.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert evidence == {*case.kept.sop_uids, dataset.SOPInstanceUID, seg.SOPInstanceUID}


def test_frames_of_a_multi_frame_image_are_named_by_their_own_numbers(tmp_path):
    case = segmented(tmp_path, frames=True)
    seg = seg_of(built(case.order(wanted=frozenset({SEG}))))
    (uid,) = set(case.kept.sop_uids)
    numbers = [frame + 1 for frame in case.kept.frames]
    back = seg.get_pixels_by_source_frame(
        uid, numbers, combine_segments=True, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )
    assert np.array_equal(back, case.labels)


@pytest.mark.slow
def test_labels_with_gaps_become_segments_numbered_from_one(tmp_path):
    case = segmented(tmp_path)
    apart = np.where(case.labels == 2, 7, case.labels).astype(np.uint8)
    segments = (case.kept.segments[0], replace(case.kept.segments[1], value=7))
    kept = replace(case.kept, segments=segments, labels=zlib.compress(apart.tobytes()))
    made = replace(case.order(wanted=frozenset({SEG})), reading=replace(case.reading, segmentation=kept))
    assert np.array_equal(pixels(seg_of(built(made)), kept.sop_uids), case.labels)


@pytest.mark.slow
def test_the_report_measures_each_segment_and_refers_to_it(tmp_path):
    case = segmented(tmp_path)
    objects = built(case.order(), case.files)
    seg, report = parsed(of_kind(objects, SEG)), parsed(of_kind(objects, SR))
    assert problems(report) == []
    assert objects[0].kind is SEG, "the report that names it is sent after it"
    groups = groups_of(objects).get_volumetric_roi_measurement_groups()
    assert len(groups) == 2
    for number, (group, (label, (code,), _)) in enumerate(zip(groups, SEGMENTS, strict=True), 1):
        segment = group.referenced_segment
        assert (segment.referenced_sop_instance_uid, segment.referenced_segment_numbers) == (
            seg.SOPInstanceUID,
            [number],
        )
        assert (group.finding_type.value, group.finding_category.meaning) == (code.value, "Tissue")
        (volume,) = group.get_measurements()
        assert volume.value == pytest.approx(case.kept.segments[number - 1].volume_ml)
        assert (volume.name.meaning, volume.unit.value) == ("Volume", "ml")
        assert group.tracking_uid == seg.SegmentSequence[number - 1].TrackingUID
        assert group.tracking_identifier.startswith(label)


@pytest.mark.slow
def test_the_library_of_a_long_series_names_all_images_and_their_common_properties_once(tmp_path):
    case = segmented(tmp_path)
    report = parsed(of_kind(built(case.order()), SR))
    library = next(i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "111028")
    items = library.ContentSequence[0].ContentSequence
    images = [i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for i in items if i.ValueType == "IMAGE"]
    assert images == list(case.kept.sop_uids)
    common = [i.ConceptNameCodeSequence[0].CodeMeaning for i in items if i.ValueType != "IMAGE"]
    assert len(common) == len(set(common)) == 4


@pytest.mark.slow
def test_a_segmentation_of_nothing_is_not_stored_and_the_report_says_so(tmp_path):
    case = segmented(tmp_path, np.zeros_like(blobs()))
    objects = built(case.order(), case.files)
    assert SEG not in {thing.kind for thing in objects}
    assert problems(parsed(of_kind(objects, SR))) == []
    assert "No Segmentation is stored: no pixel belongs to a segment" in comments(objects)
    groups = groups_of(objects).get_image_measurement_groups()
    assert [group.get_measurements()[0].value for group in groups] == [0, 0]
    assert [group.get_qualitative_evaluations()[-1].value.meaning for group in groups] == ["Absent", "Absent"]


@pytest.mark.slow
def test_a_segment_that_is_not_there_is_described_and_has_no_reference(tmp_path):
    case = segmented(tmp_path, np.where(blobs() == 2, 0, blobs()).astype(np.uint8))
    objects = built(case.order(), case.files)
    assert len(seg_of(objects).SegmentSequence) == 2
    assert len(groups_of(objects).get_volumetric_roi_measurement_groups()) == 1
    (absent,) = groups_of(objects).get_image_measurement_groups()
    assert absent.get_measurements()[0].value == 0
    assert problems(parsed(of_kind(objects, SR))) == []


@pytest.mark.slow
def test_outside_the_intended_use_there_is_neither_a_segmentation_nor_a_volume(tmp_path):
    case = segmented(tmp_path)
    made = replace(case.order(), reading=replace(case.reading, intended_modalities=("CT",)))
    objects = built(made, case.files)
    assert SEG not in {thing.kind for thing in objects}
    assert problems(parsed(of_kind(objects, SR))) == []
    groups = groups_of(objects).get_image_measurement_groups()
    assert [group.get_measurements() for group in groups] == [[], []]
    assert any(line.startswith("Outside the intended use: modality MR") for line in comments(objects))


@pytest.mark.slow
def test_images_without_a_frame_of_reference_give_a_report_alone_that_says_why(tmp_path):
    case = segmented(tmp_path, attributes={"FrameOfReferenceUID": None})
    objects = built(case.order(), case.files)
    assert SEG not in {thing.kind for thing in objects}
    assert "No Segmentation is stored: the images name no Frame of Reference" in comments(objects)


@pytest.mark.slow
def test_where_no_destination_takes_a_segmentation_the_report_refers_to_none(tmp_path):
    case = segmented(tmp_path)
    (report,) = built(case.order(wanted=frozenset({SR})))
    assert problems(parsed(report)) == []
    assert not groups_of((report,)).get_volumetric_roi_measurement_groups()


@pytest.mark.slow
def test_a_withdrawal_names_the_segmentation_and_makes_none(tmp_path):
    case = segmented(tmp_path)
    first = built(case.order(), case.files)
    withdrawn = frozenset({SR, SEG, ObjectKind.KEY_OBJECTS})
    again = case.order(kind=WorkKind.WITHDRAW, predecessors=references(first), number=2, wanted=withdrawn)
    objects = built(again, case.files)
    assert SEG not in {thing.kind for thing in objects}
    rejected = parsed(of_kind(objects, ObjectKind.KEY_OBJECTS))
    named = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID: item.ValueType
        for item in rejected.ContentSequence
        if "ReferencedSOPSequence" in item
    }
    assert named == {of_kind(first, SEG).sop_instance_uid: "IMAGE", of_kind(first, SR).sop_instance_uid: "COMPOSITE"}


@pytest.mark.slow
def test_a_corrected_series_gets_a_segmentation_of_its_own_under_its_new_identity(tmp_path):
    case = segmented(tmp_path)
    first = built(case.order(), case.files)
    (tmp_path / "new").mkdir()
    files = []
    for file in case.files:
        dataset = pydicom.dcmread(file)
        dataset.PatientID = "CORRECTED"
        files.append(tmp_path / "new" / file.name)
        files[-1].write_bytes(file_bytes(dataset))
    again = built(case.order(files, kind=WorkKind.REUSE, number=2, made_at=case.reading.read_at + 60), files)
    assert seg_of(again).PatientID == "CORRECTED"
    assert of_kind(again, SEG).sop_instance_uid != of_kind(first, SEG).sop_instance_uid
    assert seg_of(again).PixelData == seg_of(first).PixelData


def test_the_fhir_bundle_and_the_picture_tell_volumes_too(tmp_path):
    case = segmented(tmp_path)
    objects = built(case.order(wanted=frozenset({ObjectKind.FHIR, ObjectKind.CAPTURE})), case.files)
    bundle = json.loads(of_kind(objects, ObjectKind.FHIR).data)
    told = [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == "Observation"]
    assert [one["component"][0]["valueQuantity"]["code"] for one in told] == ["ml", "ml"]
    assert [one["code"]["coding"][0]["display"] for one in told] == ["White Matter", "Gray Matter"]
    capture = parsed(of_kind(objects, ObjectKind.CAPTURE))
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == case.reading.heatmap_source_uid


@pytest.mark.slow
def test_the_picture_shows_the_fullest_slice_with_each_segment_in_its_colour(tmp_path):
    case = segmented(tmp_path, np.kron(blobs(), np.ones((1, 16, 16), np.uint8)))
    picture = parsed(of_kind(built(case.order(wanted=frozenset({ObjectKind.CAPTURE})), case.files), ObjectKind.CAPTURE))
    told = replace(case.reading, intended_modalities=("CT",))
    plain = replace(case.order(wanted=frozenset({ObjectKind.CAPTURE})), reading=told)
    bare = parsed(of_kind(built(plain, case.files), ObjectKind.CAPTURE))
    spread = [float(np.ptp(one.pixel_array[40:180].astype(int), axis=2).mean()) for one in (picture, bare)]
    assert spread[0] > 2 * spread[1], "coloured; grey where nothing may be told"


class TestSourcesOfManyFiles:
    def test_all_but_the_first_are_like_it_and_have_their_own_uids(self, tmp_path):
        case = segmented(tmp_path)
        lean, full = sources_of(case.files), [Source.of_file(file) for file in case.files]
        for quick, slow in zip(lean, full, strict=True):
            assert replace(quick, descriptors=(), instance_number=None) == replace(
                slow, descriptors=(), instance_number=None
            )

    def test_few_files_are_read_in_full(self, tmp_path):
        case = segmented(tmp_path)
        assert sources_of(case.files[:3]) == tuple(map(Source.of_file, case.files[:3]))

    def test_another_patient_among_them_is_noticed(self, tmp_path):
        case = segmented(tmp_path)
        dataset = pydicom.dcmread(case.files[7])
        dataset.PatientID = "SOMEBODY ELSE"
        case.files[7].write_bytes(file_bytes(dataset))
        with pytest.raises(CannotReport, match="disagree on PatientID"):
            Reporter().build(case.order(), case.files[0])

    def test_a_file_that_is_none_is_told(self, tmp_path):
        case = segmented(tmp_path)
        case.files[5].write_bytes(b"no DICOM")
        with pytest.raises(CannotReport):
            case.order()
