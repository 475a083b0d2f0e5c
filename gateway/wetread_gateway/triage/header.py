"""Walks the elements of a DICOM file up to its pixels, values untouched: a tenth of what a full parse of them costs."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from wetread_gateway.errors import BadInstance

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

# Header only: what lies before the pixels of a deflated file is looked for in so many bytes, then in so many more.
# The last one also bounds what a few kilobytes of zeros can blow up to.
INFLATED = (1 << 18, 1 << 22, 1 << 26)

_UNDEFINED = 0xFFFFFFFF
_LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)  # Float, Double Float and Pixel Data
_ENDS = (0xFFFEE00D, 0xFFFEE0DD)  # of an item, of a sequence
_META_START = 0x00020000
_DEPTH = 64  # no real object nests deeper
_MOST_ELEMENTS = 2_000_000  # an enhanced object of 10,000 frames has a quarter of them
_LARGEST_VALUE = 1 << 24  # of what is asked for; a length is allocated before it is found to be a lie


@dataclass(frozen=True, slots=True)
class Element:
    """One element's value as it lies in the file, and how it is to be read."""

    value: bytes
    implicit_vr: bool
    little_endian: bool
    undefined_length: bool = False


@dataclass(slots=True)
class Header:
    """The elements asked for, top level only, by tag; `meta` has those of group 2."""

    transfer_syntax_uid: str = ""
    dataset_at: int = 0
    has_pixels: bool = False
    meta: dict[int, bytes] = field(default_factory=dict)
    elements: dict[int, Element] = field(default_factory=dict)


def read_header(path: Path, wanted: Collection[int]) -> Header:
    """Read the elements `wanted` that lie before the pixels; BadInstance, with the reason, where that is no DICOM."""
    try:
        with path.open("rb", buffering=1 << 16) as file:
            header = Header()
            _read(file, wanted, header)
            return header
    except (struct.error, zlib.error, EOFError) as error:
        raise BadInstance(f"its header cannot be read: {error}") from error


def peek(head: bytes, wanted: Collection[int]) -> Header:
    """Read what of `wanted` lies in the first bytes of a file; BadInstance where they are no DICOM."""
    header = Header()
    try:
        _read(io.BytesIO(head), wanted, header)
    except EOFError:
        pass  # the rest of the file is not here
    except (struct.error, zlib.error) as error:
        raise BadInstance(f"its header cannot be read: {error}") from error
    return header


def read_meta(path: Path) -> dict[int, bytes]:
    """Read group 2 alone, what there is of it."""
    header = Header()
    with path.open("rb") as file, suppress(BadInstance, EOFError):
        file.seek(132)
        _read_meta(file, header)
    return header.meta


def _read(file: BinaryIO, wanted: Collection[int], header: Header) -> None:
    if file.read(132)[128:] != b"DICM":
        file.seek(0)
    _read_meta(file, header)
    header.dataset_at = start = file.tell()
    syntax = header.transfer_syntax_uid
    if syntax == DeflatedExplicitVRLittleEndian:
        _read_deflated(file, header, wanted)
        return
    implicit = _is_implicit(file.read(6))
    file.seek(start)
    _Walk(file, wanted, header, little=syntax != ExplicitVRBigEndian).run(implicit=implicit)


def _is_implicit(first: bytes) -> bool:
    """Tell by the first element's VR: labels are wrong more often than two capitals are there by chance."""
    letters = first[4:6]
    return not (letters.isalpha() and letters.isupper())


def _read_meta(file: BinaryIO, header: Header) -> None:
    """Read group 2, explicit VR little endian whatever follows (PS3.10, 7.1)."""
    while True:
        start = file.tell()
        head = file.read(8)
        if len(head) < 8 or head[:2] != b"\x02\x00":
            file.seek(start)
            return
        (element,) = struct.unpack_from("<H", head, 2)
        length = struct.unpack("<I", _exactly(file, 4))[0] if head[4:6] in _LONG_VRS else head[6] | head[7] << 8
        value = _exactly(file, length)
        header.meta[_META_START | element] = value
        if element == 0x0010:  # Transfer Syntax UID
            header.transfer_syntax_uid = value.rstrip(b"\0 ").decode("ascii", "replace")


def _read_deflated(file: BinaryIO, header: Header, wanted: Collection[int]) -> None:
    packed = file.read()
    for limit in INFLATED:
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, limit)
        header.elements.clear()
        try:
            _Walk(io.BytesIO(data), wanted, header, little=True).run(implicit=False)
        except EOFError:
            if len(data) < limit or limit == INFLATED[-1]:
                raise
        else:
            if header.has_pixels or len(data) < limit:
                return


def _exactly(file: BinaryIO, length: int) -> bytes:
    if length > _LARGEST_VALUE:
        raise BadInstance("its header cannot be read: a value is too long")
    value = file.read(length)
    if len(value) < length:
        raise EOFError("the file ends within it")
    return value


class _Walk:
    """One pass over a data set."""

    def __init__(self, file: BinaryIO, wanted: Collection[int], header: Header, *, little: bool) -> None:
        self._file = file
        self._wanted = wanted
        self._header = header
        self._little = little
        self._seen = 0
        order = "<" if little else ">"
        self._tag = struct.Struct(order + "HH").unpack_from
        self._short = struct.Struct(order + "H").unpack_from
        self._long = struct.Struct(order + "I").unpack_from

    def run(self, *, implicit: bool) -> None:
        """Take what is wanted until the pixels or the end."""
        file, header, little = self._file, self._header, self._little
        last, ascending = 0, True
        while (head := file.read(8)).rstrip(b"\0") or len(head) == 8:
            tag, length, is_unknown = self._element(head, implicit=implicit)
            if tag in _PIXELS:
                header.has_pixels = True
                return
            ascending, last = ascending and tag >= last, tag
            start = file.tell()
            if length == _UNDEFINED:
                self._skip_items(implicit=implicit or is_unknown)
                end = file.tell()
                if tag in self._wanted:
                    file.seek(start)
                    value = _exactly(file, end - start)
                    header.elements[tag] = Element(value, implicit or is_unknown, little, undefined_length=True)
            elif tag in self._wanted:
                header.elements[tag] = Element(_exactly(file, length), implicit, little)
            else:
                file.seek(length, io.SEEK_CUR)
        if file.tell() > file.seek(0, io.SEEK_END):
            raise EOFError("the file ends within an element")
        if not ascending:  # elements ascend (PS3.5, 7.1): the thread was lost, and perhaps the pixels with it
            raise BadInstance("its header cannot be read: its elements do not ascend, and no pixels were found")

    def _element(self, head: bytes, *, implicit: bool) -> tuple[int, int, bool]:
        """Give tag, length and whether it is a sequence of unknown VR, which is implicit inside (PS3.5, 6.2.2)."""
        if len(head) < 8:
            raise EOFError("the file ends within an element")
        self._seen += 1
        if self._seen > _MOST_ELEMENTS:
            raise BadInstance("its header cannot be read: too many elements")
        group, element = self._tag(head)
        tag = group << 16 | element
        if implicit or group == 0xFFFE:
            return tag, self._long(head, 4)[0], False
        vr = head[4:6]
        if vr in _LONG_VRS:
            return tag, self._long(_exactly(self._file, 4))[0], vr == b"UN"
        return tag, self._short(head, 6)[0], False

    def _skip_items(self, *, implicit: bool) -> None:
        """Leave a sequence of undefined length behind: without recursion, so that no nesting can exhaust a stack."""
        file, open_levels = self._file, [implicit]
        while open_levels:
            tag, length, is_unknown = self._element(file.read(8), implicit=open_levels[-1])
            if tag in _ENDS:
                open_levels.pop()
            elif length != _UNDEFINED:
                file.seek(length, io.SEEK_CUR)
            elif len(open_levels) < _DEPTH:
                open_levels.append(open_levels[-1] or is_unknown)
            else:
                raise BadInstance("its header cannot be read: sequences nested too deep")
