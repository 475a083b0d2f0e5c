"""The process of the HTTP door: opens it, keeps it as the settings have it, and lets requests under way finish."""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import math
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any, cast

import uvicorn

from wetread_gateway.config.consistency import is_loopback
from wetread_gateway.errors import ConfigError
from wetread_gateway.metrics import expose_zeros
from wetread_gateway.web.access import Tokens
from wetread_gateway.web.app import make_app
from wetread_gateway.web.guarded import GuardedProtocol

if TYPE_CHECKING:
    from wetread_gateway.config.settings import Http, HttpTls
    from wetread_gateway.context import Context

LOG = logging.getLogger(__name__)

_POLL_S = 0.25
_BIND_S = 5.0
_STARTUP_S = 10.0


def run(context: Context) -> None:
    """Serve until told to stop; a changed `[http]` opens a new door while the old one finishes what it has begun."""
    context.spool.clean_incoming(context.slot)
    expose_zeros()
    http = context.settings.http
    door = open_door(context) if http.port else None
    try:
        while not context.stop.wait(_POLL_S):
            if door is not None:
                door.check()
                door.renew()
            if context.settings.http != http:
                http = context.settings.http
                door = _reopened(context, door)
    finally:
        if door is not None:
            door.close(wait=True)


def _reopened(context: Context, door: OpenDoor | None) -> OpenDoor | None:
    try:
        check_door(context.settings.http)
    except ConfigError as error:
        LOG.error("the changed HTTP door is not opened, the old one stays: %s", error)
        return door
    if door is not None:
        door.close(wait=False)
    return open_door(context) if context.settings.http.port else None


def check_door(http: Http) -> ssl.SSLContext | None:
    """Give the TLS context of a door that may be opened; ConfigError for one that may not."""
    if not is_loopback(http.host):
        if http.tls is None:
            raise ConfigError(f"http.host {http.host} is open to the network without TLS: add [http.tls]")
        if http.tls.authorities is None and http.token_file is None:
            raise ConfigError(
                f"http.host {http.host} is open to everybody who speaks TLS: "
                "add authorities to [http.tls], or token_file"
            )
    if http.token_file is not None:
        Tokens(http.token_file)
    return None if http.tls is None else _tls(http.tls)


def _tls(tls: HttpTls) -> ssl.SSLContext:
    """BCP 195: TLS 1.2 or later; a client's certificate is demanded where there are authorities to judge it by."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(tls.certificate, tls.key)
        if tls.authorities is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(tls.authorities)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"[http.tls] cannot be used ({error}): check its files") from error
    return context


def open_door(context: Context) -> OpenDoor:
    """Open the door that the settings describe; ConfigError when they do not allow it or the port is taken."""
    http = context.settings.http
    tls = check_door(http)
    return OpenDoor(context, http, tls, _listen(http))


def _listen(http: Http) -> socket.socket:
    """Bind the port; a door that closes may hold it for a moment yet."""
    family = socket.AF_INET6 if ":" in http.host else socket.AF_INET
    until = time.monotonic() + _BIND_S
    while True:
        # asyncio switches Nagle off where the socket says that it is TCP, which 0 does not: 40 ms an answer otherwise.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((http.host.strip("[]"), http.port))
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE or time.monotonic() > until:
                raise ConfigError(f"http.port {http.port} cannot be opened: {error.strerror}") from error
            time.sleep(_POLL_S)
        else:
            return listener


class OpenDoor:
    """uvicorn in a thread and a loop of its own."""

    def __init__(self, context: Context, http: Http, tls: ssl.SSLContext | None, listener: socket.socket) -> None:
        protocol = functools.partial(GuardedProtocol, limits=http)
        self._server = uvicorn.Server(
            uvicorn.Config(
                make_app(context),
                http=cast("Any", protocol),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # nobody is believed to be another than he is
                ssl_context_factory=None if tls is None else lambda _config, _default: tls,
                timeout_keep_alive=math.ceil(http.patience_s),
                timeout_graceful_shutdown=math.ceil(context.settings.gateway.drain_s),
            )
        )
        self._tls, self._files = tls, http.tls
        self._stamp = self._look()
        self.port: int = listener.getsockname()[1]
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, args=(listener,), name=f"http {self.port}", daemon=True)
        self._thread.start()
        until = time.monotonic() + _STARTUP_S
        while not self._server.started and self._thread.is_alive() and time.monotonic() < until:
            time.sleep(0.005)
        self.check()

    def check(self) -> None:
        """RuntimeError when the door has fallen shut by itself: the supervisor starts the process anew."""
        if not self._thread.is_alive():
            raise RuntimeError("the HTTP door has ended") from self._failure

    def renew(self) -> None:
        """Take up a certificate that was renewed in its place; open connections keep the old one."""
        stamp = self._look()
        if self._tls is None or self._files is None or stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._tls.load_cert_chain(self._files.certificate, self._files.key)
        except (OSError, ssl.SSLError) as error:  # half of the pair is there yet: the other half changes the stamp
            LOG.error("the changed certificate of the HTTP door is not taken up: %s", error)

    def _look(self) -> list[int]:
        files = [] if self._files is None else [self._files.certificate, self._files.key]
        return [file.stat().st_mtime_ns if file.exists() else 0 for file in files]

    def close(self, *, wait: bool) -> None:
        """Take no more connections; `wait`: until the requests under way have ended, `drain_s` at most."""
        self._server.should_exit = True
        if wait:
            self._thread.join()

    def _serve(self, listener: socket.socket) -> None:
        try:
            asyncio.run(self._server.serve(sockets=[listener]))
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- outermost loop of this thread: `check` tells it
            self._failure = error
