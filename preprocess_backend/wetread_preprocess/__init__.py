"""Film preprocessing: DICOM bytes to the classifier's IMAGE. Knows nothing of Triton."""

from wetread_preprocess.errors import ImageError, InvalidDicom, UnsupportedImage
from wetread_preprocess.film import Film, FilmPreprocessor
from wetread_preprocess.gate import FilmOptions
from wetread_preprocess.recipe import DecodeLimits, Recipe

__all__ = [
    "DecodeLimits", "Film", "FilmOptions", "FilmPreprocessor", "ImageError", "InvalidDicom", "Recipe",
    "UnsupportedImage",
]  # fmt: skip
