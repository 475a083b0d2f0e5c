"""Takes a body apart while it comes: multipart as RFC 2046 has it, or one bare instance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from wetread_gateway.web.problems import Refusal

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

    from wetread_gateway.web.receiving import Receiver

MOST_PARTS = 20_000
"""Parts of one request: every one has a line in the answer, which is held in memory."""
_LONGEST_BOUNDARY = 200  # RFC 2046, 5.1.1 has 70, Orthanc sends 73
_MOST_HEADERS = 16
_LONGEST_HEADER = 4096
_INSTANCE_TYPES = ("application/dicom", "application/octet-stream", "")


class BrokenBody(Exception):
    """The body does not keep to its content type; what was whole before that stays stored."""


class Sink(Protocol):
    """Takes a body's bytes; BrokenBody when they are not what was said."""

    def write(self, data: bytes) -> None:
        """Take the next bytes."""

    def close(self) -> None:
        """The body has ended."""


@dataclass(frozen=True, slots=True)
class ContentType:
    """A Content-Type header's value, without what does not matter here."""

    media_type: str
    boundary: bytes = b""
    part_type: str = ""

    @classmethod
    def parse(cls, header: str | None) -> ContentType:
        """Read the header; what cannot be read has no media type."""
        media_type, options = parse_options_header(header)
        return cls(
            media_type.decode("latin-1").lower(),
            options.get(b"boundary", b""),
            options.get(b"type", b"").decode("latin-1").lower(),
        )

    def sink(self, receiver: Receiver, *, form: bool = False) -> Sink:
        """Give what takes such a body; Refusal (415, 400) when nothing does. `form`: multipart/form-data is welcome."""
        if self.media_type in ("application/dicom", "application/octet-stream"):
            return Bare(receiver)
        is_related = self.media_type == "multipart/related" and self.part_type in ("", "application/dicom")
        if not is_related and not (form and self.media_type == "multipart/form-data"):
            wanted = "multipart/related; type=application/dicom"
            raise Refusal(415, f"send {wanted}{', multipart/form-data' if form else ''} or application/dicom")
        if not 0 < len(self.boundary) <= _LONGEST_BOUNDARY:
            raise Refusal(400, f"Content-Type has no boundary of 1 to {_LONGEST_BOUNDARY} characters")
        return Parts(self.boundary, receiver)


class Bare:
    """The body is one instance."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._begun = False

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        if not self._begun:
            self._receiver.begin()
            self._begun = True
        self._receiver.feed(memoryview(data))

    def close(self) -> None:
        """End the instance."""
        if not self._begun:
            raise BrokenBody("the body is empty")
        self._receiver.end()


class Parts:
    """The body's parts are instances, each of its own."""

    def __init__(self, boundary: bytes, receiver: Receiver) -> None:
        self._receiver = receiver
        self._count = 0
        self._field = bytearray()
        self._value = bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._has_ended = False
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._part_begins,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_ends,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data,
            "on_part_end": receiver.end,
            "on_end": self._ends,
        }
        self._parser = MultipartParser(
            boundary, callbacks, max_header_count=_MOST_HEADERS, max_header_size=_LONGEST_HEADER
        )

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise BrokenBody("the body is no multipart of this boundary") from error

    def close(self) -> None:
        """End the body."""
        if not self._has_ended:
            raise BrokenBody("the body ends before its last boundary")

    def _part_begins(self) -> None:
        self._count += 1
        if self._count > MOST_PARTS:
            raise Refusal(413, f"the body has more than {MOST_PARTS} parts")
        self._headers = {}

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        self._headers[bytes(self._field).lower()] = bytes(self._value)
        self._field, self._value = bytearray(), bytearray()

    def _headers_end(self) -> None:
        disposition, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if disposition == b"form-data" and b"filename" not in options:
            return  # a form's other fields say nothing to us
        media_type, _ = parse_options_header(self._headers.get(b"content-type", b""))
        if media_type.decode("latin-1").lower() in _INSTANCE_TYPES:
            self._receiver.begin()
        else:
            self._receiver.refuse("the part is not application/dicom")

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._receiver.feed(memoryview(data)[start:end])

    def _ends(self) -> None:
        self._has_ended = True
