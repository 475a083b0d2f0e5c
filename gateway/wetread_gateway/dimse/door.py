"""The DICOM door: listens, lets in who may come in, and ends in peace."""

from __future__ import annotations

import itertools
import logging
import math
import os
import select
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wetread_gateway.audit import AuditEvent
from wetread_gateway.dimse.association import Association
from wetread_gateway.dimse.keeping import Caller
from wetread_gateway.dimse.negotiation import Proposal, Rejected, agree, read_request
from wetread_gateway.dimse.pressure import Pressure
from wetread_gateway.dimse.tls import ServerTls
from wetread_gateway.dimse.wire import BadPdu, Gone, PduType, Reason, TooSlow, Wire
from wetread_gateway.errors import NotStored
from wetread_gateway.metrics import ALERTS, REFUSED

if TYPE_CHECKING:
    from wetread_gateway.context import Context

LOG = logging.getLogger(__name__)

_BACKLOG = 128
_STRANGERS = 64  # connections that are no association yet; the oldest makes room for the next
_SEND_BUFFER_BYTES = 65536  # our answers are short
_LOOK_S = 0.25
_REMEMBERED = 1024
_MOMENT_S = 0.05


@dataclass(frozen=True, slots=True)
class _Stranger:
    connection: socket.socket
    since: float


class Door:
    """The listening socket of one receiving process and the threads behind it."""

    def __init__(self, context: Context) -> None:
        dicom = context.settings.dicom
        self._context = context
        self._pressure = Pressure(context)
        self._audited: dict[tuple[str, str], float] = {}
        self._tls = ServerTls()
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._open: dict[str, bool] = {}  # association -> STAT
        self._strangers: dict[int, _Stranger] = {}  # by thread, the oldest first
        self._threads: set[threading.Thread] = set()
        self._waker = os.eventfd(0, os.EFD_CLOEXEC)
        family = socket.AF_INET6 if ":" in dicom.host else socket.AF_INET
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._listener.bind((dicom.host, dicom.port))
        self._listener.listen(_BACKLOG)
        self._listener.setblocking(False)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._listener.getsockname()[1])

    def serve(self) -> None:
        """Take connections until the process stops; then let messages under way finish, for `drain_s`."""
        watcher = threading.Thread(target=self._pressure.watch, name="pressure", daemon=True)
        watcher.start()
        try:
            while not self._context.stop.is_set():
                if select.select([self._listener], [], [], _LOOK_S)[0]:
                    self._accept()
                self._expire()
        finally:
            self._listener.close()
            os.eventfd_write(self._waker, 1)
            self._drain()
            watcher.join(_LOOK_S)

    def _accept(self) -> None:
        try:
            connection, address = self._listener.accept()
        except OSError:  # it was gone before we looked, or no file is free: others must end first
            self._context.stop.wait(_MOMENT_S)
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        number = next(self._numbers)
        with self._lock:
            if len(self._strangers) >= _STRANGERS:
                _shut(self._strangers.pop(next(iter(self._strangers))).connection)
            self._strangers[number] = _Stranger(connection, time.monotonic())
            thread = threading.Thread(
                target=self._serve_one, args=(number, connection, address[0]), name=f"association-{number}", daemon=True
            )
            self._threads.add(thread)
        thread.start()

    def _expire(self) -> None:
        """End what is no association after twice its time: each wait is bounded, a trickle of bytes has many."""
        oldest = time.monotonic() - 2 * self._context.settings.dicom.artim_s
        with self._lock:
            for number in [number for number, stranger in self._strangers.items() if stranger.since < oldest]:
                _shut(self._strangers.pop(number).connection)

    def _serve_one(self, number: int, connection: socket.socket, address: str) -> None:
        try:
            secured = self._secured(number, connection)
            if secured is not None:
                self._speak(number, Wire(secured, self._context.settings.dicom), address)
        except Exception:
            LOG.exception("an association failed", extra={"peer": address})
            ALERTS.labels("association_failed").inc()
        finally:
            connection.close()
            with self._lock:
                self._strangers.pop(number, None)
                self._threads.discard(threading.current_thread())

    def _secured(self, number: int, connection: socket.socket) -> socket.socket | None:
        dicom = self._context.settings.dicom
        if dicom.tls is None:
            return connection
        try:
            connection.settimeout(dicom.artim_s)
            context = self._tls.context(dicom.tls)
            secured = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        except OSError as error:
            LOG.error("the files of [dicom.tls] cannot be used: %s", error)
            return None
        with self._lock:
            if number in self._strangers:
                self._strangers[number] = _Stranger(secured, self._strangers[number].since)
        try:
            secured.do_handshake()
        except OSError as error:  # ssl.SSLError is one
            reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
            LOG.warning("no TLS with a peer: %s", reason or error)
            secured.close()
            return None
        return secured

    def _speak(self, number: int, wire: Wire, address: str) -> None:
        try:
            self._associate(number, wire, address)
        except BadPdu as error:
            LOG.warning("an association is aborted: %s", error, extra={"peer": address})
            wire.abort(error.reason)
        except TooSlow as error:
            LOG.warning("a slow peer is dropped: %s", error, extra={"peer": address})
            wire.abort(Reason.NOT_SPECIFIED)
        except Gone as error:
            LOG.info("a peer is gone: %s", error, extra={"peer": address})
        finally:
            wire.close()

    def _associate(self, number: int, wire: Wire, address: str) -> None:
        settings = self._context.settings
        wire.begin()
        pdu = wire.receive()
        if pdu.type != PduType.ASSOCIATE_RQ:
            raise BadPdu(f"a PDU of type {pdu.type} before an association", Reason.UNEXPECTED_PDU)
        try:
            proposal = read_request(pdu.body, settings, address)
            association = self._enter(proposal)
        except Rejected as rejected:
            self._refuse(rejected, address)
            wire.send(rejected.pdu())
            wire.linger(self._waker)
            return
        try:
            with self._lock:
                self._strangers.pop(number, None)
            self._context.spool.opened(association, proposal.calling_ae)
            agreement = agree(proposal, settings)
            if proposal.stat:
                self._context.right_of_way().claim()
            wire.allow_data(settings.dicom.max_pdu)
            wire.send(agreement.answer)
            caller = Caller(proposal.calling_ae, proposal.called_ae, address, association, proposal.stat)
            Association(self._context, wire, caller, agreement, self._waker).serve()
        finally:
            self._context.spool.closed(association, proposal.calling_ae)
            with self._lock:
                del self._open[association]

    def _enter(self, proposal: Proposal) -> str:
        """Count the association in; Rejected when there is no place for it."""
        dicom = self._context.settings.dicom
        if not proposal.stat and self._pressure.overloaded:
            REFUSED.labels("dimse", "overload").inc()
            raise Rejected("temporary congestion: routine work waits too long", 2, 3, 1)
        association = f"{self._context.slot}.{time.time_ns()}"
        with self._lock:
            taken = len(self._open) if proposal.stat else sum(not stat for stat in self._open.values())
            if taken >= dicom.max_associations + (dicom.reserved_for_stat if proposal.stat else 0):
                REFUSED.labels("dimse", "associations").inc()
                raise Rejected("temporary congestion: too many associations", 2, 3, 1)
            while association in self._open:
                association += "+"
            self._open[association] = proposal.stat
        return association

    def _refuse(self, rejected: Rejected, address: str) -> None:
        """Write a rejection down, those alike at most once a second: a flood must not keep the disk busy."""
        alike, now = (address, str(rejected)), time.monotonic()
        with self._lock:
            if now - self._audited.get(alike, -math.inf) < 1.0:
                return
            if len(self._audited) >= _REMEMBERED:
                self._audited.clear()
            self._audited[alike] = now
        LOG.warning("an association is rejected: %s", rejected, extra={"peer": address})
        try:
            self._context.audit.record(
                AuditEvent("refuse", "failed", actor=address, detail={"association": str(rejected)})
            )
        except (NotStored, OSError) as error:
            LOG.error("a refusal could not be audited: %s", error)

    def _drain(self) -> None:
        """Idle associations have been woken and end at once; messages under way are given their time."""
        until = time.monotonic() + self._context.settings.gateway.drain_s
        with self._lock:
            threads = list(self._threads)
            for stranger in self._strangers.values():
                _shut(stranger.connection)
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))


def _shut(connection: socket.socket) -> None:
    """End a connection under another thread, which then sees its end."""
    try:
        # Past TLS, which would say goodbye first, on an object that the other thread is using.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:
        return
