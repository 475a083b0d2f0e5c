"""A connection as DICOM's upper layer sees it: PDUs in and out, with every wait and every length bounded."""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wetread_gateway.config.settings import Dicom

HEADER = struct.Struct(">BxI")  # PS3.8, 9.3: type, reserved, length of what follows
PDV = struct.Struct(">IBB")  # PS3.8, 9.3.5.1 and annex E.2: length, context, message control header
LONGEST_REQUEST = 1 << 18  # of an A-ASSOCIATE-RQ: 128 contexts with 40 transfer syntaxes each take 150 KB


class PduType(IntEnum):
    """PS3.8, 9.3."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    DATA = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


class Reason(IntEnum):
    """Why we abort: PS3.8, table 9-26."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    UNRECOGNIZED_PARAMETER = 4
    UNEXPECTED_PARAMETER = 5
    INVALID_PARAMETER = 6


class Gone(Exception):
    """The peer has closed or broken the connection."""


class TooSlow(Exception):
    """The peer sends nothing, or next to nothing."""


class BadPdu(Exception):
    """The peer sent what it must not; `reason` goes into our A-ABORT."""

    def __init__(self, message: str, reason: Reason) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Pdu:
    """A PDU; `body` is a view that the next one overwrites."""

    type: int
    body: memoryview


class Wire:
    """PDUs over a connected socket. `close` it at the end; used by one thread.

    A plain socket blocks with the kernel's own time limits, so that a PDU takes one system call however many packets
    bring it.
    """

    def __init__(self, connection: socket.socket, dicom: Dicom) -> None:
        self._socket = connection
        self._is_plain = not isinstance(connection, ssl.SSLSocket)
        self._limit_s = dicom.artim_s
        self._slowest = dicom.slowest_bytes_per_s
        self._header = memoryview(bytearray(HEADER.size))
        self._buffer = memoryview(bytearray())
        self._largest = 0
        self._waited_s = 0.0
        self._got = 0
        if self._is_plain:
            limit = struct.pack("@qq", int(self._limit_s), int(self._limit_s % 1 * 1_000_000))
            connection.settimeout(None)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        else:
            connection.settimeout(self._limit_s)

    def allow_data(self, largest: int) -> None:
        """Take P-DATA PDUs of up to `largest` bytes from now on."""
        self._largest = largest
        self._buffer = memoryview(bytearray(largest))

    def wait(self, seconds: float, waker: int) -> bool:
        """Wait for the peer's next word; False when `waker` (a file that turns readable) or the time was first."""
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return True
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(waker, select.POLLIN)
        ready = {file for file, _ in poll.poll(seconds * 1000)}
        # A process that stops takes no new message, or a busy peer would keep it for ever.
        return waker not in ready and self._socket.fileno() in ready

    def begin(self) -> None:
        """Measure the peer's pace anew: a message begins."""
        self._waited_s = 0.0
        self._got = 0

    def receive(self) -> Pdu:
        """Give the next PDU; Gone, TooSlow, or BadPdu before anything is kept of one that is too long."""
        self._fill(self._header)
        kind, length = HEADER.unpack(self._header)
        if kind == PduType.DATA:
            if length > self._largest:
                raise BadPdu(f"a P-DATA PDU of {length} bytes", Reason.INVALID_PARAMETER)
            body = self._buffer[:length]
        elif kind == PduType.ASSOCIATE_RQ and length <= LONGEST_REQUEST:
            body = memoryview(bytearray(length))
        elif length == 4 and kind in (PduType.RELEASE_RQ, PduType.RELEASE_RP, PduType.ABORT, PduType.ASSOCIATE_RJ):
            body = memoryview(bytearray(4))
        else:
            known = PduType.ASSOCIATE_RQ <= kind <= PduType.ABORT
            reason = Reason.INVALID_PARAMETER if known else Reason.UNRECOGNIZED_PDU
            raise BadPdu(f"a PDU of type {kind} and {length} bytes", reason)
        self._fill(body)
        return Pdu(kind, body)

    def send(self, data: bytes) -> None:
        """Send all of it; Gone or TooSlow."""
        try:
            self._socket.sendall(data)
        except (BlockingIOError, TimeoutError) as error:
            raise TooSlow("the peer takes nothing") from error
        except OSError as error:
            raise Gone(str(error)) from error

    def abort(self, reason: Reason) -> None:
        """Tell the peer with an A-ABORT that it is over, if it still listens."""
        source = 2  # the service provider, PS3.8, table 9-26
        try:
            self._socket.setblocking(False)
            self._socket.send(HEADER.pack(PduType.ABORT, 4) + bytes((0, 0, source, reason)))
        except OSError:
            return

    def linger(self, waker: int) -> None:
        """Let the peer close first, as PS3.8, 9.1.4 wants, for a while."""
        try:
            if self.wait(self._limit_s, waker):
                self._socket.setblocking(False)
                self._socket.recv(1024)
        except OSError:
            return

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _fill(self, view: memoryview) -> None:
        while view:
            began = time.monotonic()
            try:
                count = (
                    self._socket.recv_into(view, 0, socket.MSG_WAITALL)
                    if self._is_plain
                    else self._socket.recv_into(view, len(view))
                )
                if count == 0:
                    raise Gone("the peer closed the connection")
                self._got += count
                view = view[count:]
            except (BlockingIOError, TimeoutError, ssl.SSLWantReadError):
                pass  # the kernel's time limit: the pace tells
            except OSError as error:
                raise Gone(str(error)) from error
            # Only what we waited counts: a slow disk of ours is not the peer's fault.
            self._waited_s += time.monotonic() - began
            if self._waited_s >= self._limit_s:
                if self._got < self._slowest * self._waited_s:
                    raise TooSlow(f"{self._got} bytes in {self._waited_s:.1f} s")
                self.begin()


def data_pdu(context_id: int, command: bytes, largest: int) -> bytes:
    """Wrap a command set into P-DATA PDUs of at most `largest` bytes (0: any)."""
    step = max(largest - PDV.size, 1) if largest else len(command)
    parts = []
    for at in range(0, len(command), step):
        piece = command[at : at + step]
        is_last = at + step >= len(command)
        control = 1 | (2 if is_last else 0)  # bit 0: command, bit 1: last fragment
        parts.append(HEADER.pack(PduType.DATA, PDV.size + len(piece)))
        parts.append(PDV.pack(len(piece) + 2, context_id, control) + piece)
    return b"".join(parts)
