"""Where slices lie: gaps, tilt, orientation, what is missing, and series of several kinds."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from series_files import file_bytes, series_datasets, series_files
from series_reading import noise, read, refused, values, why
from wetread_preprocess.errors import InvalidDicom, UnsupportedImage
from wetread_preprocess.volumes.alike import directions

SHARED = "1.2.3.4"


def along_z(*distances_mm: float) -> np.ndarray:
    return np.array([[0.0, 0.0, z] for z in distances_mm])


def tilted(slices: int, degrees: float, step_mm: float = 5.0) -> dict[str, object]:
    """A gantry tilted about the x axis: the table moves along z, the slices lean."""
    angle = math.radians(degrees)
    return {
        "positions_mm": along_z(*(step_mm * k for k in range(slices))),
        "column_direction": (0.0, math.cos(angle), -math.sin(angle)),
        "pixel_spacing_mm": (8.0, 8.0),
    }


class TestGaps:
    def test_a_missing_slice_is_interpolated_with_a_warning_that_says_where(self):
        files = series_files(noise(), step_mm=2.5)
        del files[4]
        series = read(files)
        assert len(series.stack.slices) == 9
        assert series.warnings == (
            "wide gaps are interpolated between file 4 of 9 and file 5 of 9, at 7.5 mm: 5.0 mm, where slices are 2.5 "
            "mm apart",
        )

    def test_a_gap_beyond_the_limit_is_refused_with_its_place(self):
        files = series_files(noise(20), step_mm=2.5)
        del files[15:19]
        refused(
            files[::-1],
            InvalidDicom,
            r"between file 2 of 16 and file 1 of 16, at 35.0 mm: 12.5 mm, where slices are 2.5 mm apart; up to 8.0 mm",
        )

    def test_the_limit_is_the_larger_of_millimetres_and_a_ratio(self):
        files = series_files(noise(), positions_mm=along_z(*(5 * k for k in range(9)), 54))
        assert len(read(files).stack.slices) == 10  # 14 mm: below three times 5
        refused(files, InvalidDicom, "at 40.0 mm", gap_ratio=2.0)
        assert len(read(files, gap_ratio=2.0, gap_mm=14.5).stack.slices) == 10

    def test_uneven_slices_are_read_where_they_lie(self):
        places = [0.0, 1.0, 3.0, 3.5, 7.0, 8.0]
        assert read(series_files(noise(6), positions_mm=along_z(*places))).stack.distances_mm.tolist() == places

    def test_slices_that_all_but_touch_are_warned_of(self):
        files = series_files(noise(6), positions_mm=along_z(0, 3, 3.2, 6, 9, 12))
        assert read(files).warnings[-1].startswith("slices lie close together between file 2 of 6 and file 3 of 6")

    def test_many_gaps_are_counted_not_listed(self):
        places = np.cumsum([0, *([1, 1, 1, 2] * 6)])
        warning = read(series_files(noise(25), positions_mm=along_z(*places))).warnings[0]
        assert warning.count("between file") == 3
        assert warning.endswith("; and 3 more")

    @pytest.mark.parametrize("cut", [200, 500, 800])
    def test_a_file_that_could_not_be_read_is_named_beside_the_gap(self, cut):
        files = series_files(noise(20), step_mm=2.5)
        files[10:14] = [files[10][:cut]]
        refused(files, InvalidDicom, "slices are missing", "; file 11 of 17: it cannot be read")


class TestCounts:
    @pytest.mark.parametrize("slices", [1, 3])
    def test_too_few_slices_are_refused(self, slices):
        refused(
            series_files(noise(slices)), UnsupportedImage, f"the series has {slices} slices?; a volume is made of 4"
        )

    def test_too_many_are_refused(self):
        refused(series_files(noise(6)), UnsupportedImage, "has 6 slices; up to 5", most_slices=5)

    def test_copies_do_not_make_a_series_of_one_slice(self):
        refused(series_files(noise(1)) * 12, UnsupportedImage, "the series has 1 slice;")


class TestTilt:
    @pytest.mark.parametrize("degrees", [18.5, -12.0, 0.3])
    def test_the_angle_is_found_and_the_slices_stay_where_they_are(self, degrees):
        series = read(series_files(noise(), **tilted(10, degrees)))
        assert series.tilt_degrees == pytest.approx(abs(degrees), abs=1e-6)
        assert series.stack.positions_mm[-1].tolist() == [0.0, 0.0, 45.0]
        assert series.warnings == ()

    def test_below_a_tenth_of_a_degree_there_is_none(self):
        assert read(series_files(noise(), **tilted(10, 0.09))).tilt_degrees == 0.0

    def test_two_tilted_stacks_in_one_series_are_refused_with_counts(self):
        first = series_files(noise(8), series_uid=SHARED, **tilted(8, 20))
        second = series_files(noise(7), series_uid=SHARED, **tilted(7, -10))
        refused(
            [*first, *second], UnsupportedImage, "15 images are of several kinds: 8 alike", "7 have planes turned by 30"
        )

    def test_of_two_stacks_the_larger_is_read_when_the_rest_is_small(self):
        first = series_files(noise(20), series_uid=SHARED, **tilted(20, 20))
        second = series_files(noise(2), series_uid=SHARED, **tilted(2, -10))
        series = read([*second, *first])
        assert np.array_equal(values(series), noise(20))
        assert why(series)[1] == "unlike the others: planes turned by 30.0 degrees"
        assert series.warnings[0].startswith("2 of the series' images left out (file 1 of 22, file 2 of 22): unlike")

    def test_slices_that_move_in_their_plane_rather_than_along_the_normal_are_refused(self):
        positions = np.array([[10.0 * k, 0.0, 1.0 * k] for k in range(8)])
        refused(series_files(noise(8), positions_mm=positions), InvalidDicom, r"0020,0032.*runs off by 84 degrees")

    def test_slices_beside_the_line_are_refused_when_far_and_warned_of_when_near(self):
        near, far = (along_z(*range(8)) for _ in range(2))
        near[3, 0], far[3, 0] = 1.8, 15.0
        big = noise(8, 40, 40)
        assert (
            "shifted against each other in their plane, by up to 1.6 mm"
            in read(series_files(big, positions_mm=near)).warnings[0]
        )
        refused(series_files(big, positions_mm=far), InvalidDicom, "in the plane")


class TestMissing:
    @pytest.mark.parametrize(
        ("keyword", "named"),
        [
            ("ImagePositionPatient", r"Image Position .Patient. .0020,0032. is missing"),
            ("ImageOrientationPatient", r"Image Orientation .Patient. .0020,0037. is missing"),
            ("PixelSpacing", r"Pixel Spacing .0028,0030. is missing"),
            ("Rows", r"Rows .0028,0010. is missing"),
        ],
    )
    def test_an_attribute_that_a_volume_needs_is_refused_by_name(self, keyword, named):
        refused(series_files(noise(), attributes={keyword: None}), (InvalidDicom, UnsupportedImage), named)

    def test_one_slice_without_a_place_is_left_out_while_the_rest_is_whole(self):
        datasets = series_datasets(noise(10))
        del datasets[9].ImagePositionPatient
        series = read([file_bytes(one) for one in datasets])
        assert len(series.stack.slices) == 9
        assert "Image Position (Patient) (0020,0032) is missing" in series.warnings[0]

    def test_many_slices_without_a_place_refuse_the_series(self):
        datasets = series_datasets(noise(10))
        for one in datasets[:4]:
            del one.ImagePositionPatient
        refused(
            [file_bytes(one) for one in datasets],
            InvalidDicom,
            r"file 1 of 10: Image Position .Patient. .0020,0032. is missing.*so of 4 of the series' 10 images",
        )

    @pytest.mark.parametrize(
        ("attributes", "named"),
        [
            ({"ImagePositionPatient": ["1", "2"]}, "0020,0032. has 2 values, not 3"),
            ({"ImageOrientationPatient": ["1", "0", "0"]}, "0020,0037. has 3 values, not 6"),
            ({"PixelSpacing": ["0", "1"]}, "0028,0030. is 0, 1"),
            ({"RescaleSlope": "0"}, "0028,1053. is 0"),
        ],
    )
    def test_a_value_that_cannot_be_is_refused_by_attribute(self, attributes, named):
        refused(series_files(noise(), attributes=attributes), InvalidDicom, named)


class TestKinds:
    def test_mixed_sizes_are_refused_with_counts(self):
        files = [*series_files(noise(8), series_uid=SHARED), *series_files(noise(4, 7, 7), series_uid=SHARED)]
        refused(
            files,
            UnsupportedImage,
            "12 images are of several kinds: 8 alike .Rows x Columns 6 x 5",
            "4 have Rows x Col",
        )

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"pixel_spacing_mm": (1.0, 1.01)}, "Pixel Spacing (0028,0030) 1 and 1.01 mm"),
            ({"attributes": {"FrameOfReferenceUID": "1.2.9"}}, "another Frame of Reference UID (0020,0052)"),
            ({"attributes": {"PixelRepresentation": 0}}, "Pixel Representation (0028,0103) 0"),
            ({"row_direction": (0.0, 1.0, 0.0), "column_direction": (1.0, 0.0, 0.0)}, "planes turned by 90.0 degrees"),
        ],
    )
    def test_the_odd_ones_are_left_out_while_they_are_few(self, options, reason):
        odd = series_files(noise(2, seed=5), first_mm=(0, 0, 3.5), series_uid=SHARED, **options)
        series = read([*odd, *series_files(noise(), series_uid=SHARED)])
        assert np.array_equal(values(series), noise())
        assert why(series) == {1: f"unlike the others: {reason}", 2: f"unlike the others: {reason}"}

    def test_the_share_of_odd_ones_is_the_rules(self):
        files = [*series_files(noise(2, 7, 7), series_uid=SHARED), *series_files(noise(), series_uid=SHARED)]
        refused(files, UnsupportedImage, "several kinds", most_odd_slices=0.1)


class TestDirections:
    @given(
        st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1),
        st.tuples(*[st.floats(-1, 1)] * 3),
        st.tuples(*[st.floats(-5e-4, 5e-4)] * 6),
    )
    @settings(max_examples=60, deadline=None)
    def test_written_with_three_decimals_they_come_out_as_unit_vectors_at_a_right_angle(self, first, other, error):
        row = np.array(first) / np.linalg.norm(first)
        column = np.cross(row, other)
        if np.linalg.norm(column) < 1e-3:
            column = np.cross(row, np.eye(3)[np.argmin(np.abs(row))])
        column /= np.linalg.norm(column)
        found = np.array(directions(tuple(np.concatenate([row, column]) + error)))
        assert np.allclose(found @ found.T, np.eye(2), atol=1e-12)
        assert np.abs(found - [row, column]).max() < 2.5e-3

    def test_exact_ones_are_not_touched(self):
        assert directions((1, 0, 0, 0, 0.6, -0.8)) == ((1, 0, 0), (0, 0.6, -0.8))

    @pytest.mark.parametrize("orientation", [(1, 0, 0, 0.01, 1, 0), (1.01, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, 0)])
    def test_beyond_the_tolerance_they_are_refused(self, orientation):
        with pytest.raises(InvalidDicom, match=r"0020,0037. holds no two unit vectors"):
            directions(orientation)


@pytest.mark.data
class TestRealSeries:
    def test_the_chest_is_even(self, data_folder):
        series = read([one.read_bytes() for one in sorted((data_folder / "dicom/ct_chest").iterdir())])
        assert series.stack.shape == (100, 512, 512)
        assert np.allclose(np.diff(series.stack.distances_mm), 2.5)
        assert (series.warnings, series.tilt_degrees, series.body_part) == ((), 0.0, "")
        assert series.stack.padding == (-2000, -2000)

    def test_the_tilted_head_is_irregular(self, data_folder):
        series = read([one.read_bytes() for one in sorted((data_folder / "dicom/ct_tilted").iterdir())])
        steps = np.diff(series.stack.distances_mm)
        assert series.stack.shape == (28, 512, 512)
        assert series.tilt_degrees == pytest.approx(18.5, abs=0.1)
        assert (steps.min(), steps.max()) == (pytest.approx(1.08, abs=0.01), pytest.approx(7.0, abs=0.05))
        assert "wide gaps are interpolated" in series.warnings[0]

    def test_the_head_is_derived_as_a_whole_and_read(self, data_folder):
        series = read([one.read_bytes() for one in sorted((data_folder / "dicom/mr_t1").iterdir())])
        assert series.stack.shape[0] == 384
        assert "DERIVED" in series.warnings[0]
        assert series.left_out == ()
