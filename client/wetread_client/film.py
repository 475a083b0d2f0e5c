"""Wrap a film that is a PNG, JPEG or TIFF picture as a Secondary Capture, so that one kind of file is sent."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING

import numpy as np

from wetread_client.errors import Rejected

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff"})
_LARGEST_PIXELS = 100_000_000  # several times the largest detector; guards against a decompression bomb
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def is_picture(path: Path) -> bool:
    """Say by its name whether a file is a picture to be wrapped."""
    return path.suffix.lower() in PICTURES


def secondary_capture(path: Path) -> bytes:
    """Give a picture as the bytes of an uncompressed DICOM Secondary Capture.

    Gray stays gray at 8 or 16 bit, also when it was stored as colour; true colour stays RGB, for the server to refuse.
    It holds no patient, and the same picture gives the same bytes. Rejected when the picture cannot be decoded.
    """
    pixels = _decode(path)
    return _wrap(pixels, hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest())


def _decode(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Decode to [rows, columns] uint8 or uint16, or to [rows, columns, 3] uint8 for true colour."""
    from PIL import Image  # noqa: PLC0415 -- only pictures need it

    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > _LARGEST_PIXELS:
                raise Rejected("UnsupportedImage", f"a picture of {picture.width}x{picture.height} pixels is no film")
            if getattr(picture, "n_frames", 1) != 1:
                raise Rejected("UnsupportedImage", "a picture of several frames; a film is one")
            if picture.mode in _SIXTEEN_BIT:
                values = np.asarray(picture)
                if values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
                    raise Rejected("UnsupportedImage", "gray values beyond 16 bit")
                return values.astype(np.uint16)
            if picture.mode in ("1", "L"):
                return np.asarray(picture.convert("L"))
            if picture.mode not in ("LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"):
                raise Rejected("UnsupportedImage", f"pictures of Pillow's mode {picture.mode} are not read")
            colour = np.asarray(picture.convert("RGB"))
    except Rejected:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the file itself cannot be read
        raise Rejected("UnsupportedImage", "the picture cannot be decoded") from error
    gray = (colour == colour[..., :1]).all()
    return np.ascontiguousarray(colour[..., 0]) if gray else colour


def _wrap(pixels: NDArray[np.uint8] | NDArray[np.uint16], digest: bytes) -> bytes:
    """Write the DICOM file; its UIDs are made of the pixels' digest (PS3.5, B.2)."""
    from pydicom.dataset import Dataset, FileMetaDataset  # noqa: PLC0415 -- only pictures need it
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage  # noqa: PLC0415

    bits = 8 * pixels.dtype.itemsize
    film = Dataset()
    film.SOPClassUID = SecondaryCaptureImageStorage
    film.SOPInstanceUID = _uid(digest, b"instance")
    film.StudyInstanceUID = _uid(digest, b"study")
    film.SeriesInstanceUID = _uid(digest, b"series")
    film.PatientName = film.PatientID = ""
    film.Modality = "OT"
    film.ConversionType = "WSD"  # workstation
    film.Rows, film.Columns = pixels.shape[:2]
    film.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    film.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        film.PlanarConfiguration = 0
    film.BitsAllocated = film.BitsStored = bits
    film.HighBit = bits - 1
    film.PixelRepresentation = 0
    content = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()
    film.PixelData = content + b"\0" * (len(content) % 2)
    film["PixelData"].VR = "OB" if bits == 8 else "OW"
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    film.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _uid(digest: bytes, part: bytes) -> str:
    number = int.from_bytes(hashlib.sha256(digest + part).digest()[:16], "big")
    return f"2.25.{number}"
