"""Preprocessing: DICOM bytes to the model's IMAGE or VOLUME. Knows nothing of Triton."""

from wetread_preprocess.errors import ImageError, InvalidDicom, RegionNotFound, UnsupportedImage
from wetread_preprocess.film import Film, FilmPreprocessor
from wetread_preprocess.film_regions import FilmRegions
from wetread_preprocess.gate import FilmOptions
from wetread_preprocess.preprocessor import Preprocessor, Request, load_preprocessor
from wetread_preprocess.recipe import DecodeLimits, Recipe

__all__ = [
    "DecodeLimits", "Film", "FilmOptions", "FilmPreprocessor", "FilmRegions", "ImageError", "InvalidDicom",
    "Preprocessor", "Recipe", "RegionNotFound", "Request", "UnsupportedImage", "load_preprocessor",
]  # fmt: skip
