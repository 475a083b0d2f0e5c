"""uvicorn's HTTP/1.1 with what it lacks: limits for connections and slow heads, and whose certificate was shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

    from wetread_gateway.config.settings import Http


LONGEST_REST = 64 << 20
"""Bytes of a refused body that are thrown away unread before the connection is dropped all the same."""


class _Lingering:
    """A transport whose end waits until the client has heard the answer.

    Closing a socket that holds unread bytes resets the connection, and the reset overtakes the answer (RFC 9112, 9.6).
    """

    def __init__(self, transport: asyncio.Transport, protocol: GuardedProtocol) -> None:
        self._transport = transport
        self._protocol = protocol

    def close(self) -> None:
        """Close it, at once where nothing of a request is on its way any more."""
        if not self._protocol.linger(self._transport):
            self._transport.close()

    def is_closing(self) -> bool:
        """Whether it is being closed."""
        return self._protocol.is_lingering or self._transport.is_closing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class GuardedProtocol(H11Protocol):
    """One connection. It is dropped when no request is under way and none has come whole for `patience_s`.

    That also ends a refused client that goes on sending its body. The body of a request under way has limits of its
    own, where it is read.
    """

    def __init__(self, *args: Any, limits: Http, **options: Any) -> None:
        super().__init__(*args, **options)
        self._limits = limits
        self._too_slow: asyncio.TimerHandle | None = None
        self._rest: int | None = None  # bytes that may still come on a connection that lingers

    @property
    def is_lingering(self) -> bool:
        """Whether the answer is given and only the client's end is waited for."""
        return self._rest is not None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or close it at once when there are too many."""
        super().connection_made(cast("asyncio.Transport", _Lingering(transport, self)))
        if len(self.connections) > self._limits.max_connections:
            transport.abort()
            return
        self.app_state = {**self.app_state, "certificate": _common_name(transport.get_extra_info("peercert"))}
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Take what has come; once a request is whole it has time."""
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._cancel()

    def on_response_complete(self) -> None:
        """Give the client time for its next request."""
        self._expect_request()
        super().on_response_complete()

    def linger(self, transport: asyncio.Transport) -> bool:
        """Throw away what the client still sends, for `patience_s`; False when nothing is to be waited for."""
        if self._rest is not None or transport.is_closing() or self.conn.their_state is not h11.SEND_BODY:
            return False
        self._rest = LONGEST_REST
        if transport.can_write_eof():
            transport.write_eof()
        self.flow.resume_reading()
        self._expect_request()
        return True

    def data_received(self, data: bytes) -> None:
        """Take what has come, or throw it away."""
        if self._rest is None:
            super().data_received(data)
            return
        self._rest -= len(data)
        if self._rest < 0:
            self.transport.abort()

    def _expect_request(self) -> None:
        self._cancel()
        self._too_slow = self.loop.call_later(self._limits.patience_s, self.transport.abort)

    def _cancel(self) -> None:
        if self._too_slow is not None:
            self._too_slow.cancel()
            self._too_slow = None


def _common_name(certificate: dict[str, Any] | None) -> str:
    """Give the common name of a certificate that was verified (ssl's form of it)."""
    for names in (certificate or {}).get("subject", ()):
        for key, value in names:
            if key == "commonName":
                return str(value)
    return ""
