"""The elements of a slice's header that a series needs, fetched without parsing the rest of it.

pydicom takes a millisecond for a header of a hundred elements, and a series has hundreds of headers. Here the elements
are stepped over by their lengths and only those wanted are looked at. Whatever is out of the ordinary (no preamble,
another byte order, a deflated dataset, functional groups, an order or a VR that should not be) is left to pydicom.
"""

import struct
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset

from wetread_preprocess.attributes import Attributes

# The keywords that are fetched, each with the VRs (PS3.6) that this module converts it from.
WANTED: dict[str, tuple[int, tuple[bytes, ...]]] = {
    "ImageType": (0x00080008, (b"CS",)),
    "SOPClassUID": (0x00080016, (b"UI",)),
    "SOPInstanceUID": (0x00080018, (b"UI",)),
    "Modality": (0x00080060, (b"CS",)),
    "BodyPartExamined": (0x00180015, (b"CS",)),
    "EchoTime": (0x00180081, (b"DS",)),
    "EchoNumbers": (0x00180086, (b"IS",)),
    "TriggerTime": (0x00181060, (b"DS",)),
    "ConvolutionKernel": (0x00181210, (b"SH",)),
    "DiffusionBValue": (0x00189087, (b"FD",)),
    "SeriesInstanceUID": (0x0020000E, (b"UI",)),
    "SeriesNumber": (0x00200011, (b"IS",)),
    "AcquisitionNumber": (0x00200012, (b"IS",)),
    "ImagePositionPatient": (0x00200032, (b"DS",)),
    "ImageOrientationPatient": (0x00200037, (b"DS",)),
    "FrameOfReferenceUID": (0x00200052, (b"UI",)),
    "TemporalPositionIdentifier": (0x00200100, (b"IS",)),
    "SamplesPerPixel": (0x00280002, (b"US",)),
    "PhotometricInterpretation": (0x00280004, (b"CS",)),
    "PlanarConfiguration": (0x00280006, (b"US",)),
    "NumberOfFrames": (0x00280008, (b"IS",)),
    "Rows": (0x00280010, (b"US",)),
    "Columns": (0x00280011, (b"US",)),
    "PixelSpacing": (0x00280030, (b"DS",)),
    "BitsAllocated": (0x00280100, (b"US",)),
    "BitsStored": (0x00280101, (b"US",)),
    "HighBit": (0x00280102, (b"US",)),
    "PixelRepresentation": (0x00280103, (b"US",)),
    "PixelPaddingValue": (0x00280120, (b"US", b"SS")),
    "PixelPaddingRangeLimit": (0x00280121, (b"US", b"SS")),
    "RescaleIntercept": (0x00281052, (b"DS",)),
    "RescaleSlope": (0x00281053, (b"DS",)),
    "RescaleType": (0x00281054, (b"LO",)),
}
_VRS = dict(WANTED.values())
# Modality LUT, shared and per-frame functional groups, all pixels but integers: pydicom's and `header.parse`'s work.
_UNUSUAL = frozenset({0x00283000, 0x52009229, 0x52009230, 0x7FE00001, 0x7FE00008, 0x7FE00009})
_PIXEL_DATA = 0x7FE00010

# PS3.5 7.1.2: bytes of an explicit element's header, by its VR.
_HEADER_BYTES = dict.fromkeys(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"), 12
) | dict.fromkeys(
    (
        b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL",
        b"SS", b"ST", b"TM", b"UI", b"UL", b"US",
    ),
    8,
)  # fmt: skip
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xE000FFFE, 0xE00DFFFE, 0xE0DDFFFE  # as little-endian words of (group, element)
_DEEPEST = 16
_IMPLICIT, _EXPLICIT = b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1"
_ENCAPSULATED = b"1.2.840.10008.1.2."
_NOT_LITTLE_OR_PLAIN = frozenset({b"1.2.840.10008.1.2.2", b"1.2.840.10008.1.2.1.99"})

_tag_vr_length = struct.Struct("<HH2sH").unpack_from
_tag_length = struct.Struct("<HHI").unpack_from
_word = struct.Struct("<I").unpack_from
_double = struct.Struct("<d").unpack_from
_words = {b"US": struct.Struct("<H").unpack_from, b"SS": struct.Struct("<h").unpack_from}


@dataclass(frozen=True)
class Elements:
    """What was fetched of one file."""

    values: dict[int, bytes]
    """By tag: the value's bytes, those of the VR first."""
    transfer_syntax: str
    pixels: memoryview
    """As in `header.ParsedFile`; of a file that is cut short, what is there of them."""
    encapsulated: bool
    missing: int
    """Bytes of Pixel Data (7FE0,0010) that the file states and does not hold."""


class _UnusualError(Exception):
    """Something that is left to pydicom."""


def scan(view: memoryview) -> Elements | None:
    """Fetch the wanted elements of a DICOM file with its image; None: the file is for pydicom to read."""
    try:
        if len(view) < 132 or bytes(view[128:132]) != b"DICM":
            return None
        syntax, at = _meta(view)
        if syntax == _IMPLICIT:
            return _implicit(view, at)
        if not syntax.startswith(_ENCAPSULATED) or syntax in _NOT_LITTLE_OR_PLAIN:
            return None
        return _explicit(view, at, syntax.decode("ascii"))
    except (struct.error, _UnusualError, UnicodeDecodeError):
        return None


def _meta(view: memoryview) -> tuple[bytes, int]:
    """The transfer syntax, and where group 0002, which is always explicit little endian, ends (PS3.10 7.1)."""
    at, syntax = 132, b""
    while True:
        group, element, vr, length = _tag_vr_length(view, at)
        if group != 0x0002:
            break
        if _HEADER_BYTES.get(vr) == 12:
            at, length = at + 12, _word(view, at + 8)[0]
        else:
            at += 8
        if element == 0x0010:
            syntax = bytes(view[at : at + length]).rstrip(b"\0 ")
        at += length
    return syntax, at


def _explicit(view: memoryview, at: int, syntax: str) -> Elements:
    values: dict[int, bytes] = {}
    last = 0
    while True:
        group, element, vr, length = _tag_vr_length(view, at)
        tag = group << 16 | element
        header = _HEADER_BYTES.get(vr)
        if tag <= last or header is None or tag in _UNUSUAL:
            raise _UnusualError
        last = tag
        at += header
        if header == 12:
            (length,) = _word(view, at - 4)
        if tag >= _PIXEL_DATA:
            if tag != _PIXEL_DATA or vr not in (b"OB", b"OW", b"UN"):
                raise _UnusualError
            return _found(view, at, length, values, syntax)
        if length == _UNDEFINED:
            if vr not in (b"SQ", b"UN"):
                raise _UnusualError
            at = _past_items(view, at, explicit=vr == b"SQ")
            continue
        known = _VRS.get(tag)
        if known is not None:
            if vr not in known:
                raise _UnusualError
            values[tag] = vr + view[at : at + length]
        at += length


def _implicit(view: memoryview, at: int) -> Elements:
    values: dict[int, bytes] = {}
    last = 0
    while True:
        group, element, length = _tag_length(view, at)
        tag = group << 16 | element
        if tag <= last or tag in _UNUSUAL or tag > _PIXEL_DATA:
            raise _UnusualError
        last = tag
        at += 8
        if tag == _PIXEL_DATA:
            return _found(view, at, length, values, _IMPLICIT.decode())
        if length == _UNDEFINED:
            at = _past_items(view, at, explicit=False)
            continue
        known = _VRS.get(tag)
        if known is not None:
            values[tag] = known[0] + view[at : at + length]
        at += length


def _found(view: memoryview, at: int, length: int, values: dict[int, bytes], syntax: str) -> Elements:
    if length == _UNDEFINED:
        return Elements(values, syntax, view[at:], encapsulated=True, missing=0)
    missing = max(at + length - len(view), 0)
    return Elements(values, syntax, view[at : at + length], encapsulated=False, missing=missing)


def _past_items(view: memoryview, at: int, *, explicit: bool, depth: int = 0) -> int:
    """Where a sequence of undefined length ends (PS3.5 7.5)."""
    if depth > _DEEPEST:
        raise _UnusualError
    while True:
        (tag,), (length,) = _word(view, at), _word(view, at + 4)
        at += 8
        if tag == _SEQUENCE_END:
            return at
        if tag != _ITEM:
            raise _UnusualError
        at = at + length if length != _UNDEFINED else _past_item(view, at, explicit=explicit, depth=depth)


def _past_item(view: memoryview, at: int, *, explicit: bool, depth: int) -> int:
    while True:
        if _word(view, at)[0] == _ITEM_END:
            return at + 8
        vr = b"SQ"
        if explicit:
            _, _, vr, length = _tag_vr_length(view, at)
            header = _HEADER_BYTES.get(vr)
            if header is None:
                raise _UnusualError
            if header == 12:
                (length,) = _word(view, at + 8)
            at += header
        else:
            (length,) = _word(view, at + 4)
            at += 8
        if length == _UNDEFINED:
            if vr not in (b"SQ", b"UN"):
                raise _UnusualError
            at = _past_items(view, at, explicit=explicit and vr == b"SQ", depth=depth + 1)
        else:
            at += length


class Fetched(Attributes):
    """The wanted elements with the access, and to the values, that pydicom's dataset would give."""

    def __init__(self, values: dict[int, bytes]) -> None:
        self._values = values

    def raw(self, keyword: str) -> Any:
        """The value; a KeyError where the keyword is not among those fetched."""
        held = self._values.get(WANTED[keyword][0])
        return None if held is None else _converted(held[:2], held[2:])

    def items(self, keyword: str) -> tuple[Dataset, ...]:
        """None: a file with a sequence that is asked for is pydicom's."""
        del keyword
        return ()


def _converted(vr: bytes, value: bytes) -> Any:
    if not value:
        return None
    if vr in _words:
        if len(value) % 2:
            return value  # no number: refused by whoever asks for one
        numbers = [_words[vr](value, at)[0] for at in range(0, len(value), 2)]
        return numbers if len(numbers) > 1 else numbers[0]
    if vr == b"FD":
        return _double(value)[0] if len(value) == 8 else value
    text = value.decode("latin-1").rstrip("\0 ")
    parts = [_number(part) if vr == b"IS" else part for part in text.split("\\")]
    return parts if len(parts) > 1 else parts[0]


def _number(part: str) -> int | str:
    """An integer string as pydicom reads it: `1.0` is 1."""
    try:
        return int(part)
    except ValueError:
        pass
    try:
        number = float(part)
    except ValueError:
        return part
    return int(number) if number.is_integer() else part
