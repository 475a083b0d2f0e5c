"""Builders of DICOM films for the tests: any pixel format, any transfer syntax, any attribute missing or wrong."""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import imagecodecs
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

JPEG_XL_LOSSLESS = UID("1.2.840.10008.1.2.4.110")
DEFLATED_FRAME = UID("1.2.840.10008.1.2.8.1")
ENCAPSULATED_UNCOMPRESSED = UID("1.2.840.10008.1.2.1.98")
NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)


@dataclass(frozen=True)
class Stored:
    """Stored values [rows, columns] or [rows, columns, 3] and how they lie in their words."""

    values: np.ndarray
    bits_stored: int = 12
    bits_allocated: int = 16
    high_bit: int | None = None
    signed: bool = False
    rubbish: int = 0
    """What the bits around the stored ones hold: a mask, 0xFFFF fills all of them."""

    @property
    def top(self) -> int:
        return self.bits_stored - 1 if self.high_bit is None else self.high_bit

    def words(self) -> np.ndarray:
        """The words as they are written, in the machine's order."""
        low = self.top + 1 - self.bits_stored
        field = ((1 << self.bits_stored) - 1) << low
        words = (self.values.astype(np.int64) << low) & field | (self.rubbish & ~field)
        return words.astype(np.uint8 if self.bits_allocated == 8 else np.uint16)


def film(stored: Stored | np.ndarray, **attributes: object) -> FileDataset:
    """A DX chest film, uncompressed; an attribute given as None is left out."""
    if isinstance(stored, np.ndarray):
        stored = replace(
            Stored(stored), **({"bits_stored": 8, "bits_allocated": 8} if stored.dtype == np.uint8 else {})
        )
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = UID("1.2.826.0.1.3680043.8.498.1")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    words = stored.words()
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "DX", "CHEST", "PA"
    dataset.PatientName, dataset.PatientID = "TEST^FILM", "T"
    dataset.Rows, dataset.Columns = words.shape[:2]
    dataset.SamplesPerPixel = 1 if words.ndim == 2 else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if words.ndim == 2 else "RGB"
    if words.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = stored.bits_allocated, stored.bits_stored, stored.top
    dataset.PixelRepresentation = int(stored.signed)
    set_pixels(dataset, words)
    return changed(dataset, **attributes)


def changed(dataset: FileDataset, **attributes: object) -> FileDataset:
    """Set attributes, or delete those given as None."""
    for keyword, value in attributes.items():
        if value is None:
            if keyword in dataset:
                delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


def set_pixels(dataset: Dataset, words: np.ndarray) -> None:
    data = words.astype(words.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OB" if words.dtype.itemsize == 1 else "OW"


def item(**attributes: object) -> Dataset:
    """A sequence's item."""
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def lut(entries: np.ndarray, first: int, bits: int) -> Dataset:
    """An item of a modality or VOI LUT sequence."""
    made = Dataset()
    made.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % 65536, first, bits])
    made.add_new("LUTData", "OW", np.asarray(entries, "<u2").tobytes())  # US holds no more than 32767 entries
    return made


def to_bytes(dataset: FileDataset, syntax: str = ExplicitVRLittleEndian, *, preamble: bool = True) -> bytes:
    """Write an uncompressed film in one of the native transfer syntaxes."""
    big = syntax == ExplicitVRBigEndian
    swap_pixels = big and dataset.BitsAllocated == 16
    swapped = _copy(dataset, syntax, keep_pixels=not swap_pixels)
    if swap_pixels:
        swapped.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    buffer = io.BytesIO()
    if preamble:
        dcmwrite(buffer, swapped, enforce_file_format=True)
        return buffer.getvalue()
    swapped.preamble = None
    del swapped.file_meta
    dcmwrite(buffer, swapped, implicit_vr=UID(syntax).is_implicit_VR, little_endian=not big)
    return buffer.getvalue()


def _copy(dataset: FileDataset, syntax: str, *, keep_pixels: bool) -> FileDataset:
    meta = FileMetaDataset()
    meta.update(dataset.file_meta)
    meta.TransferSyntaxUID = UID(syntax)
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.update({tag: element for tag, element in dataset.items() if tag != 0x7FE00010 or keep_pixels})
    return made


def frame_of(dataset: FileDataset, syntax: str, level: int | None = None) -> bytes:
    """Encode a film's pixels as one frame of a compressed syntax."""
    dtype = {8: "<u1", 16: "<u2"}[dataset.BitsAllocated]
    shape = (dataset.Rows, dataset.Columns) + (() if dataset.SamplesPerPixel == 1 else (3,))
    count = int(np.prod(shape))
    pixels = np.frombuffer(dataset.PixelData, dtype, count).reshape(shape)
    return _ENCODERS[syntax](dataset, pixels, level)


def compressed(
    dataset: FileDataset,
    syntax: str,
    *,
    frame: bytes | None = None,
    fragments: int = 1,
    offset_table: bool = False,
    level: int | None = None,
) -> bytes:
    """Write a film in a compressed transfer syntax, its frame in so many fragments."""
    if frame is None:
        frame = frame_of(dataset, syntax, level)
    packed = _copy(dataset, JPEG2000Lossless, keep_pixels=False)
    packed.PixelData = encapsulate([frame], fragments_per_frame=fragments, has_bot=offset_table)
    packed["PixelData"].VR = "OB"
    packed["PixelData"].is_undefined_length = True
    buffer = io.BytesIO()
    dcmwrite(buffer, packed, implicit_vr=False, little_endian=True)
    return renamed(buffer.getvalue(), syntax)


def renamed(data: bytes, syntax: str) -> bytes:
    """Write another Transfer Syntax UID into a file, also one that pydicom does not know."""
    at = data.index(b"\x02\x00\x10\x00UI")
    (length,) = struct.unpack_from("<H", data, at + 6)
    value = syntax.encode() + b"\0" * (len(syntax) % 2)
    (group,) = struct.unpack_from("<I", data, 140)
    meta = data[:140] + struct.pack("<I", group + len(value) - length) + data[144:at]
    return meta + b"\x02\x00\x10\x00UI" + struct.pack("<H", len(value)) + value + data[at + 8 + length :]


def _signed(dataset: Dataset, pixels: np.ndarray) -> np.ndarray:
    if not dataset.PixelRepresentation:
        return pixels
    spare = 16 - dataset.BitsStored
    return (pixels.astype(np.uint16) << spare).view(np.int16) >> spare


def _rle(dataset: Dataset, pixels: np.ndarray, _level: int | None) -> bytes:
    return RLELosslessEncoder.encode(
        pixels,
        rows=dataset.Rows,
        columns=dataset.Columns,
        samples_per_pixel=dataset.SamplesPerPixel,
        bits_allocated=dataset.BitsAllocated,
        bits_stored=dataset.BitsAllocated,
        photometric_interpretation=dataset.PhotometricInterpretation,
        pixel_representation=0,
        number_of_frames=1,
        encoding_plugin="pydicom",
        **({"planar_configuration": 0} if dataset.SamplesPerPixel == 3 else {}),
    )


def _jpeg_2000(dataset: Dataset, pixels: np.ndarray, level: int | None) -> bytes:
    return imagecodecs.jpeg2k_encode(
        _signed(dataset, pixels),
        level=level,
        codecformat="J2K",
        bitspersample=dataset.BitsStored,
        resolutions=6,
        reversible=level is None,
        mct=False,
    )


def _jpeg_xl(dataset: Dataset, pixels: np.ndarray, _level: int | None) -> bytes:
    narrow = pixels.astype(np.uint8) if dataset.BitsStored <= 8 else pixels
    return imagecodecs.jpegxl_encode(narrow, lossless=True, usecontainer=False)


def _deflate(_dataset: Dataset, pixels: np.ndarray, _level: int | None) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = packer.compress(pixels.tobytes()) + packer.flush()
    return data + b"\0" * (len(data) % 2)


_Encoder = Callable[[Dataset, np.ndarray, int | None], bytes]
_ENCODERS: dict[str, _Encoder] = {
    RLELossless: _rle,
    JPEGBaseline8Bit: lambda _d, pixels, level: imagecodecs.jpeg8_encode(pixels, level=level or 95),
    JPEGLossless: lambda d, pixels, _l: imagecodecs.ljpeg_encode(pixels, bitspersample=d.BitsStored),
    JPEGLosslessSV1: lambda d, pixels, _l: imagecodecs.ljpeg_encode(pixels, bitspersample=d.BitsStored),
    JPEGLSLossless: lambda _d, pixels, _l: imagecodecs.jpegls_encode(pixels, out=2 * pixels.nbytes + 1024),  # noise
    JPEG2000Lossless: _jpeg_2000,
    JPEG_XL_LOSSLESS: _jpeg_xl,
    DEFLATED_FRAME: _deflate,
    ENCAPSULATED_UNCOMPRESSED: lambda _d, pixels, _l: pixels.tobytes(),
}
LOSSLESS = tuple(syntax for syntax in _ENCODERS if syntax != JPEGBaseline8Bit)


def radiograph(rows: int, columns: int, bits: int = 12, seed: int = 0) -> np.ndarray:
    """Something like a film, drawn: two dark lungs, a bright spine, smooth noise; unsigned values of `bits`."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    picture = (
        0.55 + 0.25 * np.exp(-((x / 0.12) ** 2)) - 0.35 * np.exp(-(((np.abs(x) - 0.45) / 0.25) ** 2) - (y / 0.6) ** 2)
    )
    for frequency in (3, 7, 15):
        phase = rng.uniform(0, 6.28, 4)
        picture += 0.03 * np.sin(frequency * x + phase[0]) * np.sin(frequency * y + phase[1])
    top = 2**bits - 1
    return np.clip(np.rint(picture * top), 0, top).astype(np.uint8 if bits <= 8 else np.uint16)


def inverted_twin(dataset: FileDataset) -> bytes:
    """The same picture as MONOCHROME1, or as MONOCHROME2 when it was that; the window mirrored (PS3.3 C.11.2.1.2)."""
    bits, signed = dataset.BitsStored, dataset.PixelRepresentation
    low = -(2 ** (bits - 1)) if signed else 0
    high = low + 2**bits - 1
    words = (low + high - dataset.pixel_array.astype(int)).astype("<i2" if signed else "<u2")
    dataset.PixelData = words.tobytes()
    dataset.PhotometricInterpretation = {"MONOCHROME1": "MONOCHROME2", "MONOCHROME2": "MONOCHROME1"}[
        dataset.PhotometricInterpretation
    ]
    if "PresentationLUTShape" in dataset:
        del dataset.PresentationLUTShape
    if "PixelPaddingValue" in dataset:
        dataset.PixelPaddingValue = low + high - dataset.PixelPaddingValue
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    if "WindowCenter" in dataset:
        ends = (low + high) * slope + 2 * intercept
        centre = dataset.WindowCenter
        first = centre[0] if isinstance(centre, pydicom.multival.MultiValue) else centre
        width = dataset.WindowWidth
        dataset.WindowWidth = width[0] if isinstance(width, pydicom.multival.MultiValue) else width
        dataset.WindowCenter = ends + 1 - float(first)
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()
