"""Series preprocessing: the files of a CT or MR series to the model's VOLUME. Knows nothing of Triton."""

from wetread_preprocess.volumes.grid import Grid
from wetread_preprocess.volumes.recipe import VolumeRecipe
from wetread_preprocess.volumes.stack import LeftOut, Series, Slice, Stack
from wetread_preprocess.volumes.volume import Volume, VolumeOptions, VolumePreprocessor

__all__ = [
    "Grid", "LeftOut", "Series", "Slice", "Stack", "Volume", "VolumeOptions", "VolumePreprocessor", "VolumeRecipe",
]  # fmt: skip
