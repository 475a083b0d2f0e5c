"""Enhanced multi-frame images: functional groups, stacks, phases, and the same series as single frames."""

import io

import numpy as np
import pydicom
import pytest
from films import RLELossless, item
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.pixels.encoders import RLELosslessEncoder
from series_files import file_bytes, multiframe, series_files
from series_reading import noise, read, refused, values, why
from wetread_preprocess.errors import InvalidDicom, UnsupportedImage

PLANE = {"row_direction": (0.0, 1.0, 0.0), "column_direction": (0.0, 0.0, -1.0)}
NORMAL = np.array([-1.0, 0.0, 0.0])


def places(slices: int, step_mm: float = 2.0) -> np.ndarray:
    return np.arange(slices)[:, None] * step_mm * NORMAL + [5.0, -3.0, 7.0]


def rle(dataset: pydicom.Dataset, frames: np.ndarray, *, offsets: str, fragments: int = 1) -> bytes:
    """The image with its frames compressed, and the table of their offsets: none, basic or extended."""
    packed = [
        RLELosslessEncoder.encode(
            frame,
            rows=frame.shape[0],
            columns=frame.shape[1],
            samples_per_pixel=1,
            bits_allocated=16,
            bits_stored=16,
            photometric_interpretation="MONOCHROME2",
            pixel_representation=1,
            number_of_frames=1,
            encoding_plugin="pydicom",
        )
        for frame in frames
    ]
    if offsets == "extended":
        pixels, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = encapsulate_extended(packed)
    else:
        pixels = encapsulate(packed, fragments_per_frame=fragments, has_bot=offsets == "basic")
    dataset.PixelData = pixels
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.file_meta.TransferSyntaxUID = RLELossless
    return file_bytes(dataset)


class TestOneStack:
    @pytest.mark.parametrize("modality", ["CT", "MR"])
    def test_it_equals_the_series_of_single_frames(self, modality):
        pixels = noise(9)
        single = read(
            series_files(pixels, modality=modality, first_mm=(5, -3, 7), step_mm=2.0, slope=1.5, intercept=-3, **PLANE)
        ).stack
        shuffled = np.random.default_rng(3).permutation(9)
        whole = multiframe(
            pixels[shuffled], places(9)[shuffled], modality=modality, slopes=[1.5] * 9, intercept=-3, **PLANE
        )
        multi = read([file_bytes(whole)]).stack
        assert np.array_equal(multi.positions_mm, single.positions_mm)
        assert (multi.row_direction, multi.column_direction) == (single.row_direction, single.column_direction)
        assert multi.pixel_spacing_mm == single.pixel_spacing_mm
        assert [(one.slope, one.intercept) for one in multi.slices] == [(1.5, -3.0)] * 9
        assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(multi.slices, single.slices, strict=True))
        assert [one.frame for one in multi.slices] == np.argsort(shuffled).tolist()
        assert {one.sop_instance_uid for one in multi.slices} == {whole.SOPInstanceUID}

    def test_each_frame_keeps_its_own_slope(self):
        slopes = [1.0 + k for k in range(6)]
        series = read([file_bytes(multiframe(noise(6), places(6), slopes=slopes, **PLANE))])
        assert [one.slope for one in series.stack.slices] == slopes

    def test_a_series_in_two_multiframe_files_is_one(self):
        pixels, positions = noise(12), places(12)
        halves = [
            file_bytes(multiframe(pixels[part], positions[part], series_uid="1.2.3", **PLANE))
            for part in (slice(1, 12, 2), slice(0, 12, 2))
        ]
        series = read(halves)
        assert np.array_equal(values(series), pixels)
        assert [one.source for one in series.stack.slices] == [2, 1] * 6

    def test_what_is_shared_in_one_file_and_each_frames_own_in_another_is_the_same(self):
        dataset = multiframe(noise(6), places(6), **PLANE)
        (shared,) = dataset.SharedFunctionalGroupsSequence
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            frame.PlaneOrientationSequence = shared.PlaneOrientationSequence
            frame.PixelMeasuresSequence = shared.PixelMeasuresSequence
        dataset.SharedFunctionalGroupsSequence = [item()]
        assert np.array_equal(values(read([file_bytes(dataset)])), noise(6))

    def test_the_body_part_may_be_coded(self):
        dataset = multiframe(noise(6), places(6), body_part="", **PLANE)
        region = item(AnatomicRegionSequence=[item(CodeValue="69536005", CodeMeaning="Head")])
        dataset.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [region]
        assert read([file_bytes(dataset)]).body_part == "HEAD"

    def test_native_frames_are_views_of_the_file(self):
        file = np.frombuffer(file_bytes(multiframe(noise(6), places(6), **PLANE)), np.uint8)
        assert all(np.shares_memory(one.pixels, file) for one in read([file]).stack.slices)

    @pytest.mark.slow
    @pytest.mark.parametrize(("offsets", "fragments"), [("none", 1), ("basic", 1), ("basic", 2), ("extended", 1)])
    def test_compressed_frames(self, offsets, fragments):
        pixels = noise(6)
        series = read([rle(multiframe(pixels, places(6), **PLANE), pixels, offsets=offsets, fragments=fragments)])
        assert np.array_equal(values(series), pixels)

    def test_compressed_frames_in_fragments_without_a_table_are_refused(self):
        pixels = noise(6)
        refused(
            [rle(multiframe(pixels, places(6), **PLANE), pixels, offsets="none", fragments=2)],
            InvalidDicom,
            "file 1 of 1, frame 1: .*12 fragments for 6 frames",
        )


class TestSeveralStacks:
    def test_the_larger_stack_is_read(self):
        first = places(6)
        second = np.array([[100.0, 0, 3.0 * k] for k in range(9)])
        dataset = multiframe(noise(15), np.concatenate([first, second]), stacks=["A"] * 6 + ["B"] * 9, **PLANE)
        turned = item(ImageOrientationPatient=["1", "0", "0", "0", "1", "0"])
        for frame in dataset.PerFrameFunctionalGroupsSequence[6:]:
            frame.PlaneOrientationSequence = [turned]
        series = read([file_bytes(dataset)])
        assert np.array_equal(values(series), noise(15)[6:])
        assert why(series) == {1: "6 frames: of another series of 6 images: the larger one is read"}

    def test_of_several_times_the_first_is_read(self):
        positions = np.concatenate([places(6)] * 3)
        dataset = multiframe(noise(18), positions, temporal=[3] * 6 + [1] * 6 + [2] * 6, **PLANE)
        series = read([file_bytes(dataset)])
        assert np.array_equal(values(series), noise(18)[6:12])
        assert "left out are 2, 3" in series.warnings[0]
        assert [one.why.split(":")[0] for one in series.left_out] == ["6 frames", "6 frames"]

    def test_derived_frames_beside_originals_are_left_out(self):
        dataset = multiframe(noise(12), np.concatenate([places(6)] * 2), **PLANE)
        for number, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            kind = "ORIGINAL" if number < 6 else "DERIVED"
            frame.MRImageFrameTypeSequence = [item(FrameType=[kind, "PRIMARY", "VOLUME", "NONE"])]
        series = read([file_bytes(dataset)])
        assert np.array_equal(values(series), noise(12)[:6])
        assert "DERIVED" in why(series)[1]


class TestRefused:
    @pytest.mark.parametrize(
        ("sequence", "named"),
        [
            ("PlanePositionSequence", r"Image Position .Patient. .0020,0032. is missing from the frame's functional"),
            ("PlaneOrientationSequence", r"Image Orientation .Patient. .0020,0037. is missing from"),
            ("PixelMeasuresSequence", r"Pixel Spacing .0028,0030. is missing from"),
        ],
    )
    def test_a_group_that_is_missing_is_named_by_its_attribute(self, sequence, named):
        dataset = multiframe(noise(6), places(6), **PLANE)
        for groups in (*dataset.SharedFunctionalGroupsSequence, *dataset.PerFrameFunctionalGroupsSequence):
            if sequence in groups:
                delattr(groups, sequence)
        refused([file_bytes(dataset)], InvalidDicom, f"file 1 of 1, frame 1: {named}")

    def test_fewer_groups_than_frames(self):
        dataset = multiframe(noise(6), places(6), **PLANE)
        dataset.PerFrameFunctionalGroupsSequence = dataset.PerFrameFunctionalGroupsSequence[:4]
        refused([file_bytes(dataset)], InvalidDicom, "5200,9230. has 4 items for 6 frames")

    def test_frames_without_any_groups(self):
        dataset = multiframe(noise(6), places(6), **PLANE)
        del dataset.PerFrameFunctionalGroupsSequence, dataset.SharedFunctionalGroupsSequence
        refused([file_bytes(dataset)], InvalidDicom, "5200,9230. is missing")

    def test_more_frames_than_a_series_may_have_slices(self):
        refused(
            [file_bytes(multiframe(noise(6), places(6), **PLANE))],
            UnsupportedImage,
            "0028,0008. is 6; up to 5 are read",
            most_slices=5,
        )

    def test_fewer_pixels_than_frames(self):
        dataset = multiframe(noise(6), places(6), **PLANE)
        dataset.PixelData = dataset.PixelData[:-100]
        refused([file_bytes(dataset)], InvalidDicom, "file 1 of 1, frame .: Pixel Data .* holds 260 bytes; 6 x 6 x 5")

    def test_a_file_cut_short(self):
        data = file_bytes(multiframe(noise(6), places(6), **PLANE))
        refused([data[:-50]], InvalidDicom, "cut short")
        assert pydicom.dcmread(io.BytesIO(data)).NumberOfFrames == 6
