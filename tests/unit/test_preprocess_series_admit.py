"""Whether a series is for the pipeline; and the limits that hold for what arrives packed small."""

import dataclasses

import numpy as np
import pytest
from films import DeflatedExplicitVRLittleEndian, RLELossless, compressed, to_bytes
from series_files import series_datasets, series_files
from series_reading import noise, read, refused, why
from wetread_preprocess.errors import InvalidDicom, UnsupportedImage
from wetread_preprocess.recipe import DecodeLimits
from wetread_preprocess.volumes import series as series_module
from wetread_preprocess.volumes import slices as slices_module
from wetread_preprocess.volumes.admit import admit
from wetread_preprocess.volumes.recipe import VolumeRecipe
from wetread_preprocess.volumes.steps import Resample

RECIPE = VolumeRecipe(
    orientation="SPL",
    steps=(Resample(),),
    modalities=frozenset({"CT"}),
    body_parts=("CHEST", "THORAX"),
    other_body_parts=frozenset({"HEAD", "LOWERLEG"}),
)


def of(body_part: str, modality: str = "CT"):
    return dataclasses.replace(read(series_files(noise(4), modality="CT")), body_part=body_part, modality=modality)


class TestAdmit:
    @pytest.mark.parametrize("part", ["CHEST", "CHEST_ABDOMEN", "THORAX"])
    def test_a_welcome_part_is_read_without_a_word(self, part):
        assert admit(of(part), RECIPE, any_body_part=False) == ()

    @pytest.mark.parametrize("part", ["HEAD", "LOWER LEG", "LOWER_LEG"])
    def test_another_part_is_refused_with_the_remedy(self, part):
        with pytest.raises(UnsupportedImage, match=rf"0018,0015. is {part}; if that is wrong, send .*any_body_part"):
            admit(of(part), RECIPE, any_body_part=False)

    def test_unless_the_request_knows_better(self):
        assert admit(of("HEAD"), RECIPE, any_body_part=True) == ()

    def test_an_unknown_part_is_read_with_a_warning(self):
        (warning,) = admit(of("SOMETHING_QUITE_LONG"), RECIPE, any_body_part=False)
        assert warning == "Body Part Examined (0018,0015) is SOMETHING_QUITE_, which this pipeline does not know"

    def test_an_absent_one_too(self):
        assert admit(of(""), RECIPE, any_body_part=False) == ("Body Part Examined (0018,0015) is absent",)

    def test_another_modality_is_refused(self):
        with pytest.raises(UnsupportedImage, match=r"Modality .0008,0060. is MR; this pipeline reads CT"):
            admit(of("CHEST", "MR"), RECIPE, any_body_part=True)

    def test_the_part_that_most_slices_name_is_the_series(self):
        datasets = series_datasets(noise(5))
        datasets[0].BodyPartExamined, datasets[1].BodyPartExamined = "", "ABDOMEN"
        assert read([to_bytes(one) for one in datasets]).body_part == "CHEST"


class TestPackedSmall:
    def test_one_file_that_unpacks_to_too_much_is_left_out(self):
        (dataset,) = series_datasets(np.zeros((1, 600, 600), np.int16))
        bomb = to_bytes(dataset, DeflatedExplicitVRLittleEndian)
        series = read([bomb, *series_files(noise())], limits=DecodeLimits(max_inflated_bytes=10_000))
        assert why(series) == {1: "it cannot be read: the deflated dataset unpacks to more than 10000 bytes"}

    def test_many_files_may_not_unpack_to_too_much_together(self, monkeypatch):
        monkeypatch.setattr(slices_module, "_MOST_INFLATED", 6000)
        files = [to_bytes(one, DeflatedExplicitVRLittleEndian) for one in series_datasets(noise(10, 20, 50))]
        refused(files, UnsupportedImage, "the series has 2 slices", "unpacks to more than")

    def test_compressed_slices_may_not_unpack_to_too_much_together(self, monkeypatch):
        monkeypatch.setattr(series_module, "_MOST_DECODED", 299)
        files = [compressed(one, RLELossless) for one in series_datasets(noise(10))]
        refused(files, UnsupportedImage, "has 10 compressed slices of 6 x 5; up to 299 pixels")

    def test_a_deflated_file_that_is_cut_short_is_named(self):
        files = [to_bytes(one, DeflatedExplicitVRLittleEndian) for one in series_datasets(noise())]
        files[3] = files[3][:-200]
        series = read(files)
        assert list(why(series)) == [4]
        assert "file 4 of 10 is left out" in series.warnings[0]
        refused(files[3:4], InvalidDicom, "file 1 of 1: it cannot be read")
