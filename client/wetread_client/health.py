"""A small HTTP door for probes and metrics, beside work that goes on."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_IDLE_S = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a probe hears: 200, or 503 with the reason in words."""

    body: bytes
    is_well: bool = True
    content_type: str = "text/plain; charset=utf-8"

    @classmethod
    def of(cls, reason: str) -> Self:
        """Well without a reason, else not, for that one."""
        return cls(f"{reason or 'ok'}\n".encode(), not reason)


class HealthDoor:
    """Answers GET on `host`:`port` (0: a free one) by `routes`, in threads of its own; a context, open inside."""

    def __init__(self, host: str, port: int, routes: Mapping[str, Callable[[], Answer]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = _IDLE_S

            def do_GET(self) -> None:
                """Answer by the table."""
                route = routes.get(self.path.partition("?")[0])
                answer = route() if route else None
                self.send_response(404 if answer is None else 200 if answer.is_well else 503)
                body = b"" if answer is None else answer.body
                if answer is not None:
                    self.send_header("Content-Type", answer.content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing: probes come every second."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
