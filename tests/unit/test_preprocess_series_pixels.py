"""Stored values of slices: views of native files, every transfer syntax, sign, spare bits, padding, damage."""

import io
from dataclasses import replace

import imagecodecs
import numpy as np
import pydicom
import pytest
from films import (
    DEFLATED_FRAME,
    ENCAPSULATED_UNCOMPRESSED,
    JPEG_XL_LOSSLESS,
    NATIVE,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    Stored,
    compressed,
    set_pixels,
    to_bytes,
)
from series_files import file_bytes, series_datasets, series_files
from series_reading import noise, read, refused, values, why
from wetread_preprocess.errors import InvalidDicom, UnsupportedImage
from wetread_preprocess.recipe import DecodeLimits

_COMPRESSED = (
    JPEG2000Lossless, JPEGLSLossless, JPEGLossless, JPEGLosslessSV1, RLELossless, JPEG_XL_LOSSLESS, DEFLATED_FRAME,
    ENCAPSULATED_UNCOMPRESSED,
)  # fmt: skip

_LOSSY = {"JPLY": imagecodecs.jpeg8_decode, "JLSN": imagecodecs.jpegls_decode, "J2KI": imagecodecs.jpeg2k_decode}


def stored(pixels: Stored, **attributes: object) -> list[pydicom.FileDataset]:
    """A series of which each slice's words are as `pixels` [slices, rows, columns] says."""
    datasets = series_datasets(np.zeros(pixels.values.shape, np.uint16), attributes=attributes)
    for dataset, one in zip(datasets, pixels.values, strict=True):
        own = replace(pixels, values=one)
        set_pixels(dataset, own.words())
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = own.bits_allocated, own.bits_stored, own.top
        dataset.PixelRepresentation = int(own.signed)
    return datasets


class TestNative:
    @pytest.mark.parametrize("syntax", NATIVE)
    @pytest.mark.parametrize("preamble", [True, False])
    def test_each_byte_order_and_vr(self, syntax, preamble):
        if not preamble and "Deflated" in syntax.name:
            pytest.skip("a deflated dataset cannot be told without its meta group")
        files = [to_bytes(one, syntax, preamble=preamble) for one in series_datasets(noise())]
        series = read(files)
        assert np.array_equal(values(series), noise())
        assert values(series).dtype == np.int16

    @pytest.mark.slow
    @pytest.mark.parametrize("syntax", [NATIVE[0], NATIVE[1]])
    def test_little_endian_pixels_are_views_whatever_holds_the_file(self, syntax):
        for hold in (bytes, memoryview, lambda data: np.frombuffer(data, np.uint8)):
            files = [hold(to_bytes(one, syntax)) for one in series_datasets(noise())]
            raw = [np.frombuffer(one, np.uint8) for one in files]
            series = read(files)
            assert all(np.shares_memory(one.pixels, raw[one.source - 1]) for one in series.stack.slices)

    def test_files_at_odd_addresses_are_read(self):
        files = [np.frombuffer(b"!" + one, np.uint8)[1:] for one in series_files(noise())]
        assert np.array_equal(values(read(files)), noise())

    @pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int16])
    def test_each_type_keeps_its_own(self, kind):
        pixels = noise().astype(kind)
        series = read(series_files(pixels))
        assert np.array_equal(values(series), pixels)
        assert values(series).dtype == kind


class TestSpareBits:
    @pytest.mark.parametrize("signed", [False, True])
    @pytest.mark.parametrize("high_bit", [11, 13, 15])
    @pytest.mark.parametrize("rubbish", [0, 0xFFFF])
    def test_what_lies_beside_the_stored_bits_is_dropped(self, signed, high_bit, rubbish):
        pixels = noise() % 4096 - (2048 if signed else 0)
        made = stored(Stored(pixels, 12, 16, high_bit, signed=signed, rubbish=rubbish))
        assert np.array_equal(values(read([file_bytes(one) for one in made])), pixels)

    def test_twelve_bits_with_nothing_beside_them_stay_a_view(self):
        files = [np.frombuffer(file_bytes(one), np.uint8) for one in stored(Stored(noise() % 4096))]
        assert all(np.shares_memory(one.pixels, files[one.source - 1]) for one in read(files).stack.slices)

    def test_padding_beyond_the_stored_bits_is_kept(self):
        pixels = noise() % 2048
        pixels[:, 0, 0] = -3024
        made = stored(Stored(pixels, 16, signed=True), PixelPaddingValue=-3024)
        for one in made:
            one.BitsStored, one.HighBit = 12, 11
        series = read([file_bytes(one) for one in made])
        assert np.array_equal(values(series), pixels)
        assert series.stack.padding == (-3024, -3024)


class TestPadding:
    def test_written_without_sign_it_is_the_pixels(self):
        datasets = series_datasets(noise())
        for one in datasets:
            one.add_new("PixelPaddingValue", "US", 63536)
        assert read([file_bytes(one) for one in datasets]).stack.padding == (-2000, -2000)

    def test_a_range_has_both_ends(self):
        files = series_files(noise(), attributes={"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1500})
        assert read(files).stack.padding == (-2000, -1500)

    def test_a_slice_with_another_value_is_brought_to_the_others(self):
        pixels = noise().clip(-900)
        datasets = series_datasets(pixels, attributes={"PixelPaddingValue": -2000})
        pixels[4, 0, 0] = -3000
        datasets[4] = series_datasets(
            pixels[4:5],
            first_mm=(0, 0, 4),
            series_uid=datasets[0].SeriesInstanceUID,
            attributes={"PixelPaddingValue": -3000},
        )[0]
        series = read([file_bytes(one) for one in datasets])
        assert series.stack.padding == (-2000, -2000)
        assert series.stack.slices[4].pixels[0, 0] == -2000
        assert np.array_equal(series.stack.slices[4].pixels[1:], pixels[4, 1:])


class TestCompressed:
    @pytest.mark.parametrize("syntax", _COMPRESSED)
    @pytest.mark.parametrize("signed", [False, True])
    def test_lossless_syntaxes_give_the_stored_values(self, syntax, signed):
        pixels = noise(4, 40, 48) % 4096 - (2048 if signed else 0)
        made = stored(Stored(pixels, 12, signed=signed))
        series = read([compressed(one, syntax) for one in made])
        assert np.array_equal(values(series), pixels)
        assert values(series).dtype == (np.int16 if signed else np.uint16)

    @pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
    def test_all_sixteen_bits(self, syntax):
        pixels = np.random.default_rng(0).integers(0, 65536, (4, 40, 48))
        assert np.array_equal(values(read([compressed(one, syntax) for one in stored(Stored(pixels, 16))])), pixels)

    def test_lossy_eight_bits_are_near(self):
        ramp = np.broadcast_to(np.arange(64) * 3, (4, 48, 64)) + np.arange(4)[:, None, None]
        series = read([compressed(one, JPEGBaseline8Bit) for one in stored(Stored(ramp, 8, 8))])
        assert np.abs(values(series).astype(int) - ramp).max() <= 3
        assert values(series).dtype == np.uint8

    def test_compressed_and_plain_slices_make_one_series(self):
        made = stored(Stored(noise() % 4096))
        files = [compressed(one, RLELossless) if number % 2 else file_bytes(one) for number, one in enumerate(made)]
        assert np.array_equal(values(read(files)), noise() % 4096)

    def test_a_copy_in_another_syntax_is_left_out(self):
        made = stored(Stored(noise() % 4096))
        plain = [file_bytes(one) for one in made]
        series = read([compressed(made[0], RLELossless), *plain])
        assert why(series) == {1: "the same image as file 2 of 11"}

    def test_one_damaged_slice_refuses_the_series_by_its_file(self):
        files = [compressed(one, JPEG2000Lossless) for one in stored(Stored(noise(5, 40, 48) % 4096))]
        files[2] = compressed(
            stored(Stored(noise(5, 40, 48) % 4096))[2], JPEG2000Lossless, frame=b"\xff\x4f" + b"no" * 99
        )
        one = pydicom.dcmread(io.BytesIO(files[2]))
        one.SeriesInstanceUID = pydicom.dcmread(io.BytesIO(files[0])).SeriesInstanceUID
        files[2] = file_bytes(one)
        refused(files, InvalidDicom, "file 3 of 5: .*JPEG 2000")

    def test_a_syntax_without_a_decoder_is_refused_by_name(self):
        files = [compressed(one, JPEG2000Lossless) for one in stored(Stored(noise(5, 40, 48) % 4096))]
        files = [one.replace(b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.4.99") for one in files]
        refused(files, UnsupportedImage, "file . of 5: no decoder for")

    @pytest.mark.data
    @pytest.mark.parametrize("scanner", ["CT1", "MR1"])
    @pytest.mark.parametrize("code", ["RLE", "JPLL", "JPLY", "JLSL", "JLSN", "J2KR", "J2KI"])
    def test_real_slices(self, data_folder, scanner, code):
        path = data_folder / "dicom" / "film" / f"{scanner}_{code}.dcm"
        if not path.is_file():
            pytest.skip("not among the samples")
        (plain,) = read([path.with_name(f"{scanner}_UNC.dcm").read_bytes()], least_slices=1).stack.slices
        (decoded,) = read([path.read_bytes()], least_slices=1).stack.slices
        expected = plain.pixels
        if code in _LOSSY:  # what its own codec says
            expected = _LOSSY[code](
                b"".join(pydicom.encaps.generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1))
            )
        assert decoded.pixels.dtype == plain.pixels.dtype or code == "JPLY"
        assert np.abs(decoded.pixels.astype(int) - expected.astype(decoded.pixels.dtype)).max() <= (code == "J2KI")


class TestRefused:
    @pytest.mark.parametrize(
        ("attributes", "named"),
        [
            ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, r"0028,0002. is 3: the image is in colour"),
            ({"PhotometricInterpretation": "MONOCHROME1"}, r"0028,0004. is MONOCHROME1; of series, MONOCHROME2"),
            ({"BitsAllocated": 32}, r"0028,0100. is 32; images of 8 and 16 bits"),
            ({"ModalityLUTSequence": []}, "is not read; only a slope"),
        ],
    )
    def test_what_no_volume_is_made_of(self, attributes, named):
        if "ModalityLUTSequence" in attributes:
            attributes = {"ModalityLUTSequence": [pydicom.Dataset()]}
        refused(series_files(noise(), attributes=attributes), UnsupportedImage, named)

    def test_floating_point_pixels(self):
        datasets = series_datasets(noise())
        for one in datasets:
            del one.PixelData
            one.FloatPixelData = noise(1).astype(np.float32).tobytes()
        refused([file_bytes(one) for one in datasets], UnsupportedImage, r"floating point .7FE0,0008.; only integers")

    @pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, ImplicitVRLittleEndian, NATIVE[1]])
    def test_one_slice_that_is_cut_short_refuses_the_series_by_its_file(self, syntax):
        files = [to_bytes(one, syntax) for one in series_datasets(noise())]
        files[6] = files[6][:-4]
        refused(files, InvalidDicom, "file 7 of 10: Pixel Data .7FE0,0010.*cut short")

    def test_one_slice_with_too_few_pixels(self):
        datasets = series_datasets(noise())
        datasets[6].PixelData = datasets[6].PixelData[:-2]
        refused([file_bytes(one) for one in datasets], InvalidDicom, "file 7 of 10: Pixel Data .* holds 58 bytes")

    def test_too_many_pixels_by_the_limits(self):
        refused(series_files(noise()), UnsupportedImage, "6 x 5; images up to 29", limits=DecodeLimits(max_pixels=29))
