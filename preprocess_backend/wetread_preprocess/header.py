"""DICOM bytes to a typed film header and the place of its pixels, without copying the pixels."""

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from wetread_preprocess.attributes import Attributes
from wetread_preprocess.errors import InvalidDicom, UnsupportedImage

Buffer: TypeAlias = bytes | memoryview | npt.NDArray[np.uint8]

# Headers of films are 2-20 KB; the first read looks this far before it takes the whole file.
_HEAD_BYTES = 256 * 1024
_PIXEL_DATA = (0x7FE0, 0x0010)
# PS3.5 7.1: VRs whose explicit form has two reserved bytes and a 32-bit length; pixels come as OB or OW.
_LONG_VRS = (b"OB", b"OW", b"UN")
_UNDEFINED_LENGTH = 0xFFFFFFFF
_PARSE_ERRORS = (
    AttributeError, BytesLengthException, EOFError, InvalidDicomError, LookupError, NotImplementedError, OSError,
    OverflowError, RecursionError, TypeError, ValueError, struct.error, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class ParsedFile:
    """A dataset up to its pixels, and the pixels where they lie."""

    dataset: Dataset
    transfer_syntax: str
    pixels: memoryview
    """From the first byte of the value of Pixel Data (7FE0,0010) to its end, or to the file's when encapsulated."""
    encapsulated: bool


def parse(dicom: Buffer, max_inflated_bytes: int) -> ParsedFile:
    """Parse a DICOM file held in memory.

    Raises:
        InvalidDicom: not DICOM, cut short, or without Pixel Data (7FE0,0010).
        UnsupportedImage: float pixels.
    """
    view = dicom.data if isinstance(dicom, np.ndarray) else memoryview(dicom)
    if len(view) < 8:
        raise InvalidDicom(f"the file holds {len(view)} bytes and is no DICOM file")
    try:
        if is_deflated(view):
            return _parse_deflated(view, max_inflated_bytes)
        return _parse_plain(view)
    except _PARSE_ERRORS as error:
        raise InvalidDicom(f"the file cannot be parsed as DICOM: {_brief(error)}") from error


def _parse_plain(view: memoryview) -> ParsedFile:
    forced = _is_bare_dataset(view)
    if len(view) > _HEAD_BYTES:
        try:
            stream = io.BytesIO(view[:_HEAD_BYTES])
            dataset = pydicom.dcmread(stream, stop_before_pixels=True, force=forced)
            start = stream.tell()
            if start + 12 <= _HEAD_BYTES and _tag_at(view, start, _big_endian(dataset)) == _PIXEL_DATA:
                return _locate(view, dataset, start)
        except _PARSE_ERRORS:
            pass  # the header may be longer than the window: the whole file decides
    stream = io.BytesIO(view)
    dataset = pydicom.dcmread(stream, stop_before_pixels=True, force=forced)
    return _locate(view, dataset, stream.tell())


def _is_bare_dataset(view: memoryview) -> bool:
    """Whether the file starts with a dataset instead of PS3.10's preamble, as old archives write them."""
    return bytes(view[128:132]) != b"DICM" and bytes(view[0:2]) in (b"\x02\x00", b"\x08\x00", b"\x00\x08")


def _big_endian(dataset: FileDataset) -> bool:
    return bool(dataset.file_meta.get("TransferSyntaxUID") == ExplicitVRBigEndian)


def _tag_at(view: memoryview, start: int, big_endian: bool) -> tuple[int, ...]:
    return struct.unpack_from(">HH" if big_endian else "<HH", view, start)


def _locate(view: memoryview, dataset: FileDataset, start: int) -> ParsedFile:
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        implicit, little = dataset.original_encoding
        syntax = ImplicitVRLittleEndian if implicit or implicit is None else pydicom.uid.ExplicitVRLittleEndian
        if little is False:
            syntax = ExplicitVRBigEndian
    big_endian = syntax == ExplicitVRBigEndian
    if start + 8 > len(view):
        raise InvalidDicom("Pixel Data (7FE0,0010) is missing; only an image can be read")
    tag = _tag_at(view, start, big_endian)
    if tag in ((0x7FE0, 0x0008), (0x7FE0, 0x0009)):
        raise UnsupportedImage("the pixels are floating point (7FE0,0008); only integers are read")
    if tag != _PIXEL_DATA:
        raise InvalidDicom("Pixel Data (7FE0,0010) is missing; only an image can be read")
    order = ">" if big_endian else "<"
    if syntax == ImplicitVRLittleEndian:
        (length,) = struct.unpack_from(order + "I", view, start + 4)
        value = start + 8
    else:
        if bytes(view[start + 4 : start + 6]) not in _LONG_VRS:
            raise InvalidDicom("Pixel Data (7FE0,0010) has neither VR OB nor OW")
        (length,) = struct.unpack_from(order + "I", view, start + 8)
        value = start + 12
    if length == _UNDEFINED_LENGTH:
        return ParsedFile(dataset, str(syntax), view[value:], encapsulated=True)
    if value + length > len(view):
        raise InvalidDicom(
            f"Pixel Data (7FE0,0010) states {length} bytes and the file ends after {len(view) - value}; it is cut short"
        )
    return ParsedFile(dataset, str(syntax), view[value : value + length], encapsulated=False)


def is_deflated(view: memoryview) -> bool:
    """Whether the dataset is compressed as a whole (PS3.5 A.5), by the file's meta group."""
    # The UID stands in the file meta group, which comes first, is short and always explicit little endian.
    head = bytes(view[:2048])
    at = head.find(b"\x02\x00\x10\x00UI", 132)
    if head[128:132] != b"DICM" or at < 0:
        return False
    length = int.from_bytes(head[at + 6 : at + 8], "little")
    return head[at + 8 : at + 8 + length].rstrip(b"\x00 ") == DeflatedExplicitVRLittleEndian.encode()


def _parse_deflated(view: memoryview, max_inflated_bytes: int) -> ParsedFile:
    """Inflate with a bound: a few kilobytes can unpack to gigabytes."""
    start = _end_of_meta(view)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = memoryview(inflater.decompress(view[start:], max_inflated_bytes))
    if inflater.unconsumed_tail:
        raise UnsupportedImage(f"the deflated dataset unpacks to more than {max_inflated_bytes} bytes")
    stream = io.BytesIO(inflated)
    dataset = read_dataset(stream, is_implicit_VR=False, is_little_endian=True, stop_when=_at_pixels)
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    whole = FileDataset("", dataset, file_meta=meta, is_implicit_VR=False, is_little_endian=True)
    return _locate(inflated, whole, stream.tell())


def _at_pixels(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag in (0x7FE00008, 0x7FE00009, 0x7FE00010)


def _end_of_meta(view: memoryview) -> int:
    """The first byte after group 0002, which is always explicit little endian (PS3.10 7.1)."""
    at = 132
    while at + 12 <= len(view) and bytes(view[at : at + 2]) == b"\x02\x00":
        if bytes(view[at + 4 : at + 6]) in (*_LONG_VRS, b"SQ", b"UT"):
            at += 12 + struct.unpack_from("<I", view, at + 8)[0]
        else:
            at += 8 + struct.unpack_from("<H", view, at + 6)[0]
    return at


def _brief(error: BaseException) -> str:
    """The error's first sentence, short enough for a log line and without a value of the dataset's."""
    if isinstance(error, BytesLengthException):  # it quotes the value
        return "a value's length is not a multiple of its VR's"
    text = str(error).split("\n")[0]
    return f"{type(error).__name__}: {text[:160]}"


@dataclass(frozen=True)
class PixelFormat:
    """How the samples are stored: PS3.3 C.7.6.3."""

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    planar: bool
    photometric: str

    @property
    def native_bytes(self) -> int:
        """Bytes of the uncompressed frame."""
        count = self.rows * self.columns * self.samples
        if self.photometric == "YBR_FULL_422":
            count = count * 2 // 3
        return count * (self.bits_allocated // 8)


def pixel_format(dataset: Dataset | Attributes) -> PixelFormat:
    """Read the Image Pixel module.

    Raises:
        InvalidDicom: an attribute is missing, malformed or contradicts another, by name.
        UnsupportedImage: samples of other than 8 or 16 bits.
    """
    read = dataset if isinstance(dataset, Attributes) else Attributes(dataset)
    allocated = read.integer("BitsAllocated")
    if allocated not in (8, 16):
        raise UnsupportedImage(f"Bits Allocated (0028,0100) is {allocated}; images of 8 and 16 bits are read")
    stored = read.integer("BitsStored", allocated)
    if not 1 <= stored <= allocated:
        raise InvalidDicom(f"Bits Stored (0028,0101) is {stored} with Bits Allocated {allocated}")
    high = read.integer("HighBit", stored - 1)
    if not stored - 1 <= high < allocated:
        raise InvalidDicom(f"High Bit (0028,0102) is {high} with Bits Stored {stored} of {allocated}")
    samples = read.integer("SamplesPerPixel", 1)
    if samples not in (1, 3):
        raise UnsupportedImage(f"Samples per Pixel (0028,0002) is {samples}; images with 1 or 3 are read")
    return PixelFormat(
        rows=read.integer("Rows"),
        columns=read.integer("Columns"),
        samples=samples,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high,
        signed=read.integer("PixelRepresentation", 0) == 1,
        planar=read.integer("PlanarConfiguration", 0) == 1,
        photometric=read.text("PhotometricInterpretation", "MONOCHROME2" if samples == 1 else "RGB"),
    )


def padding_range(dataset: Dataset | Attributes, fmt: PixelFormat) -> tuple[int, int] | None:
    """Stored values that mark pixels outside the image, both ends included (PS3.3 C.7.5.1.1.2), or None."""
    read = dataset if isinstance(dataset, Attributes) else Attributes(dataset)
    first = read.optional_integer("PixelPaddingValue")
    if first is None:
        return None
    last = read.optional_integer("PixelPaddingRangeLimit")
    ends = [_wrap(value, fmt) for value in (first, first if last is None else last)]
    return min(ends), max(ends)


def _wrap(value: int, fmt: PixelFormat) -> int:
    """A padding value written as US for signed pixels, or the reverse, in the pixels' own sign."""
    span = 1 << fmt.bits_allocated
    value %= span
    return value - span if fmt.signed and value >= span // 2 else value


def describe(dataset: Dataset) -> dict[str, Any]:
    """What later steps and clients need to know of the source image: the start of GEOMETRY."""
    read = Attributes(dataset)
    spacing = read.floats("PixelSpacing") or read.floats("ImagerPixelSpacing")
    return {
        "rows": read.integer("Rows"),
        "columns": read.integer("Columns"),
        "pixel_spacing_mm": list(spacing[:2]) if len(spacing) >= 2 else None,
        "sop_instance_uid": read.text("SOPInstanceUID", ""),
    }
