"""A film's pixels for the eye: decoded, in the window that the file asks for, white for dense."""

from __future__ import annotations

import importlib
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from pydicom.encaps import generate_frames
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.uid import JPEG2000, JPEG2000Lossless, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What imagecodecs (it comes with the preprocess extra) decodes and pydicom with Pillow alone does not, or not always.
_IMAGECODECS = {
    JPEGLossless: "ljpeg_decode",
    JPEGLosslessSV1: "ljpeg_decode",
    JPEGLSLossless: "jpegls_decode",
    JPEGLSNearLossless: "jpegls_decode",
    JPEG2000Lossless: "jpeg2k_decode",
    JPEG2000: "jpeg2k_decode",
}


class CannotDraw(Exception):
    """The film cannot be shown here, although the server read it."""


def film_pixels(film: bytes) -> NDArray[np.uint8]:
    """Decode a DICOM film to uint8 [rows, columns]; CannotDraw with the reason where no decoder at hand can."""
    try:
        dataset = pydicom.dcmread(io.BytesIO(film), force=True)
        values = _decode(dataset)
        if values.ndim == 3 and values.shape[-1] == 3:
            values = values[..., 0]  # the server reads no colour but gray
        shown = np.asarray(apply_voi_lut(apply_modality_lut(values, dataset), dataset), np.float32)
    except (AttributeError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError, OSError) as error:
        raise CannotDraw(f"its pixels cannot be decoded ({type(error).__name__})") from error
    if shown.ndim != 2:
        raise CannotDraw(f"it has {shown.ndim} dimensions")
    low, high = float(shown.min()), float(shown.max())
    gray = (shown - low) * (255 / max(high - low, 1e-6))
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        gray = 255 - gray
    return np.clip(gray, 0, 255).round().astype(np.uint8)


def _decode(dataset: pydicom.Dataset) -> NDArray[Any]:
    try:
        return np.asarray(dataset.pixel_array)
    except (RuntimeError, NotImplementedError, ValueError):
        name = _IMAGECODECS.get(dataset.file_meta.TransferSyntaxUID)
        if name is None:
            raise
        try:
            decode = getattr(importlib.import_module("imagecodecs"), name)
        except ImportError as error:
            raise CannotDraw("no decoder for its compression; pip install 'wetread[preprocess]'") from error
        frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
        return np.asarray(decode(frame))
