"""Films to tensors: the one entry that the Triton backend, the evaluation and the benchmarks share."""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import cv2
import numpy as np
import pydicom.config

from wetread_preprocess.codecs import NATIVE_BIG, NATIVE_LITTLE, Job, first_frame, is_supported
from wetread_preprocess.errors import InvalidDicom, UnsupportedImage
from wetread_preprocess.gate import FilmOptions, admit, syntax_name
from wetread_preprocess.grayscale import display_levels
from wetread_preprocess.header import Buffer, ParsedFile, PixelFormat, describe, padding_range, parse, pixel_format
from wetread_preprocess.recipe import Recipe
from wetread_preprocess.samples import FloatImage, Shelf, native_frame, shrink, to_gray, to_samples
from wetread_preprocess.sandbox import Sandbox

_NOTHING_DECLARED = FilmOptions()


@dataclass(frozen=True)
class Film:
    """A film ready for the classifier."""

    image: FloatImage
    """float32 of the recipe's shape, [channels, rows, columns] or [rows, columns, channels]: (level - mean) / scale of
    each channel, level 0-255, white high."""
    geometry: bytes
    """UTF-8 JSON of the source: rows, columns, pixel_spacing_mm, sop_instance_uid, warnings."""


class FilmPreprocessor:
    """Reads films by one recipe. Not thread-safe: one a thread or process, closed at the end."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._sandbox = Sandbox(recipe.limits)
        self._shelf = Shelf()
        # Odd values are judged here, by attribute, and must not warn once a film.
        pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
        cv2.setNumThreads(1)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """A preprocessor for the version folder that holds `recipe.json`."""
        return cls(Recipe.load(folder))

    def start(self) -> None:
        """Start the decoding process now, in the background, instead of at the first compressed film."""
        self._sandbox.start()

    def read(self, dicom: Buffer, options: FilmOptions = _NOTHING_DECLARED) -> Film:
        """Read one DICOM file's bytes (uint8 [n] or bytes).

        Raises:
            InvalidDicom: the file is broken.
            UnsupportedImage: it is not for this pipeline, or no decoder reads it.
        """
        with warnings.catch_warnings():
            # pydicom warns of oddities that are judged here, by attribute, and may quote what must not be logged.
            warnings.simplefilter("ignore", UserWarning)
            return self._read(dicom, options)

    def close(self) -> None:
        """End the decoding process."""
        self._sandbox.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, dicom: Buffer, options: FilmOptions) -> Film:
        recipe = self._recipe
        file = parse(dicom, recipe.limits.max_inflated_bytes)
        fmt = pixel_format(file.dataset)
        doubts = admit(file.dataset, fmt, recipe, options)
        geometry = describe(file.dataset)
        values = self._shrunk(file, fmt)
        if np.isnan(values).all():
            raise UnsupportedImage("every pixel is padding (0028,0120); there is nothing to read")
        levels, more = display_levels(values, file.dataset, fmt, recipe.percentiles)
        geometry["warnings"] = doubts + more
        return Film(_image(levels, recipe), json.dumps(geometry).encode())

    def _shrunk(self, file: ParsedFile, fmt: PixelFormat) -> FloatImage:
        """Stored values at the recipe's size, float32 [rows, columns], NaN where all is padding."""
        padding = padding_range(file.dataset, fmt)
        native = file.transfer_syntax in NATIVE_LITTLE or file.transfer_syntax == NATIVE_BIG
        if native == file.encapsulated:
            raise InvalidDicom(
                f"Pixel Data (7FE0,0010) is {'' if file.encapsulated else 'not '}encapsulated, against its transfer "
                f"syntax {syntax_name(file.transfer_syntax)}"
            )
        if native:
            frame = native_frame(file.pixels, fmt, big_endian=file.transfer_syntax == NATIVE_BIG)
            gray = to_gray(frame, fmt.photometric)
            return shrink(to_samples(gray, fmt, padding, self._recipe.size, self._shelf), self._recipe.size)
        if not is_supported(file.transfer_syntax):
            raise UnsupportedImage(
                f"no decoder for {syntax_name(file.transfer_syntax)}; send it uncompressed or as JPEG 2000"
            )
        job = Job(file.transfer_syntax, fmt, padding, self._recipe.size, self._recipe.reduce_from)
        return self._sandbox.decode(job, first_frame(file.pixels))


def _image(levels: FloatImage, recipe: Recipe) -> FloatImage:
    """IMAGE of display levels [rows, columns], which one channel overwrites."""
    if recipe.channels == 1:
        levels -= np.float32(recipe.mean[0])
        levels *= np.float32(1.0 / recipe.scale[0])
        return levels.reshape(recipe.shape)
    image = np.empty((recipe.channels, *levels.shape), np.float32)
    for channel, mean, scale in zip(image, recipe.mean, recipe.scale, strict=True):
        np.multiply(levels - np.float32(mean), np.float32(1.0 / scale), out=channel)
    return image if recipe.layout == "NCHW" else np.ascontiguousarray(image.transpose(1, 2, 0))
