"""Headers fetched without pydicom say what pydicom says; what is out of the ordinary is left to it; no file hurts."""

import dataclasses
import random
import struct

import numpy as np
import pydicom
import pytest
from films import (
    NATIVE,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    compressed,
    item,
    to_bytes,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from series_files import file_bytes, multiframe, series_datasets, series_files
from series_reading import noise, read
from wetread_preprocess.errors import ImageError
from wetread_preprocess.recipe import DecodeLimits
from wetread_preprocess.volumes import slices
from wetread_preprocess.volumes.elements import WANTED, Fetched, scan
from wetread_preprocess.volumes.slices import Image, Reader

_FAST = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


def by_both(data: bytes, monkeypatch: pytest.MonkeyPatch) -> tuple[Image, Image]:
    """The image as fetched and as pydicom reads it."""
    (fetched,) = Reader(DecodeLimits(), 4096).read(1, data)
    with monkeypatch.context() as patched:
        patched.setattr(slices, "scan", lambda view: None)
        (parsed,) = Reader(DecodeLimits(), 4096).read(1, data)
    return fetched, parsed


def same(first: Image, second: Image) -> None:
    for field in dataclasses.fields(Image):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if isinstance(one, ImageError):
            assert (type(one), str(one)) == (type(other), str(other))
        elif field.name == "kind":
            plain = [dataclasses.replace(kind, fault=None) for kind in (one, other)]
            assert plain[0] == plain[1]
            assert str(one.fault) == str(other.fault)
        else:
            assert one == other, field.name


ODD = {
    "nothing odd": {},
    "much is absent": dict.fromkeys(("BodyPartExamined", "ImageType", "RescaleSlope", "SeriesNumber", "HighBit")),
    "values are empty": {"BodyPartExamined": "", "AcquisitionNumber": None, "EchoTime": None, "ImageType": []},
    "spaces and small letters": {"BodyPartExamined": " chest ", "ImageType": ["original ", " primary"]},
    "an integer with a point": {"AcquisitionNumber": "3.0"},
    "numbers with exponents": {"RescaleSlope": "1.5e-2", "RescaleIntercept": "-1.024E+3", "EchoTime": "+3.1"},
    "padding": {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1000},
    "several echoes": {"EchoNumbers": [1, 2], "EchoTime": "4.2", "DiffusionBValue": 1000.5},
    "no position": {"ImagePositionPatient": None},
    "two values of three": {"ImagePositionPatient": ["1", "2"]},
    "colour": {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0},
    "a slope of 0": {"RescaleSlope": "0"},
    "a value of the wrong length": {"SeriesDescription": "x" * 63, "BodyPartExamined": "C" * 16},
}


class TestAsPydicom:
    @pytest.mark.parametrize("what", ODD)
    @pytest.mark.parametrize("syntax", _FAST)
    def test_the_same_is_read(self, what, syntax, monkeypatch):
        (dataset,) = series_datasets(noise(1), attributes=ODD[what])
        data = to_bytes(dataset, syntax)
        assert scan(memoryview(data)) is not None
        same(*by_both(data, monkeypatch))

    @pytest.mark.parametrize("syntax", _FAST)
    def test_sequences_are_stepped_over_whole(self, syntax, monkeypatch):
        """Also those of undefined length, and the pixels and rows of an icon within."""
        (dataset,) = series_datasets(noise(1))
        icon = item(Rows=1, Columns=2, PixelData=b"\1\2", SamplesPerPixel=1)
        icon["PixelData"].VR = "OW"
        icon.ReferencedImageSequence = [item(ReferencedSOPInstanceUID="1.2"), pydicom.Dataset()]
        icon.is_undefined_length_sequence_item = True
        icon["ReferencedImageSequence"].is_undefined_length = True
        dataset.IconImageSequence = [icon, icon]
        dataset.ReferencedImageSequence = [item(ReferencedSOPInstanceUID="1.2", ImageType=["DERIVED"])]
        dataset["ReferencedImageSequence"].is_undefined_length = True
        dataset["IconImageSequence"].is_undefined_length = True
        data = to_bytes(dataset, syntax)
        assert scan(memoryview(data)) is not None
        fetched, parsed = by_both(data, monkeypatch)
        same(fetched, parsed)
        assert (fetched.kind.fmt.rows, bytes(fetched.place.pixels)) == (6, dataset.PixelData)

    def test_compressed_files_too(self, monkeypatch):
        (dataset,) = series_datasets(noise(1))
        data = compressed(dataset, RLELossless)
        assert scan(memoryview(data)) is not None
        same(*by_both(data, monkeypatch))

    @pytest.mark.slow
    @pytest.mark.data
    def test_real_files(self, data_folder, monkeypatch):
        paths = [
            path
            for name in ("ct_chest", "ct_tilted", "mr_t1", "film")
            for path in sorted((data_folder / "dicom" / name).iterdir())
        ]
        for path in [*paths[:100:20], *paths[100:128:9], *paths[128:512:64], *paths[512:]]:
            data = path.read_bytes()
            assert scan(memoryview(data)) is not None, path
            same(*by_both(data, monkeypatch))

    def test_nothing_is_asked_for_that_is_not_fetched(self):
        with pytest.raises(KeyError):
            Fetched({}).raw("PatientName")

    def test_the_tags_are_those_of_the_keywords(self):
        assert {keyword: tag for keyword, (tag, _) in WANTED.items()} == {
            keyword: pydicom.datadict.tag_for_keyword(keyword) for keyword in WANTED
        }


class TestLeftToPydicom:
    @pytest.mark.parametrize("syntax", [one for one in NATIVE if one not in _FAST])
    def test_other_byte_orders_and_deflated_datasets(self, syntax):
        (dataset,) = series_datasets(noise(1))
        assert scan(memoryview(to_bytes(dataset, syntax))) is None

    def test_files_without_a_preamble_and_multiframe_images(self):
        (dataset,) = series_datasets(noise(1))
        assert scan(memoryview(to_bytes(dataset, ExplicitVRLittleEndian, preamble=False))) is None
        assert scan(memoryview(file_bytes(multiframe(noise(2), np.zeros((2, 3)))))) is None
        assert scan(memoryview(to_bytes(dataset, ExplicitVRBigEndian))) is None

    def test_a_value_in_a_vr_that_is_not_its_own(self):
        data = series_files(noise(1))[0]
        at = data.index(struct.pack("<HH2s", 0x0028, 0x0010, b"US"))
        assert scan(memoryview(data[: at + 4] + b"SS" + data[at + 6 :])) is None

    def test_elements_out_of_order(self):
        (dataset,) = series_datasets(noise(1))
        data = to_bytes(dataset, ExplicitVRLittleEndian)
        at = data.index(struct.pack("<HH2s", 0x0028, 0x0010, b"US"))
        assert scan(memoryview(data[:at] + data[at + 10 : at + 20] + data[at : at + 10] + data[at + 20 :])) is None


_SERIES = [to_bytes(one, _FAST[number % 2]) for number, one in enumerate(series_datasets(noise(6)))]
_MULTIFRAME = file_bytes(multiframe(noise(6), np.arange(6)[:, None] * [0.0, 0.0, 1.0]))


class TestBrokenFiles:
    @pytest.mark.slow
    @given(seed=st.integers(0, 2**32))
    @settings(max_examples=150, deadline=None)
    def test_a_file_with_flipped_bytes_is_read_or_refused_by_name(self, seed):
        draw = random.Random(seed)
        files = [bytearray(one) for one in (_SERIES if draw.random() < 0.7 else [_MULTIFRAME])]
        victim = files[draw.randrange(len(files))]
        for _ in range(draw.choice((1, 1, 2, 8))):
            victim[draw.randrange(128, len(victim))] = draw.choice((0, 1, 0x7F, 0xFF, draw.randrange(256)))
        if draw.random() < 0.2:
            del victim[draw.randrange(len(victim)) :]
        try:
            series = read([bytes(one) for one in files])
        except ImageError:
            return
        assert 4 <= len(series.stack.slices) <= 6
        assert (np.diff(series.stack.distances_mm) > 0).all()
