"""The DICOM upper layer for a caller (PS3.8): protocol data units over one socket, without threads of its own.

pynetdicom encodes and decodes the negotiation. Its own association would cost two threads that look for work a
thousand times a second, and shows a refused certificate, a refused AE title and a lost line alike.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ

from wetread_gateway.delivery.command import NO_DATA_SET, Element, decode, number
from wetread_gateway.delivery.request import Address, encode_request
from wetread_gateway.delivery.statuses import REJECTIONS
from wetread_gateway.delivery.tls import client_context
from wetread_gateway.errors import TryAgain, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LONGEST_PDU = 1 << 20  # bytes; more than any peer may send us
LONGEST_MESSAGE = 64 << 20  # bytes; a commitment report of 100,000 instances is a third of it
UNLIMITED_PDU = 131072  # what is sent to a peer that sets no limit
CLOSE_S = 2.0

# PDU types, PS3.8 9.3
ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = 0x02, 0x03, 0x04, 0x05, 0x06, 0x07
_HEADER = struct.Struct(">BxI")
_PDV = struct.Struct(">IBB")
_RELEASE_RQ = _HEADER.pack(RELEASE_RQ, 4) + bytes(4)
_RELEASE_RP = _HEADER.pack(RELEASE_RP, 4) + bytes(4)
_ABORT = _HEADER.pack(ABORT, 4) + bytes(4)  # source 0: the service user, PS3.8 9.3.8
_IS_COMMAND, _IS_LAST = 0x01, 0x02  # message control header, PS3.8 E.2


class Dropped(TryAgain):
    """The association ended under us: closed, aborted or released by the peer."""


@dataclass(frozen=True, slots=True)
class Context:
    """An accepted presentation context."""

    id: int
    abstract_syntax: str
    transfer_syntax: str


class UpperLayer:
    """An association as its requestor, established when made. For one thread.

    `proposals`: abstract syntax and transfer syntaxes, a presentation context each.
    """

    def __init__(self, address: Address, proposals: Sequence[tuple[str, tuple[str, ...]]]) -> None:
        self._timeout_s = address.timeout_s
        self._socket = _connect(address)
        try:
            self.contexts = self._negotiate(address, proposals)
        except BaseException:
            self._socket.close()
            raise

    def context(self, abstract_syntax: str, transfer_syntax: str = "") -> Context | None:
        """Give the accepted context of an abstract syntax (and a transfer syntax); None when there is none."""
        return next(
            (
                context
                for context in self.contexts.values()
                if context.abstract_syntax == abstract_syntax and transfer_syntax in ("", context.transfer_syntax)
            ),
            None,
        )

    def send(self, context: Context, command: bytes, data: bytes | memoryview = b"") -> None:
        """Send a message: its command set, then its dataset, cut to what the peer takes."""
        self._write(b"".join([*self._cut(context, command, _IS_COMMAND), *self._cut(context, data, 0)]))

    def receive(self, deadline: float) -> tuple[Context, bytes, bytes]:
        """Wait for a whole message: context, command set, dataset. Dropped, or TryAgain at the deadline (monotonic)."""
        command, data = bytearray(), bytearray()
        has_data = None
        while True:
            for context_id, control, fragment in self._fragments(deadline):
                (command if control & _IS_COMMAND else data).extend(fragment)
                if len(command) + len(data) > LONGEST_MESSAGE:
                    self.abort()
                    raise Dropped("a message of the peer is longer than anything that is asked of it")
                if control & _IS_LAST:
                    if control & _IS_COMMAND:
                        has_data = _has_data_set(bytes(command))
                    if not has_data or not control & _IS_COMMAND:
                        return self._known(context_id), bytes(command), bytes(data)

    def is_waiting(self, timeout_s: float = 0.0) -> bool:
        """Whether the peer has sent something, a message, a release or the end of the line."""
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return True
        return bool(select.select([self._socket], [], [], timeout_s)[0])

    def release(self) -> None:
        """End it in order; a peer that does not answer is cut off."""
        try:
            self._write(_RELEASE_RQ)
            deadline = time.monotonic() + CLOSE_S
            while self._pdu(deadline)[0] not in (RELEASE_RP, ABORT):
                continue
        except (TryAgain, OSError):
            return
        finally:
            self._socket.close()

    def abort(self) -> None:
        """End it at once."""
        try:
            self._write(_ABORT)
        except TryAgain:
            return
        finally:
            self._socket.close()

    def _negotiate(self, address: Address, proposals: Sequence[tuple[str, tuple[str, ...]]]) -> dict[int, Context]:
        self._write(encode_request(address, proposals))
        try:
            kind, body = self._pdu(time.monotonic() + self._timeout_s)
        except TryAgain as error:
            raise Unreachable(f"no association: {error}") from error
        if kind == ASSOCIATE_RJ:
            rejection = A_ASSOCIATE_RJ()
            rejection.decode(_HEADER.pack(kind, len(body)) + body)
            reason = REJECTIONS.get((rejection.source, rejection.reason_diagnostic), "an unknown reason")
            raise Unreachable(f"association rejected: {reason}")
        if kind != ASSOCIATE_AC:
            raise Unreachable("no association: the peer speaks no DICOM")
        answer = A_ASSOCIATE_AC()
        try:
            answer.decode(_HEADER.pack(kind, len(body)) + body)
            accepted = answer.to_primitive()
        except Exception as error:
            raise Unreachable("no association: the peer's answer cannot be read") from error
        longest = accepted.maximum_length_received or UNLIMITED_PDU
        self._longest = max(min(longest, UNLIMITED_PDU), 64)
        contexts = {}
        for result in accepted.presentation_context_definition_results_list:
            position = (result.context_id - 1) // 2
            if result.result == 0 and result.transfer_syntax and position < len(proposals):
                abstract_syntax = proposals[position][0]
                contexts[result.context_id] = Context(
                    result.context_id, abstract_syntax, str(result.transfer_syntax[0])
                )
        if not contexts:  # no store at all behind this address: no object's fault
            self.abort()
            raise Unreachable("the association takes none of our objects")
        return contexts

    def _cut(self, context: Context, data: bytes | memoryview, control: int) -> Iterator[bytes | memoryview]:
        size = self._longest - _PDV.size
        for start in range(0, len(data), size):
            part = data[start : start + size]
            last = _IS_LAST if start + size >= len(data) else 0
            yield _HEADER.pack(P_DATA, len(part) + _PDV.size) + _PDV.pack(len(part) + 2, context.id, control | last)
            yield part

    def _fragments(self, deadline: float) -> Iterator[tuple[int, int, bytes]]:
        kind, body = self._pdu(deadline)
        if kind == RELEASE_RQ:
            self._write(_RELEASE_RP)
            self._socket.close()
            raise Dropped("the peer released the association")
        if kind != P_DATA:
            self._socket.close()
            raise Dropped("the peer aborted the association" if kind == ABORT else "the peer broke the protocol")
        at = 0
        while at < len(body):
            if at + _PDV.size > len(body):
                raise Dropped("the peer broke the protocol")
            length, context_id, control = _PDV.unpack_from(body, at)
            yield context_id, control, body[at + _PDV.size : at + 4 + length]
            at += 4 + max(length, 2)

    def _known(self, context_id: int) -> Context:
        found = self.contexts.get(context_id)
        if found is None:
            self.abort()
            raise Dropped("the peer answered on a context that was not negotiated")
        return found

    def _pdu(self, deadline: float) -> tuple[int, bytes]:
        kind, length = _HEADER.unpack(self._read(_HEADER.size, deadline))
        if length > LONGEST_PDU:
            self._socket.close()
            raise Dropped("a PDU of the peer is longer than it may be")
        return kind, self._read(length, deadline)

    def _read(self, size: int, deadline: float) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            try:
                self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
                part = self._socket.recv(size - len(parts))
            except TimeoutError as error:
                raise TryAgain("no answer in time") from error
            except OSError as error:
                raise Dropped(f"the line broke: {_words(error)}") from error
            if not part:
                raise Dropped("the peer closed the line")
            parts += part
        return bytes(parts)

    def _write(self, data: bytes) -> None:
        try:
            self._socket.settimeout(self._timeout_s)
            self._socket.sendall(data)
        except TimeoutError as error:
            raise TryAgain("the peer takes no more data") from error
        except OSError as error:
            raise Dropped(f"the line broke: {_words(error)}") from error


def _connect(address: Address) -> socket.socket:
    context = client_context(address.tls) if address.wants_tls else None
    try:
        plain = socket.create_connection((address.host, address.port), address.timeout_s)
    except OSError as error:
        raise Unreachable(f"no connection: {_words(error)}") from error
    try:
        # DICOM's short packets wait for each other's acknowledgement otherwise: five sixths of the speed.
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return context.wrap_socket(plain, server_hostname=address.host) if context else plain
    except OSError as error:
        plain.close()
        raise Unreachable(f"no TLS: {_words(error)}") from error


def _has_data_set(command: bytes) -> bool:
    try:
        return number(decode(command), Element.COMMAND_DATA_SET_TYPE) != NO_DATA_SET
    except ValueError as error:
        raise Dropped(f"the peer broke the protocol: {error}") from error


def _words(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the peer's certificate is not accepted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or 'no reason given'})"
    return error.strerror or str(error) or type(error).__name__
