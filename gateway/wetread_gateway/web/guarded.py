"""uvicorn's HTTP/1.1 with what it lacks: limits for connections and slow heads, and whose certificate was shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

    from wetread_gateway.config.settings import Http


class GuardedProtocol(H11Protocol):
    """One connection. It is dropped when no request is under way and none has come whole for `patience_s`.

    That also ends a refused client that goes on sending its body. The body of a request under way has limits of its
    own, where it is read.
    """

    def __init__(self, *args: Any, limits: Http, **options: Any) -> None:
        super().__init__(*args, **options)
        self._limits = limits
        self._too_slow: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or close it at once when there are too many."""
        super().connection_made(transport)
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
