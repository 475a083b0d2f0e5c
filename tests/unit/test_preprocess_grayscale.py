from __future__ import annotations

import json
from typing import ClassVar

import numpy as np
import pytest
from film_reference import image, levels
from films import Stored, changed, film, item, lut, radiograph, to_bytes
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from wetread_preprocess import InvalidDicom, UnsupportedImage

# IMAGE spans 2; half a level of 16 bits and float32 stay far below this.
EXACT = 2e-4
BLACK = -127 / 128


def blocks(picture: np.ndarray, factor: int = 2) -> np.ndarray:
    """Every pixel as a square, so that an average and a curve may change places."""
    return np.kron(picture, np.ones((factor, factor), picture.dtype))


def read(preprocessor, dataset, **write) -> np.ndarray:
    return preprocessor.read(to_bytes(dataset, **write)).image[0]


def assert_reads_as(preprocessor, dataset, stored, tolerance=EXACT, **write):
    __tracebackhide__ = True
    got, expected = read(preprocessor, dataset, **write), image(dataset, stored)
    assert expected.std() > 0.02, "the picture must show something"
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)


GRAYSCALE = {
    "8 bit film that states no window": (8, {}),
    "LINEAR window": (12, {"WindowCenter": 2000, "WindowWidth": 1500}),
    "LINEAR window named": (12, {"WindowCenter": 1800, "WindowWidth": 900, "VOILUTFunction": "LINEAR"}),
    "LINEAR_EXACT window": (12, {"WindowCenter": 1800, "WindowWidth": 900, "VOILUTFunction": "LINEAR_EXACT"}),
    # narrow, so that the half level between LINEAR and LINEAR_EXACT shows
    "narrow LINEAR window": (12, {"WindowCenter": 2000, "WindowWidth": 40}),
    "narrow LINEAR_EXACT window": (12, {"WindowCenter": 2000, "WindowWidth": 40, "VOILUTFunction": "LINEAR_EXACT"}),
    "SIGMOID window": (12, {"WindowCenter": 2000, "WindowWidth": 1500, "VOILUTFunction": "SIGMOID"}),
    "several windows": (12, {"WindowCenter": [2000, 100, 3000], "WindowWidth": [1500, 50, 10]}),
    "window of width one": (12, {"WindowCenter": 2000, "WindowWidth": 1}),
    "rescale and window": (
        12,
        {"RescaleSlope": "0.5", "RescaleIntercept": "-300", "WindowCenter": 700, "WindowWidth": 800},
    ),
    "negative slope": (
        12,
        {"RescaleSlope": "-1", "RescaleIntercept": "4095", "WindowCenter": 2000, "WindowWidth": 3000},
    ),
    "rescale of an 8 bit film without window": (8, {"RescaleSlope": "2", "RescaleIntercept": "-10"}),
    "presentation LUT INVERSE": (12, {"WindowCenter": 2000, "WindowWidth": 3000, "PresentationLUTShape": "INVERSE"}),
    "MONOCHROME1": (
        12,
        {"WindowCenter": 2000, "WindowWidth": 3000, "PhotometricInterpretation": "MONOCHROME1"},
    ),
    "MONOCHROME1 with its PresentationLUTShape": (
        8,
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
    ),
}


@pytest.mark.parametrize("case", GRAYSCALE)
def test_a_films_grayscale_equals_pydicoms_at_full_resolution(preprocessor, case):
    bits, attributes = GRAYSCALE[case]
    stored = blocks(radiograph(224, 224, bits))
    dataset = film(Stored(stored, bits, 8 if bits <= 8 else 16), **attributes)
    assert_reads_as(preprocessor, dataset, stored)


def test_windows_of_both_linear_functions_differ_by_half_a_level(preprocessor):
    stored = blocks(radiograph(224, 224))
    linear = film(Stored(stored), WindowCenter=2000, WindowWidth=40)
    exact = film(Stored(stored), WindowCenter=2000, WindowWidth=40, VOILUTFunction="LINEAR_EXACT")
    assert np.abs(read(preprocessor, linear) - read(preprocessor, exact)).max() > 20 * EXACT


def curve(count: int, top: int) -> np.ndarray:
    return np.rint(top * np.sqrt(np.arange(count) / (count - 1))).astype(int)


@pytest.mark.parametrize(("first", "count"), [(0, 4096), (500, 3000), (0, 65536)])
def test_a_voi_lut_is_looked_up_and_the_first_table_counts(preprocessor, first, count):
    stored = blocks(radiograph(224, 224))
    tables = [lut(curve(count, 4095), first, 12), lut(curve(100, 255), 0, 8)]
    dataset = film(Stored(stored), VOILUTSequence=tables, WindowCenter=10, WindowWidth=10)
    assert_reads_as(preprocessor, dataset, stored)


def test_a_modality_lut_is_looked_up_before_the_window(preprocessor):
    stored = blocks(radiograph(224, 224))
    tables = [lut(curve(4096, 65535), 0, 16)]
    dataset = film(Stored(stored), ModalityLUTSequence=tables, WindowCenter=45000, WindowWidth=40000)
    assert_reads_as(preprocessor, dataset, stored)


def test_a_voi_lut_of_signed_values_starts_below_zero(preprocessor):
    stored = blocks(radiograph(224, 224)).astype(int) - 2048
    dataset = film(Stored(stored, signed=True), VOILUTSequence=[lut(curve(4096, 4095), -2048, 12)])
    assert_reads_as(preprocessor, dataset, stored)


@pytest.mark.parametrize(("bits", "high_bit"), [(10, 9), (12, 11), (16, 15), (10, 15), (12, 13), (8, 7)])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("rubbish", [0, 0xFFFF, 0xA5A5])
def test_bits_outside_the_stored_ones_do_not_count(preprocessor, bits, high_bit, signed, rubbish):
    half = 2 ** (bits - 1)
    stored = blocks(radiograph(224, 224, bits)).astype(int) - half * signed
    window = {"WindowCenter": half * (not signed), "WindowWidth": 1.2 * half}
    dataset = film(Stored(stored, bits, 16, high_bit, signed, rubbish), **window)
    assert_reads_as(preprocessor, dataset, stored)


SIZES = [(2141, 1763), (300, 500), (225, 224), (224, 225), (100, 90), (448, 1000), (150, 500), (1024, 33)]


@pytest.mark.slow
@pytest.mark.parametrize("rows_columns", SIZES, ids=str)
def test_any_size_is_averaged_by_area_and_stretched(preprocessor, rows_columns):
    stored = radiograph(*rows_columns)
    dataset = film(Stored(stored), WindowCenter=2048, WindowWidth=4096)
    assert_reads_as(preprocessor, dataset, stored)
    geometry = json.loads(preprocessor.read(to_bytes(dataset)).geometry)
    assert (geometry["rows"], geometry["columns"]) == rows_columns


def test_noise_is_averaged_and_not_sampled(preprocessor):
    noise = np.random.default_rng(1).integers(0, 4096, (701, 887)).astype(np.uint16)
    dataset = film(Stored(noise), WindowCenter=2048, WindowWidth=4096)
    assert_reads_as(preprocessor, dataset, noise)


@pytest.mark.slow
@pytest.mark.parametrize("rows_columns", [(2048, 2048), (896, 1000), (1792, 1792)], ids=str)
def test_halving_a_large_film_first_stays_close_to_the_area_average(preprocessor, rows_columns):
    rough = radiograph(*rows_columns) + np.random.default_rng(2).normal(0, 40, rows_columns)
    stored = np.clip(np.rint(rough), 0, 4095).astype(np.uint16)
    dataset = film(Stored(stored), WindowCenter=2048, WindowWidth=4096)
    off = np.abs(read(preprocessor, dataset) - image(dataset, stored)) / 2
    assert off.mean() < 0.0006
    assert np.quantile(off, 0.999) < 0.003


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
@pytest.mark.parametrize("bits", [8, 12])
def test_all_native_syntaxes_give_the_same_image(preprocessor, syntax, bits):
    stored = blocks(radiograph(224, 224, bits))
    dataset = film(Stored(stored, bits, 8 if bits == 8 else 16), WindowCenter=2 ** (bits - 1), WindowWidth=2**bits)
    assert_reads_as(preprocessor, dataset, stored, syntax=syntax)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_bare_dataset_without_preamble_is_read(preprocessor, syntax):
    stored = blocks(radiograph(224, 224))
    dataset = film(Stored(stored), WindowCenter=2048, WindowWidth=4096)
    data = to_bytes(dataset, syntax, preamble=False)
    assert data[128:132] != b"DICM"
    np.testing.assert_allclose(preprocessor.read(data).image[0], image(dataset, stored), rtol=0, atol=EXACT)


def test_bytes_memoryview_and_array_are_the_same_film(preprocessor):
    data = to_bytes(film(radiograph(300, 300, 8)))
    images = [preprocessor.read(each).image for each in (data, memoryview(data), np.frombuffer(data, np.uint8))]
    assert (images[0] == images[1]).all()
    assert (images[0] == images[2]).all()
    assert images[0].shape == (1, 224, 224)
    assert images[0].dtype == np.float32


def test_an_8_bit_film_of_the_classifiers_size_passes_unchanged(preprocessor):
    pixels = radiograph(224, 224, 8)
    np.testing.assert_allclose(read(preprocessor, film(pixels)), (pixels - 127.0) / 128.0, rtol=0, atol=2e-7)


class TestPadding:
    stored = radiograph(448, 448).astype(int) // 2 + 1000
    window: ClassVar = {"WindowCenter": 2048, "WindowWidth": 4096}

    def padded(self, value: int, border: int = 51) -> np.ndarray:
        made = self.stored.copy()
        made[:, :border] = value
        made[:border] = value
        return made

    @pytest.mark.parametrize(("value", "polarity"), [(4095, "MONOCHROME2"), (0, "MONOCHROME1"), (4095, "MONOCHROME1")])
    def test_padding_is_black_whatever_its_value(self, preprocessor, value, polarity):
        dataset = film(
            Stored(self.padded(value)), PixelPaddingValue=value, PhotometricInterpretation=polarity, **self.window
        )
        got = read(preprocessor, dataset)
        assert (got[:25] == BLACK).all()
        assert (got[:, :25] == BLACK).all()
        np.testing.assert_allclose(got[26:, 26:], image(dataset, self.stored)[26:, 26:], atol=EXACT)

    def test_padding_does_not_bleed_into_its_neighbours(self, preprocessor):
        # row 25 of 224 averages one padded row of 4095 and one of the film: the film's alone must show.
        dataset = film(Stored(self.padded(4095)), PixelPaddingValue=4095, **self.window)
        seam = read(preprocessor, dataset)[25, 26:]
        film_row = (levels(dataset, self.stored)[51, 52:].reshape(-1, 2).mean(axis=1) - 127) / 128
        np.testing.assert_allclose(seam, film_row, atol=EXACT)

    def test_a_padding_range_counts_with_both_ends(self, preprocessor):
        stored = self.padded(3000, 52)
        stored[:52, ::2] = 3010
        stored[:26] = 3005
        got = read(
            preprocessor, film(Stored(stored), PixelPaddingValue=3010, PixelPaddingRangeLimit=3000, **self.window)
        )
        assert (got[:26] == BLACK).all()
        assert (got[26:, 26:] > BLACK).all()
        got = read(
            preprocessor, film(Stored(stored), PixelPaddingValue=3009, PixelPaddingRangeLimit=3001, **self.window)
        )
        assert (got[13:26] > BLACK).all()

    def test_signed_padding_is_found_also_when_written_unsigned(self, preprocessor):
        stored = self.padded(-2000) - 1024
        stored[stored == -3024] = -2000
        dataset = film(Stored(stored, 16, signed=True), WindowCenter=0, WindowWidth=4096)
        for vr, value in (("SS", -2000), ("US", 65536 - 2000)):
            dataset.add_new("PixelPaddingValue", vr, value)
            assert (read(preprocessor, dataset)[:25] == BLACK).all()

    def test_padding_does_not_shift_the_window_of_a_film_that_states_none(self, preprocessor):
        bare = film(Stored(self.stored[51:, 51:]))
        padded = film(Stored(self.padded(0)), PixelPaddingValue=0)
        inside = read(preprocessor, padded)[26:, 26:]
        assert abs(inside.max() - read(preprocessor, bare).max()) < 0.02
        assert abs(np.median(inside) - np.median(read(preprocessor, bare))) < 0.02

    def test_a_film_that_is_all_padding_is_refused(self, preprocessor):
        dataset = film(Stored(np.full((300, 300), 7)), PixelPaddingValue=7)
        with pytest.raises(UnsupportedImage, match="every pixel is padding"):
            preprocessor.read(to_bytes(dataset))


class TestMonochrome1Twin:
    @pytest.mark.parametrize("bits", [8, 10, 12, 16])
    @pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
    @pytest.mark.parametrize("size", [(333, 421), (448, 448)], ids=str)
    def test_the_inverted_film_gives_the_same_image(self, preprocessor, bits, function, size):
        stored, top = radiograph(*size, bits), 2**bits - 1
        centre, width = 0.55 * top, 0.7 * top
        # PS3.3 C.11.2.1.2.1: LINEAR is centred on centre - 0.5, so its mirror is top + 1 - centre.
        mirrored = top + (function == "LINEAR") - centre
        layout = {"bits_stored": bits, "bits_allocated": 8 if bits == 8 else 16}
        window = {"WindowWidth": width, "VOILUTFunction": function}
        film_2 = film(Stored(stored, **layout), WindowCenter=centre, **window)
        film_1 = film(
            Stored(top - stored, **layout), WindowCenter=mirrored, PhotometricInterpretation="MONOCHROME1", **window
        )
        np.testing.assert_allclose(read(preprocessor, film_1), read(preprocessor, film_2), atol=1e-4, rtol=0)

    def test_the_inverted_film_without_a_window_gives_the_same_image(self, preprocessor):
        stored = radiograph(333, 421)
        twin = film(Stored(4095 - stored), PhotometricInterpretation="MONOCHROME1")
        np.testing.assert_allclose(
            read(preprocessor, twin), read(preprocessor, film(Stored(stored))), atol=1e-4, rtol=0
        )


class TestColour:
    gray = radiograph(300, 310, 8)

    def of(self, pixels, photometric, **attributes):
        return film(Stored(pixels, 8, 8), PhotometricInterpretation=photometric, **attributes)

    def test_gray_rgb_is_read_as_its_gray(self, preprocessor):
        rgb = np.dstack([self.gray] * 3)
        assert_reads_as(preprocessor, self.of(rgb, "RGB"), self.gray)

    def test_planar_rgb_is_read_as_its_gray(self, preprocessor):
        dataset = self.of(np.dstack([self.gray] * 3), "RGB", PlanarConfiguration=1)
        dataset.PixelData = np.stack([self.gray] * 3).tobytes()
        assert_reads_as(preprocessor, dataset, self.gray)

    def test_gray_ybr_full_is_read_as_its_luma(self, preprocessor):
        ybr = np.dstack([self.gray, np.full_like(self.gray, 128), np.full_like(self.gray, 128)])
        assert_reads_as(preprocessor, self.of(ybr, "YBR_FULL"), self.gray)

    @pytest.mark.parametrize("columns", [310, 224])
    def test_gray_ybr_full_422_is_read_as_its_luma(self, preprocessor, columns):
        gray = self.gray[:, :columns]
        dataset = self.of(np.dstack([gray] * 3), "YBR_FULL_422")
        quads = np.full((gray.size // 2, 4), 128, np.uint8)
        quads[:, :2] = gray.reshape(-1, 2)
        dataset.PixelData = quads.tobytes()
        assert_reads_as(preprocessor, dataset, gray)

    @pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
    @pytest.mark.parametrize("side", [100, 600])
    def test_real_colour_is_refused(self, preprocessor, photometric, side):
        pixels = np.full((side, side, 3), 128, np.uint8)
        pixels[: side // 5, :, 2] = 200
        with pytest.raises(UnsupportedImage, match="in colour"):
            preprocessor.read(to_bytes(self.of(pixels, photometric)))

    def test_colour_422_is_refused(self, preprocessor):
        dataset = self.of(np.dstack([self.gray] * 3), "YBR_FULL_422")
        dataset.PixelData = np.tile(np.array([90, 90, 90, 240], np.uint8), self.gray.size // 2).tobytes()
        with pytest.raises(UnsupportedImage, match="in colour"):
            preprocessor.read(to_bytes(dataset))


class TestWarnings:
    def warnings(self, preprocessor, **attributes):
        dataset = film(Stored(radiograph(300, 300)), **attributes)
        return json.loads(preprocessor.read(to_bytes(dataset)).geometry)["warnings"]

    def test_a_film_that_states_its_window_warns_of_nothing(self, preprocessor):
        assert self.warnings(preprocessor, WindowCenter=2000, WindowWidth=3000) == []

    def test_a_film_without_window_takes_its_percentiles_and_says_so(self, preprocessor):
        (warning,) = self.warnings(preprocessor)
        assert "percentiles" in warning

    def test_an_unknown_voi_lut_function_is_taken_for_linear_and_named(self, preprocessor):
        (warning,) = self.warnings(preprocessor, WindowCenter=2000, WindowWidth=3000, VOILUTFunction="GAMMA")
        assert "GAMMA" in warning

    @pytest.mark.parametrize(("centre", "width"), [(2000, 0), (2000, -5), (2000, 0.5), (2000, 1e300), (-1e300, 99)])
    def test_a_window_that_is_none_is_left_aside_and_named(self, preprocessor, centre, width):
        warnings = self.warnings(preprocessor, WindowCenter=centre, WindowWidth=width)
        assert any("Width (0028,1050-1051)" in warning for warning in warnings)


def test_the_percentiles_of_a_film_without_window_become_black_and_white(preprocessor):
    stored = radiograph(448, 448).astype(int)
    got = read(preprocessor, film(Stored(stored)))
    small = stored.reshape(224, 2, 224, 2).mean(axis=(1, 3))
    low, high = np.percentile(small, [0.5, 99.5])
    expected = (np.clip((small - low) / (high - low), 0, 1) * 255 - 127) / 128
    np.testing.assert_allclose(got, expected, atol=1e-3)


class TestGeometry:
    def geometry(self, preprocessor, **attributes):
        return json.loads(preprocessor.read(to_bytes(film(radiograph(300, 310, 8), **attributes))).geometry)

    def test_pixel_spacing_is_told_row_first(self, preprocessor):
        assert self.geometry(preprocessor, PixelSpacing=[0.14, 0.15])["pixel_spacing_mm"] == [0.14, 0.15]

    def test_imager_pixel_spacing_stands_in_and_absence_is_null(self, preprocessor):
        assert self.geometry(preprocessor, ImagerPixelSpacing=[0.2, 0.2])["pixel_spacing_mm"] == [0.2, 0.2]
        assert self.geometry(preprocessor)["pixel_spacing_mm"] is None

    def test_the_instance_is_named(self, preprocessor):
        assert self.geometry(preprocessor)["sop_instance_uid"] == "1.2.826.0.1.3680043.8.498.1"


BROKEN_TABLES = {
    "no descriptor": item(LUTData=[1, 2, 3]),
    "no data": item(LUTDescriptor=[4096, 0, 12]),
    "too short": lut(np.arange(100), 0, 12),
}
BROKEN_TABLES["too short"].LUTDescriptor = [4096, 0, 12]


@pytest.mark.parametrize("broken", BROKEN_TABLES)
@pytest.mark.parametrize("keyword", ["VOILUTSequence", "ModalityLUTSequence"])
def test_a_broken_lut_is_named(preprocessor, broken, keyword):
    table = item()
    table.update(BROKEN_TABLES[broken])
    if "LUTDescriptor" in table:
        table["LUTDescriptor"].VR = "US"
    if "LUTData" in table and broken == "no descriptor":
        table["LUTData"].VR = "US"
    dataset = changed(film(Stored(radiograph(300, 300))), **{keyword: [table]})
    with pytest.raises(InvalidDicom, match=r"LUT Sequence|LUT Data"):
        preprocessor.read(to_bytes(dataset))


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({"RescaleSlope": 0}, "Rescale Slope"),
        ({"RescaleSlope": "nan"}, "Rescale Slope"),
        ({"RescaleSlope": "1e38"}, "Rescale Slope"),
    ],
)
def test_a_rescale_that_means_nothing_is_named(preprocessor, attributes, name):
    dataset = film(Stored(radiograph(300, 300)))
    data = to_bytes(changed(dataset, RescaleSlope="7.5", RescaleIntercept=0))
    value = f"{attributes['RescaleSlope']:<4}".encode()
    with pytest.raises(InvalidDicom, match=name):
        preprocessor.read(data.replace(b"7.5 ", value))
