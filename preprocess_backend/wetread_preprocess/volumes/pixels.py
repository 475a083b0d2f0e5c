"""The stored values of one image: a view of the file's bytes where they allow it, else decoded."""

from typing import Any

import numpy as np
import numpy.typing as npt

from wetread_preprocess.codecs import NATIVE_BIG, NATIVE_LITTLE, Job, is_supported
from wetread_preprocess.errors import InvalidDicom, UnsupportedImage
from wetread_preprocess.gate import syntax_name
from wetread_preprocess.header import PixelFormat
from wetread_preprocess.sandbox import Sandbox
from wetread_preprocess.volumes.slices import Image, Kind, PixelPlace
from wetread_preprocess.volumes.stack import Pixels

_NEVER = 2**31
"""Of `Job.reduce_from`: no side is as long, all is decoded at full size."""


def is_native(place: PixelPlace) -> bool:
    """Whether the pixels are uncompressed.

    Raises:
        InvalidDicom: encapsulated against the transfer syntax, or the reverse.
        UnsupportedImage: no decoder.
    """
    native = place.transfer_syntax in NATIVE_LITTLE or place.transfer_syntax == NATIVE_BIG
    if native == place.encapsulated:
        raise InvalidDicom(
            f"Pixel Data (7FE0,0010) is {'' if place.encapsulated else 'not '}encapsulated, against its transfer "
            f"syntax {syntax_name(place.transfer_syntax)}"
        )
    if not native and not is_supported(place.transfer_syntax):
        raise UnsupportedImage(
            f"no decoder for {syntax_name(place.transfer_syntax)}; send it uncompressed or as JPEG 2000"
        )
    return native


def raw_bytes(image: Image) -> memoryview | bytes:
    """The bytes that hold an image's pixels, compressed or not; equal bytes are equal images.

    Raises:
        InvalidDicom: fewer than the header needs.
    """
    fmt, place = _format(image), image.place
    if place.encapsulated:
        return b"".join(map(bytes, place.fragments[image.frame]))
    start = image.frame * fmt.native_bytes
    if start + fmt.native_bytes > len(place.pixels):
        raise InvalidDicom(
            f"Pixel Data (7FE0,0010) holds {len(place.pixels)} bytes; {place.frames} x {fmt.rows} x {fmt.columns} "
            f"with {fmt.bits_allocated} bits need {place.frames * fmt.native_bytes}"
        )
    return place.pixels[start : start + fmt.native_bytes]


def read_pixels(image: Image, sandbox: Sandbox) -> Pixels:
    """Give an image's stored values [rows, columns] in the machine's byte order.

    Raises:
        InvalidDicom: too few bytes, or a codec cannot read them.
        UnsupportedImage: no decoder.
    """
    fmt, place = _format(image), image.place
    if is_native(place):
        return _native(raw_bytes(image), image.kind, big_endian=place.transfer_syntax == NATIVE_BIG)
    job = Job(place.transfer_syntax, fmt, None, (fmt.rows, fmt.columns), _NEVER)
    values = sandbox.decode(job, place.fragments[image.frame])
    return _as_pixels(np.rint(values).astype(_dtype(fmt)))


def _format(image: Image) -> PixelFormat:
    assert image.kind.fmt is not None  # an image without one has a fault and is not read
    return image.kind.fmt


def _dtype(fmt: PixelFormat) -> np.dtype[Any]:
    return np.dtype(f"{'i' if fmt.signed else 'u'}{fmt.bits_allocated // 8}")


def _native(data: memoryview | bytes, kind: Kind, *, big_endian: bool) -> Pixels:
    fmt = kind.fmt
    assert fmt is not None
    dtype = _dtype(fmt)
    if big_endian:
        stored = np.frombuffer(data, dtype.newbyteorder(">")).astype(dtype)
    else:
        stored = np.frombuffer(data, dtype.newbyteorder("<")).view(dtype)
    return _as_pixels(_cleaned(stored.reshape(fmt.rows, fmt.columns), fmt, kind.padding))


def _cleaned(stored: npt.NDArray[Any], fmt: PixelFormat, padding: tuple[int, int] | None) -> npt.NDArray[Any]:
    """Without what lies beside the stored bits (overlays of old, PS3.5 8.1.1); the same array where nothing does."""
    spare = fmt.bits_allocated - fmt.bits_stored
    low = fmt.high_bit + 1 - fmt.bits_stored
    if spare == 0:
        return stored
    least = -(1 << fmt.bits_stored - 1) if fmt.signed else 0
    most = least + (1 << fmt.bits_stored) - 1
    if low == 0:
        if least <= stored.min() and stored.max() <= most:
            return stored
        beside = stored[(stored < least) | (stored > most)]
        if padding is not None and padding[0] <= beside.min() and beside.max() <= padding[1]:
            return stored  # padding need not fit the stored bits
    return np.right_shift(np.left_shift(stored, spare - low), spare)


def _as_pixels(values: npt.NDArray[Any]) -> Pixels:
    return values
