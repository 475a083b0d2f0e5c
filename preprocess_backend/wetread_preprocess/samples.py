"""Stored pixels on one 16-bit scale, and their reduction to the recipe's size."""

import functools
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from wetread_preprocess.errors import InvalidDicom, UnsupportedImage
from wetread_preprocess.header import Buffer, PixelFormat

UInt16Image = npt.NDArray[np.uint16]
FloatImage = npt.NDArray[np.float32]

_SIGN_BIT = 0x8000
# 0.75 MB of stored values: most of a current server core's own cache. With the other core at work a 2048 x 2048 film
# takes 1.6 ms so and 2.35 ms as a whole.
_STRIP_PIXELS = 384 * 1024
# Lossy chroma of a gray film strays this far from neutral (8-bit levels, 99.9th percentile), colour much further.
_GRAY_TOLERANCE = 10


@dataclass(frozen=True)
class Samples:
    """One frame on a 16-bit scale: stored value = values * scale + offset.

    The scale uses all 16 bits, so that halving an image rounds far below one stored level, and a film and its
    inverted twin round alike.
    """

    values: UInt16Image
    """[rows, columns]"""
    scale: float
    offset: float
    padding: npt.NDArray[np.bool_] | None = None
    """[rows, columns], True outside the image; None when all pixels are inside."""
    low_band: "LowBand | None" = None
    """Set when the values are a wavelet's low band instead of pixels."""


@dataclass(frozen=True)
class LowBand:
    """Where the samples of a JPEG 2000 low band lie on the full image."""

    levels: int
    """Levels left undecoded; a sample stands for 2**levels pixels each way."""
    rows: int
    columns: int
    """Of the full image."""


class Shelf:
    """One scratch image, reused from film to film: a fresh one costs more in page faults than the work on it."""

    def __init__(self) -> None:
        self._flat = np.empty(0, np.uint16)

    def image(self, rows: int, columns: int) -> UInt16Image:
        """A [rows, columns] array with whatever the last film left in it."""
        if self._flat.size < rows * columns:
            self._flat = np.empty(rows * columns, np.uint16)
        return self._flat[: rows * columns].reshape(rows, columns)


def native_frame(pixels: Buffer, fmt: PixelFormat, *, big_endian: bool) -> npt.NDArray[np.generic]:
    """The uncompressed frame as stored: [rows, columns] or [rows, columns, 3], a view where the layout allows.

    Raises:
        InvalidDicom: fewer bytes than Rows, Columns and the sample format need.
    """
    if len(pixels) < fmt.native_bytes:
        raise InvalidDicom(
            f"Pixel Data (7FE0,0010) holds {len(pixels)} bytes; {fmt.rows} x {fmt.columns} with "
            f"{fmt.samples} sample(s) of {fmt.bits_allocated} bits need {fmt.native_bytes}"
        )
    order = ">" if big_endian else "<"
    dtype = np.dtype(np.uint8) if fmt.bits_allocated == 8 else np.dtype(order + "u2")
    flat = np.frombuffer(pixels, dtype, fmt.native_bytes // dtype.itemsize)
    if fmt.samples == 1:
        return flat.reshape(fmt.rows, fmt.columns)
    if fmt.photometric == "YBR_FULL_422":
        return _upsample_422(flat, fmt)
    if fmt.planar:
        return np.moveaxis(flat.reshape(3, fmt.rows, fmt.columns), 0, 2)
    return flat.reshape(fmt.rows, fmt.columns, 3)


def _upsample_422(flat: npt.NDArray[np.generic], fmt: PixelFormat) -> npt.NDArray[np.generic]:
    """PS3.3 C.7.6.3.1.2: Y1 Y2 Cb Cr for every two pixels."""
    quads = flat[: fmt.rows * fmt.columns * 2 // 4 * 4].reshape(-1, 4)
    luma = quads[:, :2].reshape(fmt.rows, fmt.columns)
    chroma = np.repeat(quads[:, 2:], 2, axis=0).reshape(fmt.rows, fmt.columns, 2)
    return np.dstack([luma, chroma])


def to_gray(frame: npt.NDArray[np.generic], photometric: str) -> npt.NDArray[np.generic]:
    """One channel of a colour frame whose pixels are all gray.

    Raises:
        UnsupportedImage: the image is in colour.
    """
    if frame.ndim == 2:
        return frame
    wide = frame[::2, ::2].astype(np.int32) if min(frame.shape[:2]) > 256 else frame.astype(np.int32)
    levels = 256**frame.dtype.itemsize
    if photometric in ("YBR_FULL", "YBR_FULL_422"):
        stray = np.abs(wide[..., 1:] - levels // 2).max(axis=-1)
        luma = frame[..., 0]
    else:
        stray = wide.max(axis=-1) - wide.min(axis=-1)
        luma = frame[..., 1]
    if np.quantile(stray, 0.999) > _GRAY_TOLERANCE * levels // 256:
        raise UnsupportedImage("the image is in colour; a film is gray")
    return luma


def to_samples(
    frame: npt.NDArray[np.generic],
    fmt: PixelFormat,
    padding: tuple[int, int] | None,
    size: tuple[int, int],
    shelf: Shelf,
) -> Samples:
    """Bring stored values of one channel to the 16-bit scale, halved as far as `size` allows.

    Strips of rows go through both steps while they are in the processor's own cache: a film is read from memory once
    and never written back. With padding all pixels are kept, for each must be told apart.
    """
    scale = 2.0 ** (fmt.bits_stored - 16)
    offset = -_SIGN_BIT * scale if fmt.signed else 0.0
    if padding is not None:
        values = _to_16_bits(frame, fmt, shelf)
        return Samples(values, scale, offset, padding_mask(values, scale, offset, padding))
    halvings = _halvings(frame.shape, size)
    rows, columns = frame.shape
    values = np.empty((rows >> halvings, columns >> halvings), np.uint16)
    step = max(_STRIP_PIXELS // columns >> halvings, 1) << halvings
    for top in range(0, rows, step):
        strip = _halve(_to_16_bits(frame[top : top + step], fmt, shelf), halvings)
        values[top >> halvings : (top >> halvings) + len(strip)] = strip
    return Samples(values, scale, offset)


def _to_16_bits(frame: npt.NDArray[np.generic], fmt: PixelFormat, shelf: Shelf) -> UInt16Image:
    """Stored values with their highest bit at the top.

    Shifting drops what lies above the high bit (overlays of old), and flipping the sign bit turns two's complement
    into offset binary, so that all films shrink by the same integer code.
    """
    shift = 15 - fmt.high_bit
    spare_low = fmt.high_bit + 1 - fmt.bits_stored
    if shift == 0 and not fmt.signed and spare_low == 0 and frame.dtype == np.dtype("<u2"):
        return np.ascontiguousarray(frame).view(np.uint16)
    values = shelf.image(*frame.shape)
    np.left_shift(frame.astype(np.uint16, copy=False), np.uint16(shift), out=values)
    if spare_low:
        np.bitwise_and(values, np.uint16((0xFFFF << (shift + spare_low)) & 0xFFFF), out=values)
    if fmt.signed:
        np.bitwise_xor(values, np.uint16(_SIGN_BIT), out=values)
    return values


def spread(values: UInt16Image, precision: int, bits_stored: int, *, signed: bool) -> tuple[UInt16Image, int]:
    """Values of a codestream that has more bits than Bits Stored over all 16, to round as an uncompressed film's do.

    Gives the values and their precision: as they were where one needs the bits above, for there the header is wrong.
    """
    spare = precision - bits_stored
    if spare <= 0:
        return values, precision
    room = 0x10000 >> spare
    low = (0x10000 - room) // 2 if signed else 0
    if values.min() < low or values.max() >= low + room:
        return values, precision
    return (values - np.uint16(low)) << np.uint16(spare), bits_stored


def padding_mask(
    values: UInt16Image, scale: float, offset: float, padding: tuple[int, int] | None
) -> npt.NDArray[np.bool_] | None:
    """Where pixels lie in the padding range (stored values, both ends included); None when none does."""
    if padding is None:
        return None
    low, high = ((np.asarray(padding, np.float64) - offset) / scale).clip(0, 0xFFFF)
    mask = values == np.uint16(low) if low == high else (values >= np.uint16(low)) & (values <= np.uint16(high))
    return mask if mask.any() else None


def shrink(samples: Samples, size: tuple[int, int]) -> FloatImage:
    """Area-average to `size` (rows, columns), stretched; stored values, NaN where all is padding.

    Halving runs at memory speed; a fractional area filter does the rest on fewer pixels. It still has two to four
    pixels for each of the target's: where halving went all the way, the pixels at the seams would count twice.
    """
    if samples.padding is None:
        values = _reduce(samples.values, size, samples.low_band)
    else:
        inside = (~samples.padding).astype(np.float32)
        weight = _reduce(inside, size, samples.low_band)
        sums = _reduce(samples.values.astype(np.float32) * inside, size, samples.low_band)
        # The low band's weights have negative lobes: the quotient of two small sums would mean nothing there.
        least = 1e-6 if samples.low_band is None else 0.25
        with np.errstate(invalid="ignore", divide="ignore"):
            values = sums / np.where(weight > least, weight, np.nan)
    values *= np.float32(samples.scale)
    values += np.float32(samples.offset)
    return values


def _reduce(image: npt.NDArray[np.generic], size: tuple[int, int], low_band: LowBand | None) -> FloatImage:
    if low_band is None:
        return _area(image, size)
    pixels = 2**low_band.levels
    down = _low_band_weights(image.shape[0], size[0], low_band.rows / pixels, low_band.levels)
    across = _low_band_weights(image.shape[1], size[1], low_band.columns / pixels, low_band.levels)
    return np.asarray(down @ image.astype(np.float32) @ across.T, np.float32)


@functools.lru_cache(maxsize=64)
def _low_band_weights(count: int, target: int, extent: float, levels: int) -> FloatImage:
    """Weights [target, count] from low-band samples to the mean over each of the target's pixels.

    The low band holds few more samples than the target pixels: the mean is taken under the cubic (Catmull-Rom) curve
    through them, which comes twice as near to the full decode's average as weighing them by area.
    A sample is centred on the first of the 2**levels pixels it stands for, not on their middle (the 5/3 and 9/7
    filters are symmetric about even pixels): without that shift the image moves by almost half a sample.
    """
    points = 16  # of the curve for each pixel
    at = (np.arange(target * points) + 0.5) * (extent / (target * points)) - 0.5 / 2**levels
    left = np.floor(at).astype(np.intp)
    weights = np.zeros((target, count))
    pixel = np.repeat(np.arange(target), points)
    for sample in (left - 1, left, left + 1, left + 2):
        x = np.abs(at - sample)
        curve = np.where(x <= 1, 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2)
        np.add.at(weights, (pixel, sample.clip(0, count - 1)), curve)  # the outermost samples go on to the edge
    return np.asarray(weights / points, np.float32)


def _halvings(shape: tuple[int, ...], size: tuple[int, int]) -> int:
    """How often an image can be halved and still have two pixels for each of the target's, both ways."""
    count = 0
    height, width = shape
    while not (height % 2 or width % 2) and height >= 4 * size[0] and width >= 4 * size[1]:
        height, width, count = height // 2, width // 2, count + 1
    return count


def _halve(image: npt.NDArray[np.generic], times: int) -> npt.NDArray[np.generic]:
    for _ in range(times):
        image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return image


def _area(image: npt.NDArray[np.generic], size: tuple[int, int]) -> FloatImage:
    rows, columns = size
    small: FloatImage = _halve(image, _halvings(image.shape, size)).astype(np.float32)
    # OpenCV's area filter is one only where both axes shrink: take the axes apart.
    for target in ((small.shape[1], rows), (columns, rows)):
        if target != (small.shape[1], small.shape[0]):
            shrinks = target[0] <= small.shape[1] and target[1] <= small.shape[0]
            small = np.asarray(
                cv2.resize(small, target, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), np.float32
            )
    return small
