"""Reports the quick way: a tree that highdicom built once, cut into bytes and holes, and filled per film.

The holes are found by marks: the tree is built of facts whose every per-film value is a mark, and its bytes are cut
where the marks are. Sequences have undefined lengths, so that a filled value of another length moves nothing else.
What must be equal to the full way is proven in the tests, to the byte.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.valuerep import DSfloat

from wetread_gateway.results.content import ContentFacts, ImageFacts
from wetread_gateway.results.report import as_it_is, loosen
from wetread_gateway.results.tree import tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Value = str | int | float

_TEXTS = frozenset({"PatientOrientation"})  # the one descriptor that is no number
_UID_MARK = "1.2.3.99999.{}"
_TEXT_MARK = "@@hole {}@@"
_NUMBER_MARK = 60001
"""As a count of rows; larger ones for the others. As a decimal: divided by 2 to the 17th, which DS holds exactly."""


class CannotCut(ValueError):
    """A mark was not found in the tree: the full way must be taken."""


@dataclass(frozen=True, slots=True)
class _Hole:
    """A place in the bytes: which value goes there, and how it is encoded with its length."""

    place: int
    encode: Callable[[Value], bytes]


def _uid(value: Value) -> bytes:
    data = str(value).encode("ascii")
    data += b"\0" * (len(data) % 2)
    return struct.pack("<H", len(data)) + data


def _text(value: Value) -> bytes:
    data = str(value).encode("utf-8")
    data += b" " * (len(data) % 2)
    return b"\0\0" + struct.pack("<I", len(data)) + data


def _decimal(value: Value) -> bytes:
    text = str(value) if isinstance(value, DSfloat) else str(DSfloat(value, auto_format=True))
    data = text.encode("ascii")
    data += b" " * (len(data) % 2)
    return struct.pack("<H", len(data)) + data


def _double(value: Value) -> bytes:
    return struct.pack("<Hd", 8, float(value))


_DECIMAL_AND_DOUBLE = ((b"DS", _decimal), (b"FD", _double))


class TreeSkeleton:
    """The content sequence of all reports of one shape."""

    def __init__(self, facts: ContentFacts) -> None:
        """`facts`: of any report of the shape, or marked ones."""
        marked = mark(facts)
        with as_it_is():
            data = _content_bytes(marked)
        cuts = sorted(_cuts(marked, data), key=lambda cut: cut[0])
        self._parts: list[bytes | _Hole] = []
        at = 0
        for start, end, hole in cuts:
            if start < at:
                raise CannotCut("marks overlap")
            self._parts += [data[at:start], hole]
            at = end
        self._parts.append(data[at:])

    def fill(self, facts: ContentFacts) -> bytes:
        """Give the content sequence of one report."""
        values = [value for _, value in _holes(facts)]
        return b"".join(part if isinstance(part, bytes) else part.encode(values[part.place]) for part in self._parts)


def mark(facts: ContentFacts) -> ContentFacts:
    """Give the shape of facts: every value that differs between films replaced by a mark."""
    images = []
    frames = [image.frame_of_reference_uid for image in facts.images]  # the library groups by equal ones
    for place, image in enumerate(facts.images):
        count = iter(range(_NUMBER_MARK + 100 * place, _NUMBER_MARK + 100 * (place + 1)))
        images.append(
            ImageFacts(
                sop_class_uid=image.sop_class_uid,
                sop_instance_uid=_UID_MARK.format(10_000 + 2 * place),
                modality=image.modality,
                rows=next(count),
                columns=next(count),
                frame_of_reference_uid=image.frame_of_reference_uid
                and _UID_MARK.format(10_001 + 2 * frames.index(image.frame_of_reference_uid)),
                descriptors=tuple(
                    (keyword, tuple(_marked_value(keyword, next(count)) for _ in values))
                    for keyword, values in image.descriptors
                ),
            )
        )
    findings = tuple(
        replace(
            finding,
            tracking_uid=_UID_MARK.format(20_000 + place),
            probability=None if finding.probability is None else (place + 1) / 2**13,
        )
        for place, finding in enumerate(facts.findings)
    )
    comments = tuple(_TEXT_MARK.format(1000 + place) for place in range(len(facts.comments)))
    return replace(facts, images=tuple(images), findings=findings, comments=comments)


def _marked_value(keyword: str, number: int) -> str:
    return _TEXT_MARK.format(number) if keyword in _TEXTS else str(number / 2**17)[:16]


def _holes(facts: ContentFacts) -> Iterator[tuple[tuple[tuple[bytes, Callable[[Value], bytes]], ...], Value]]:
    """Give every per-film value, in a fixed order, with the ways in which the tree holds it: VR and encoder."""
    for image in facts.images:
        yield ((b"UI", _uid),), image.sop_instance_uid
        yield ((b"DS", _decimal),), image.rows
        yield ((b"DS", _decimal),), image.columns
        if image.frame_of_reference_uid:
            yield ((b"UI", _uid),), image.frame_of_reference_uid
        for keyword, values in image.descriptors:
            for value in values:
                if keyword in _TEXTS:
                    yield ((b"UT", _text),), value
                else:
                    yield _DECIMAL_AND_DOUBLE, DSfloat(value)
    for finding in facts.findings:
        yield ((b"UI", _uid),), finding.tracking_uid
        if finding.probability is not None:
            yield _DECIMAL_AND_DOUBLE, finding.probability
    for comment in facts.comments:
        yield ((b"UT", _text),), comment


def _cuts(marked: ContentFacts, data: bytes) -> Iterator[tuple[int, int, _Hole]]:
    seen = set()
    for place, (ways, value) in enumerate(_holes(marked)):
        for vr, encode in ways:
            sought = vr + encode(value)
            if sought in seen:  # images of one frame of reference share its mark
                continue
            seen.add(sought)
            start, found = data.find(sought), False
            while start >= 0:
                found = True
                yield start + len(vr), start + len(sought), _Hole(place, encode)
                start = data.find(sought, start + 1)
            if not found:
                raise CannotCut(f"mark {place} is not in the tree")


def _content_bytes(facts: ContentFacts) -> bytes:
    """Encode the content sequence as the full way does, explicit VR little endian."""
    root = tree(facts)
    alone = Dataset()
    alone.SpecificCharacterSet = "ISO_IR 192"
    alone.add(root["ContentSequence"])
    loosen(alone, "ContentSequence")
    data = _encoded(alone)
    return data[data.index(b"\x40\x00\x30\xa7SQ") :]


def _encoded(dataset: Dataset) -> bytes:
    """Encode a data set, explicit VR little endian."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_dataset(buffer, dataset)
    return bytes(buffer.getvalue())
