"""A film's pixels for a capture: small, in the film's own window, white for dense, and cheap.

A film is shrunk before anything else is done to it; its window is a table over stored values. An 8.4 MB film takes
a few milliseconds where decoding, windowing and shrinking it in full takes a hundred.
"""

from __future__ import annotations

import io
import struct
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataelem import RawDataElement
from pydicom.encaps import generate_frames
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.uid import JPEG2000, UID, ExplicitVRBigEndian, JPEG2000Lossless, RLELossless
from wetread_client.film_pixels import CannotDraw, film_pixels

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

SIDE = 768
"""Longest side of a film in a capture, in pixels."""
_ENOUGH = 600
"""A film shrunk by a whole step to this or more is not brought to SIDE."""
_ENOUGH_OF_JPEG_2000 = 500
_TAGS = [
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PlanarConfiguration",
    "NumberOfFrames",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PhotometricInterpretation",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "PixelData",
]
_STUMBLES = (  # what pydicom, numpy and Pillow raise for pixels that they cannot make sense of
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    CannotDraw,
    Image.DecompressionBombError,
)


def preview(path: Path) -> Image.Image | None:
    """Give a film's picture, mode L, longest side about SIDE; None when it cannot be decoded here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a strange film is drawn as well as it can be
            small = _small(path)
    except _STUMBLES:
        return None
    if _ENOUGH <= max(small.size) <= SIDE:
        return small
    scale = SIDE / max(small.size)
    size = (max(1, round(small.width * scale)), max(1, round(small.height * scale)))
    return small.resize(size, Image.Resampling.BILINEAR)


def _small(path: Path) -> Image.Image:
    """Decode a film to gray, shrunk by a whole step to about SIDE."""
    dataset = pydicom.dcmread(path, specific_tags=list(_TAGS))
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    longest = max(dataset.Rows, dataset.Columns)
    step = -(-longest // SIDE)
    if longest // step < _ENOUGH:
        step = max(1, step - 1)
    if not syntax.is_encapsulated:
        return _windowed(_native(dataset, step, big=syntax == ExplicitVRBigEndian), dataset)
    if dataset.SamplesPerPixel == 1 and not dataset.PixelRepresentation and syntax in (JPEG2000, JPEG2000Lossless):
        return _windowed(_jpeg_2000(dataset, longest), dataset)
    if dataset.SamplesPerPixel == 1 and syntax == RLELossless:
        return _windowed(shrunk(dataset.pixel_array, step, dataset.BitsStored), dataset)
    return Image.fromarray(film_pixels(path.read_bytes())).reduce(step)


def _native(dataset: Dataset, step: int, *, big: bool) -> NDArray[Any]:
    """Shrink uncompressed stored values by a whole step: means of step x step squares."""
    element: Any = dataset.get_item("PixelData")
    data: Any = element.value if isinstance(element, RawDataElement) else dataset.PixelData
    rows, columns, samples = dataset.Rows, dataset.Columns, dataset.SamplesPerPixel
    wide = {8: "u1", 16: "u2"}[dataset.BitsAllocated]
    words = np.frombuffer(data, (">" if big else "<") + wide, rows * columns * samples)
    if samples == 1:
        words = words.reshape(rows, columns)
    elif dataset.get("PlanarConfiguration", 0):
        words = words.reshape(samples, rows, columns)[0]
    else:
        words = words.reshape(rows, columns, samples)[..., 0]  # the server reads no colour but gray
    return shrunk(_stored(words, dataset), step, dataset.BitsStored)


def _stored(words: NDArray[Any], dataset: Dataset) -> NDArray[Any]:
    """Take the stored bits out of their words; those around them may hold anything."""
    stored, top = dataset.BitsStored, dataset.HighBit
    if top + 1 != stored or (stored < dataset.BitsAllocated and int(words.max()) >> stored):
        words = (words >> (top + 1 - stored)) & ((1 << stored) - 1)
    if dataset.PixelRepresentation:
        spare = 16 - stored
        signed: NDArray[Any] = (words.astype("<u2") << spare).view("<i2") >> spare
        return signed
    return words


def shrunk(values: NDArray[Any], step: int, bits: int) -> NDArray[Any]:
    """Give the means of step x step squares; what fills no square at the far edges is left out.

    `bits`: how many bits the values have.
    """
    if step == 1:
        return values
    total: Any
    means: Any
    rows, columns = (size // step for size in values.shape)
    cut = values[: rows * step, : columns * step]
    narrow = cut.dtype.kind == "u" and step * step << bits <= 1 << 16  # uint16 is a fifth of the time
    total = cut[0::step].astype(np.uint16 if narrow else np.int32)
    for row in range(1, step):
        total += cut[row::step]
    means = total[:, 0::step].copy()
    for column in range(1, step):
        means += total[:, column::step]
    if step & (step - 1) == 0:
        means >>= means.dtype.type(2 * (step.bit_length() - 1))
    else:
        means //= means.dtype.type(step * step)
    made: NDArray[Any] = means
    return made


def _jpeg_2000(dataset: Dataset, longest: int) -> NDArray[Any]:
    """Decode JPEG 2000 at a half, a quarter, ... of its size, to stored values: each costs a quarter of the last."""
    picture: Any = Image.open(io.BytesIO(next(generate_frames(dataset.PixelData, number_of_frames=1))))
    picture.reduce = min(max(0, (longest // _ENOUGH_OF_JPEG_2000).bit_length() - 1), 5)
    values = np.asarray(picture)
    if values.ndim != 2:
        raise ValueError("not gray")
    wide = 8 * values.dtype.itemsize  # Pillow shifts up to the word's top
    return values >> (wide - dataset.BitsStored) if wide > dataset.BitsStored else values


def _windowed(values: NDArray[Any], dataset: Dataset) -> Image.Image:
    """Bring stored values to gray through a table of the film's own modality and VOI transformations."""
    low, high = int(values.min()), int(values.max())
    stored = np.arange(low, high + 1, dtype=np.int32)
    shown = np.asarray(apply_voi_lut(apply_modality_lut(stored, dataset), dataset), np.float32)
    if "WindowCenter" in dataset or "VOILUTSequence" in dataset:
        dark, bright = float(shown.min()), float(shown.max())
    else:  # no window: not by the brightest marker, but by what nearly all of the film is
        dark, bright = np.percentile(shown[values[::4, ::4].astype(np.int64) - low], (0.5, 99.5))
    gray = (shown - dark) * (255 / max(float(bright - dark), 1e-6))
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        gray = 255 - gray
    table = np.clip(gray, 0, 255).round().astype(np.uint8)
    return Image.fromarray(table[values.astype(np.int64) - low] if low else table[values])
