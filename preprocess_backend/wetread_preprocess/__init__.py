"""Film preprocessing: DICOM bytes to the classifier's IMAGE. Knows nothing of Triton."""

from wetread_preprocess.errors import ImageError, InvalidDicom, RegionNotFound, UnsupportedImage
from wetread_preprocess.film import Film, FilmPreprocessor
from wetread_preprocess.film_regions import FilmRegions
from wetread_preprocess.gate import FilmOptions
from wetread_preprocess.recipe import DecodeLimits, Recipe

__all__ = [
    "DecodeLimits", "Film", "FilmOptions", "FilmPreprocessor", "FilmRegions", "ImageError", "InvalidDicom", "Recipe",
    "RegionNotFound", "UnsupportedImage",
]  # fmt: skip
