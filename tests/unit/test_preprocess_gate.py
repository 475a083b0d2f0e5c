from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from film_reference import RECIPE_FOLDER
from films import Stored, changed, compressed, film, item, radiograph, renamed, to_bytes
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, JPEG2000Lossless
from wetread_preprocess import (
    DecodeLimits,
    FilmOptions,
    FilmPreprocessor,
    ImageError,
    InvalidDicom,
    Recipe,
    UnsupportedImage,
)
from wetread_preprocess.errors import BY_NAME

PIXELS = radiograph(100, 90, 8)
DECLARED, ANY_PART = FilmOptions(declared_film=True), FilmOptions(any_body_part=True)


def refusal(preprocessor, dicom, options: FilmOptions | None = None) -> ImageError:
    with pytest.raises(ImageError) as caught:
        preprocessor.read(dicom, options or FilmOptions())
    return caught.value


def assert_refused(preprocessor, kind, *words, options=None, **attributes):
    __tracebackhide__ = True
    error = refusal(preprocessor, to_bytes(changed(film(PIXELS), **attributes)), options)
    assert type(error) is kind
    assert error.wire.startswith(f"{kind.__name__}: ")
    for word in words:
        assert word in str(error)


def test_the_film_that_the_refusals_are_made_of_is_read(preprocessor):
    film_read = preprocessor.read(to_bytes(film(PIXELS)))
    assert json.loads(film_read.geometry)["warnings"] == []


UNSUPPORTED = {
    "modality": ({"Modality": "CT"}, ("Modality (0008,0060)", "CT", "CR, DX, RG")),
    "capture": ({"Modality": "OT"}, ("Modality (0008,0060)", "declared_film")),
    "raw film": ({"PresentationIntentType": "FOR PROCESSING"}, ("(0008,0068)", "FOR PROCESSING")),
    "lateral view": ({"ViewPosition": "LL"}, ("View Position (0018,5101)", "LL")),
    "lateral view in words": ({"ViewPosition": "lateral"}, ("View Position (0018,5101)",)),
    "lateral view code": ({"ViewCodeSequence": [item(CodeValue="399067008")]}, ("(0054,0220)", "399067008")),
    "lateral orientation": ({"ViewPosition": None, "PatientOrientation": ["A", "F"]}, ("(0020,0020)", "lateral")),
    "oblique orientation": ({"ViewPosition": "", "PatientOrientation": ["PR", "F"]}, ("(0020,0020)",)),
    "several frames": ({"NumberOfFrames": 2}, ("Number of Frames (0028,0008)", "2")),
    "body part": ({"BodyPartExamined": "SKULL"}, ("Body Part Examined (0018,0015)", "SKULL", "any_body_part")),
    "body part in two words": ({"BodyPartExamined": "C SPINE"}, ("Body Part Examined (0018,0015)",)),
    "palette colour": ({"PhotometricInterpretation": "PALETTE COLOR"}, ("(0028,0004)", "PALETTE COLOR")),
    "32 bits": ({"BitsAllocated": 32}, ("Bits Allocated (0028,0100)", "32")),
    "1 bit": ({"BitsAllocated": 1}, ("Bits Allocated (0028,0100)",)),
    "four samples": ({"SamplesPerPixel": 4}, ("Samples per Pixel (0028,0002)", "4")),
    "too small": ({"Rows": 31}, ("31 x 90",)),
    "no rows": ({"Rows": 0}, ("0 x 90",)),
    "too large": ({"Rows": 65535, "Columns": 65535}, ("65535 x 65535",)),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_what_the_pipeline_does_not_read_is_refused_by_name(preprocessor, case):
    attributes, words = UNSUPPORTED[case]
    assert_refused(preprocessor, UnsupportedImage, *words, **attributes)


@pytest.mark.parametrize("modality", ["CR", "DX", "RG", "dx "])
def test_every_film_modality_is_read(preprocessor, modality):
    assert preprocessor.read(to_bytes(film(PIXELS, Modality=modality))).image.shape == (1, 224, 224)


def test_a_capture_is_read_when_its_sender_declares_it_a_film(preprocessor):
    capture = to_bytes(film(PIXELS, Modality="OT"))
    assert preprocessor.read(capture, DECLARED).image.std() > 0.1


def test_declaring_a_film_opens_no_other_modality(preprocessor):
    assert_refused(preprocessor, UnsupportedImage, "CT", options=DECLARED, Modality="CT")


@pytest.mark.parametrize("view", ["AP", "PA", None, ""])
def test_frontal_and_unnamed_views_are_read(preprocessor, view):
    preprocessor.read(to_bytes(film(PIXELS, ViewPosition=view, PatientOrientation=["L", "F"])))


def test_a_frontal_view_code_is_read(preprocessor):
    preprocessor.read(to_bytes(film(PIXELS, ViewCodeSequence=[item(CodeValue="399348003")])))


def test_any_body_part_lifts_the_refusal_and_nothing_else(preprocessor):
    preprocessor.read(to_bytes(film(PIXELS, BodyPartExamined="SKULL")), ANY_PART)
    assert_refused(preprocessor, UnsupportedImage, "CT", options=ANY_PART, Modality="CT")
    assert_refused(preprocessor, UnsupportedImage, "LL", options=ANY_PART, ViewPosition="LL")


@pytest.mark.parametrize("part", ["CHEST", "chest", "CHEST PA", "LUNG", None, ""])
def test_a_chest_or_an_unnamed_part_is_read_without_a_warning(preprocessor, part):
    read = preprocessor.read(to_bytes(film(PIXELS, BodyPartExamined=part)))
    assert json.loads(read.geometry)["warnings"] == []


def test_an_unknown_body_part_is_read_with_a_warning(preprocessor):
    (warning,) = json.loads(preprocessor.read(to_bytes(film(PIXELS, BodyPartExamined="PORTABLE"))).geometry)["warnings"]
    assert "PORTABLE" in warning


@pytest.mark.parametrize(
    ("keyword", "name"),
    [
        ("Rows", "Rows (0028,0010)"),
        ("Columns", "Columns (0028,0011)"),
        ("BitsAllocated", "Bits Allocated (0028,0100)"),
        ("Modality", "Modality (0008,0060)"),
        ("PixelData", "Pixel Data (7FE0,0010)"),
    ],
)
def test_a_missing_attribute_is_named(preprocessor, keyword, name):
    assert_refused(preprocessor, InvalidDicom, name, "missing", **{keyword: None})


@pytest.mark.parametrize("keyword", ["BitsStored", "HighBit", "SamplesPerPixel", "PixelRepresentation"])
def test_an_attribute_with_a_safe_default_may_be_missing(preprocessor, keyword):
    expected = preprocessor.read(to_bytes(film(PIXELS))).image
    np.testing.assert_array_equal(preprocessor.read(to_bytes(film(PIXELS, **{keyword: None}))).image, expected)


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({"BitsStored": 9}, "Bits Stored (0028,0101)"),
        ({"BitsStored": 0}, "Bits Stored (0028,0101)"),
        ({"HighBit": 8}, "High Bit (0028,0102)"),
        ({"HighBit": 3}, "High Bit (0028,0102)"),
        ({"Rows": 101}, "Pixel Data (7FE0,0010)"),
    ],
)
def test_attributes_that_contradict_each_other_are_named(preprocessor, attributes, name):
    assert_refused(preprocessor, InvalidDicom, name, **attributes)


def test_pixels_that_are_cut_short_are_named_with_both_lengths(preprocessor):
    data = to_bytes(film(PIXELS))
    assert "cut short" in str(refusal(preprocessor, data[:-2]))
    short = film(PIXELS)
    short["PixelData"].value = PIXELS.tobytes()[:-100]
    assert "8900 bytes" in str(refusal(preprocessor, to_bytes(short)))
    assert "9000" in str(refusal(preprocessor, to_bytes(short)))


def test_bytes_after_the_pixels_do_not_disturb(preprocessor):
    expected = preprocessor.read(to_bytes(film(PIXELS))).image
    longer = film(PIXELS)
    longer["PixelData"].value = PIXELS.tobytes() + b"\0" * 50
    longer.add_new(0xFFFCFFFC, "OB", b"\0" * 10)
    np.testing.assert_array_equal(preprocessor.read(to_bytes(longer)).image, expected)


@pytest.mark.parametrize(
    "junk",
    [b"", b"\0", b"\0" * 8, b"\0" * 200, b"\0" * 128 + b"DICM", b"\x89PNG\r\n\x1a\n" * 9, b"no film" * 99],
    ids=len,
)
def test_what_is_no_dicom_file_is_invalid(preprocessor, junk):
    assert isinstance(refusal(preprocessor, junk), InvalidDicom)


def test_a_file_cut_anywhere_in_its_header_is_invalid(preprocessor):
    data = to_bytes(film(PIXELS))
    for length in range(0, len(data) - PIXELS.nbytes, 7):
        assert isinstance(refusal(preprocessor, data[:length]), InvalidDicom), length


@pytest.mark.parametrize("keyword", ["FloatPixelData", "DoubleFloatPixelData"])
def test_float_pixels_are_refused_by_name(preprocessor, keyword):
    dataset = film(PIXELS, PixelData=None, BitsAllocated=32)
    setattr(dataset, keyword, b"\0" * 8)
    error = refusal(preprocessor, to_bytes(dataset))
    assert isinstance(error, UnsupportedImage)
    assert "float" in str(error)


@pytest.mark.parametrize(
    ("syntax", "name"),
    [
        ("1.2.840.10008.1.2.4.201", "High-Throughput JPEG 2000"),
        ("1.2.840.10008.1.2.4.203", "High-Throughput JPEG 2000"),
        ("1.2.840.10008.1.2.4.100", "MPEG2"),
        ("1.2.840.10008.1.2.4.102", "MPEG-4"),
        ("1.2.840.10008.1.2.4.107", "HEVC"),
        ("1.2.840.10008.1.2.4.92", "JPEG 2000 Part 2"),
        ("1.2.840.10008.1.2.4.94", "JPIP"),
        ("1.2.3.4", "1.2.3.4"),
    ],
)
def test_a_syntax_without_a_decoder_is_refused_by_name(preprocessor, syntax, name):
    error = refusal(preprocessor, renamed(compressed(film(PIXELS), JPEG2000Lossless), syntax))
    assert isinstance(error, UnsupportedImage)
    assert name in str(error)
    assert syntax in str(error)


def test_encapsulation_against_the_transfer_syntax_is_refused(preprocessor):
    bare = renamed(to_bytes(film(PIXELS)), JPEG2000Lossless)
    assert "not encapsulated" in str(refusal(preprocessor, bare))
    wrapped = renamed(compressed(film(PIXELS), JPEG2000Lossless), ExplicitVRLittleEndian)
    assert "is encapsulated" in str(refusal(preprocessor, wrapped))


@pytest.mark.parametrize("cut", range(4, 60, 5))
def test_encapsulated_pixels_cut_short_are_invalid(preprocessor, cut):
    data = compressed(film(PIXELS), JPEG2000Lossless)
    start = data.index(b"\xe0\x7f\x10\x00OB") + 12
    assert isinstance(refusal(preprocessor, data[: start + cut]), InvalidDicom)


def test_a_big_endian_header_under_a_little_endian_syntax_is_invalid(preprocessor):
    data = renamed(to_bytes(film(PIXELS), ExplicitVRBigEndian), ExplicitVRLittleEndian)
    assert isinstance(refusal(preprocessor, data), InvalidDicom)


@pytest.mark.slow
def test_no_refusal_carries_the_patients_name(preprocessor):
    data = to_bytes(film(Stored(radiograph(100, 90)), PatientName="SECRET^NAME", PatientID="SECRET-ID"))
    for at in range(132, len(data) - 18000 - 1, 3):
        broken = bytearray(data)
        broken[at] ^= 0xFF
        try:
            text = preprocessor.read(bytes(broken)).geometry.decode()
        except ImageError as error:
            text = str(error)
        assert "SECRET" not in text, at


def test_every_error_has_a_code_and_a_name_on_the_wire():
    assert {name: kind.triton_code for name, kind in BY_NAME.items()} == {
        "InvalidDicom": "INVALID_ARG",
        "UnsupportedImage": "UNSUPPORTED",
    }


class TestDeflated:
    def bomb(self, size: int) -> bytes:
        from films import DeflatedExplicitVRLittleEndian  # noqa: PLC0415

        return to_bytes(film(np.zeros((size, 1000), np.uint8)), DeflatedExplicitVRLittleEndian)

    def test_a_dataset_that_inflates_beyond_the_limit_is_refused(self, recipe):
        small = dataclasses.replace(recipe, limits=DecodeLimits(max_inflated_bytes=1_000_000))
        with FilmPreprocessor(small) as made:
            error = refusal(made, self.bomb(1000))
            assert isinstance(error, UnsupportedImage)
            assert "1000000 bytes" in str(error)
            made.read(self.bomb(900))

    def test_a_deflated_dataset_cut_short_is_invalid(self, preprocessor):
        data = self.bomb(900)
        for length in (len(data) * 9 // 10, len(data) // 2, 400):
            assert isinstance(refusal(preprocessor, data[:length]), InvalidDicom)


class TestRecipe:
    def write(self, folder, **changes):

        document = json.loads((RECIPE_FOLDER / "recipe.json").read_text()) | changes
        (folder / "recipe.json").write_text(json.dumps({k: v for k, v in document.items() if v is not None}))
        return folder

    def test_the_shipped_recipe_holds_what_the_classifier_was_trained_on(self, recipe):
        assert (recipe.size, recipe.mean, recipe.scale) == ((224, 224), (127.0,), (128.0,))
        assert recipe.modalities == {"CR", "DX", "RG"}

    @pytest.mark.parametrize(
        ("changes", "name"),
        [
            ({"schema": 2}, "schema 2"),
            ({"sizes": 1}, "sizes"),
            ({"modalities": None}, "modalities"),
            ({"size": 5}, "int"),
            ({"size": [224, 0]}, "size"),
            ({"channels": 2}, "channels is 2"),
            ({"channels": 3, "mean": [1, 2]}, "mean has 2 values for 3"),
            ({"scale": 0}, "scale"),
            ({"layout": "CHWN"}, "layout is CHWN"),
        ],
    )
    def test_a_recipe_that_this_code_does_not_know_is_refused_by_name(self, tmp_path, changes, name):
        with pytest.raises(ValueError, match=name):
            Recipe.load(self.write(tmp_path, **changes))

    def test_another_size_gives_another_image(self, tmp_path):
        with FilmPreprocessor.load(self.write(tmp_path, size=[64, 48])) as made:
            assert made.read(to_bytes(film(PIXELS))).image.shape == (1, 64, 48)

    @pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
    def test_three_channels_are_the_film_by_each_ones_mean_and_scale(self, tmp_path, preprocessor, layout):
        levels = preprocessor.read(to_bytes(film(PIXELS))).image[0] * 128 + 127
        changes = {"channels": 3, "mean": [123.675, 116.28, 103.53], "scale": [58.395, 57.12, 1], "layout": layout}
        with FilmPreprocessor.load(self.write(tmp_path, **changes)) as made:
            image = made.read(to_bytes(film(PIXELS))).image
        assert image.shape == ((3, 224, 224) if layout == "NCHW" else (224, 224, 3))
        assert image.flags.c_contiguous
        assert image.dtype == np.float32
        for channel in range(3):
            got = image[channel] if layout == "NCHW" else image[..., channel]
            expected = (levels - changes["mean"][channel]) / changes["scale"][channel]
            np.testing.assert_allclose(got, expected, atol=1e-3)

    def test_one_channel_may_stand_behind_the_columns(self, tmp_path, preprocessor):
        with FilmPreprocessor.load(self.write(tmp_path, layout="NHWC")) as made:
            image = made.read(to_bytes(film(PIXELS))).image
        np.testing.assert_array_equal(image[..., 0], preprocessor.read(to_bytes(film(PIXELS))).image[0])

    def test_a_pipeline_that_reads_lateral_views_takes_them(self, tmp_path):
        changes = {"lateral_views": [], "lateral_view_codes": []}
        sideways = changed(film(PIXELS), PatientOrientation=["A", "F"], ViewPosition="LL")
        with FilmPreprocessor.load(self.write(tmp_path, **changes)) as made:
            assert made.read(to_bytes(sideways)).image.shape == (1, 224, 224)
            assert made.read(to_bytes(changed(sideways, ViewPosition=""))).image.shape == (1, 224, 224)
