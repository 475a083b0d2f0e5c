"""Which files of a request are read: several series, copies, phases, localisers, derived images, reports, no DICOM."""

import io
import re

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from series_files import file_bytes, series_datasets, series_files
from series_reading import noise, read, refused, values, why
from wetread_preprocess.errors import InvalidDicom, UnsupportedImage

_DOSE_REPORT = "1.2.840.10008.5.1.4.1.1.88.67"
_PRESENTATION_STATE = "1.2.840.10008.5.1.4.1.1.11.1"
_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_DIRECTORY = "1.2.840.10008.1.3.10"


def no_image(sop_class: str, **attributes: object) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, "1.2.3"
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return file_bytes(dataset)


class TestOrder:
    @given(order=st.permutations(range(8)))
    @settings(max_examples=15, deadline=None)
    def test_any_order_gives_the_same_stack(self, order):
        files = _EIGHT
        series = read([files[place] for place in order])
        assert np.array_equal(values(series), _PIXELS)
        assert series.stack.positions_mm[:, 2].tolist() == [2.5 * k for k in range(8)]
        assert [order[one.source - 1] for one in series.stack.slices] == list(range(8))

    def test_slices_against_the_normal_are_turned_round(self):
        series = read(series_files(noise(6), step_mm=-2.0))
        assert series.stack.positions_mm[:, 2].tolist() == [-10.0, -8.0, -6.0, -4.0, -2.0, 0.0]
        assert np.array_equal(values(series), noise(6)[::-1])

    def test_neither_slice_thickness_nor_slice_location_nor_the_number_counts(self):
        datasets = series_datasets(noise(6), step_mm=3.0)
        for number, one in enumerate(datasets):
            one.SliceThickness, one.SliceLocation, one.InstanceNumber = 7, -number, 6 - number
        series = read([file_bytes(one) for one in datasets])
        assert series.stack.distances_mm.tolist() == [0.0, 3.0, 6.0, 9.0, 12.0, 15.0]

    def test_what_the_series_says_of_itself(self):
        (first, *_) = datasets = series_datasets(noise(), pixel_spacing_mm=(0.5, 0.75), slope=2.0, intercept=-1024)
        series = read([file_bytes(one) for one in datasets])
        assert (series.modality, series.body_part) == ("CT", "CHEST")
        assert series.series_instance_uid == first.SeriesInstanceUID
        assert series.stack.pixel_spacing_mm == (0.5, 0.75)
        assert {(one.slope, one.intercept) for one in series.stack.slices} == {(2.0, -1024.0)}
        assert (series.left_out, series.warnings, series.tilt_degrees) == ((), (), 0.0)

    def test_each_slice_keeps_its_own_slope(self):
        datasets = series_datasets(noise(5), modality="MR")
        for number, one in enumerate(datasets):
            one.RescaleSlope, one.RescaleIntercept = 1.5 + number, number
        assert [one.slope for one in read(map_files(datasets)).stack.slices] == [1.5, 2.5, 3.5, 4.5, 5.5]


def map_files(datasets: list[FileDataset]) -> list[bytes]:
    return [file_bytes(one) for one in datasets]


_PIXELS = noise(8)
_EIGHT = series_files(_PIXELS, step_mm=2.5)


class TestSeveralSeries:
    def test_the_one_with_the_most_images_is_read(self):
        small, large = series_files(noise(5)), series_files(noise(9, seed=1))
        series = read([*small, *large])
        assert np.array_equal(values(series), noise(9, seed=1))
        assert set(why(series)) == {1, 2, 3, 4, 5}
        assert why(series)[1] == "of another series of 5 images: the larger one is read"

    def test_a_larger_one_that_is_not_whole_is_passed_over_with_its_reason(self):
        broken = series_files(noise(12), step_mm=2.0)
        del broken[4:10]
        series = read([*series_files(noise(5)), *broken])
        assert len(series.stack.slices) == 5
        assert "slices are missing between file 9 of 11 and file 10 of 11" in why(series)[6]

    def test_of_equal_ones_the_lower_series_number_is_read_in_any_order(self):
        first = series_files(noise(5), attributes={"SeriesNumber": 2})
        second = series_files(noise(5, seed=1), attributes={"SeriesNumber": 3})
        for files in ([*first, *second], [*second, *first]):
            assert np.array_equal(values(read(files)), noise(5))

    def test_where_none_is_whole_the_largest_ones_reason_is_told_and_that_the_others_fail_too(self):
        broken = series_files(noise(12), step_mm=2.0)
        del broken[4:10]
        refused([*series_files(noise(2)), *broken], InvalidDicom, "slices are missing", "other series .1. none can be")


class TestLeftOut:
    @pytest.mark.parametrize(
        ("report", "reason"),
        [
            (no_image(_DOSE_REPORT, Modality="SR"), "no image but X-Ray Radiation Dose SR Storage"),
            (no_image(_PDF, Modality="OT"), "no image but Encapsulated PDF Storage"),
            (no_image(_PRESENTATION_STATE, Modality="PR"), "no image but Grayscale Softcopy Presentation State"),
            (no_image(_DIRECTORY), "a DICOMDIR"),
            (b"%PDF-1.7 no DICOM at all, but a longer text", "cannot be read"),
            (b"", "holds 0 bytes"),
        ],
    )
    def test_what_is_no_image_hurts_nothing(self, report, reason):
        files = series_files(noise())
        files.insert(3, report)
        series = read(files)
        assert np.array_equal(values(series), noise())
        assert list(why(series)) == [4]
        assert reason in why(series)[4]

    def test_a_file_that_cannot_be_read_is_warned_of(self):
        assert "file 11 of 11 is left out" in read([*series_files(noise()), b"rubbish" * 40]).warnings[0]

    @pytest.mark.parametrize(
        ("attributes", "reason"),
        [
            ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localiser"),
            ({"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, "DERIVED, and the request holds originals"),
            ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "a picture of text"),
            ({"SOPClassUID": _CAPTURE, "ImagePositionPatient": None}, "a secondary capture"),
            ({"Modality": "PT"}, r"Modality .0008,0060. is PT; this pipeline reads CT, MR"),
            ({"Modality": None}, r"Modality .0008,0060. is missing"),
        ],
    )
    @pytest.mark.parametrize("same_series", [False, True])
    def test_images_that_are_no_slices_of_it(self, attributes, reason, same_series):
        files = series_files(noise(), series_uid="1.2.3.4")
        other = series_files(noise(3, seed=1), series_uid="1.2.3.4" if same_series else None, attributes=attributes)
        series = read([*other, *files])
        assert np.array_equal(values(series), noise())
        assert set(why(series)) == {1, 2, 3}
        assert re.search(reason, why(series)[1])

    def test_a_series_that_is_wholly_derived_is_read_with_a_warning(self):
        series = read(series_files(noise(), attributes={"ImageType": ["DERIVED", "SECONDARY"]}))
        assert len(series.stack.slices) == 10
        assert series.warnings == ("Image Type (0008,0008) is DERIVED: the images are not as the scanner made them",)

    @pytest.mark.parametrize(("unit", "warnings"), [("HU", 0), ("HU_MOD", 1), ("", 0)])
    def test_a_ct_in_units_of_its_own_is_read_with_a_warning(self, unit, warnings):
        series = read(series_files(noise(), attributes={"RescaleType": unit}))
        assert len(series.warnings) == warnings
        assert all("Rescale Type (0028,1054) is HU_MOD" in warning for warning in series.warnings)

    def test_originals_too_few_to_be_a_series_do_not_put_derived_images_out(self):
        derived = series_files(noise(), attributes={"ImageType": ["DERIVED", "SECONDARY"]})
        assert len(read([*series_files(noise(2, seed=1)), *derived]).stack.slices) == 10

    def test_three_planes_without_a_word_in_their_type_are_a_localiser(self):
        planes = [((1, 0, 0), (0, 1, 0)), ((0, 1, 0), (0, 0, -1)), ((1, 0, 0), (0, 0, -1))]
        uid = "1.2.3.9"
        scout = [
            one
            for seed, (row, column) in enumerate(planes)
            for one in series_files(
                noise(5, seed=seed), series_uid=uid, row_direction=row, column_direction=column, step_mm=9.0
            )
        ]
        series = read([*scout, *series_files(noise(8))])
        assert why(series)[1] == "of another series of 15 images: a localiser: 15 images in 3 orientations"

    def test_nothing_but_reports_is_refused_with_their_reasons(self):
        refused([no_image(_DOSE_REPORT, Modality="SR")], UnsupportedImage, "file 1 of 1: it is no image but X-Ray")

    def test_another_modality_alone_is_refused_by_name(self):
        refused(
            series_files(noise(), modality="MR"), UnsupportedImage, "is MR; this pipeline reads CT$", modalities=("CT",)
        )

    def test_rubbish_alone_and_nothing_at_all_are_refused(self):
        refused([b"rubbish" * 40], InvalidDicom, "file 1 of 1: it cannot be read")
        refused([], InvalidDicom, "no file")


class TestCopies:
    def test_files_sent_twice_count_once(self):
        files = series_files(noise())
        series = read([*files, *files])
        assert np.array_equal(values(series), noise())
        assert why(series)[14] == "the same image as file 4 of 20"

    def test_the_same_pixels_at_the_same_place_under_another_uid_count_once(self):
        uid = "1.2.3.4"
        series = read([*series_files(noise(), series_uid=uid), *series_files(noise(), series_uid=uid)])
        assert np.array_equal(values(series), noise())
        assert len(series.left_out) == 10
        assert "the same image as file" in series.left_out[0].why

    def test_one_uid_with_different_pixels_is_refused(self):
        datasets = series_datasets(noise())
        twin = pydicom.dcmread(io.BytesIO(file_bytes(datasets[2])))
        twin.PixelData = noise(1, seed=7).tobytes()
        refused([*map_files(datasets), file_bytes(twin)], InvalidDicom, "file 3 of 11 and file 11 of 11", "0008,0018")

    def test_a_copy_that_is_cut_short_is_the_one_left_out(self):
        files = series_files(noise())
        series = read([files[0][:-20], *files])
        assert np.array_equal(values(series), noise())
        assert why(series) == {1: "the same image as file 2 of 11"}


class TestPhases:
    @pytest.mark.parametrize(
        ("keyword", "codes", "shown"),
        [
            ("AcquisitionNumber", (2, 10), "Acquisition Number (0020,0012) 2"),
            ("EchoNumbers", (1, 2), "Echo Number(s) (0018,0086) 1"),
            ("TemporalPositionIdentifier", (1, 2), "Temporal Position Identifier (0020,0100) 1"),
            ("DiffusionBValue", (0.0, 1000.0), "Diffusion b-value (0018,9087) 0,"),
        ],
    )
    def test_a_tag_that_splits_them_cleanly_gives_the_first(self, keyword, codes, shown):
        first = series_files(noise(), series_uid="1.2.3", attributes={keyword: codes[0]})
        second = series_files(noise(seed=1), series_uid="1.2.3", attributes={keyword: codes[1]})
        series = read([*second, *first])
        assert np.array_equal(values(series), noise())
        assert shown in series.warnings[0]
        assert {one.source for one in series.left_out} == set(range(1, 11))

    def test_two_tags_together(self):
        files = [
            one
            for number, (echo, phase) in enumerate([(2, 2), (1, 2), (2, 1), (1, 1)])
            for one in series_files(
                noise(seed=number),
                series_uid="1.2.3",
                attributes={"EchoNumbers": echo, "TemporalPositionIdentifier": phase},
            )
        ]
        series = read(files)
        assert np.array_equal(values(series), noise(seed=3))
        assert len(series.left_out) == 30

    def test_without_such_a_tag_they_are_refused(self):
        files = [*series_files(noise(), series_uid="1.2.3"), *series_files(noise(seed=1), series_uid="1.2.3")]
        refused(files, UnsupportedImage, r"file \d+ of 20 and file \d+ of 20 lie at one place and differ", "send one")

    def test_two_neighbouring_ranges_that_meet_in_one_slice_are_no_phases(self):
        lower = series_files(noise(10), series_uid="1.2.3", attributes={"AcquisitionNumber": 1})
        upper = series_files(
            noise(10, seed=1), series_uid="1.2.3", first_mm=(0, 0, 9), attributes={"AcquisitionNumber": 2}
        )
        refused([*lower, *upper], UnsupportedImage, "lie at one place and differ")
