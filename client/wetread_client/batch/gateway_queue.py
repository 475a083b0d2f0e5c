"""How much work waits at a gateway, from its metrics."""

from __future__ import annotations

import re
import ssl
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import TYPE_CHECKING

from wetread_client.errors import Status, Unavailable, status_of_http

if TYPE_CHECKING:
    from pathlib import Path

TO_BE_READ = frozenset({"received", "waiting", "leased"})
"""The states of what the gateway has yet to read, or reads now; what is reported or sent needs no Triton."""
_DEPTH = re.compile(r'^wetread_gateway_queue_depth\{[^}]*state="([^"]+)"[^}]*\}\s+(\S+)', re.MULTILINE)
_LARGEST = 8 << 20


class GatewayQueue:
    """One gateway, or a Service in front of several: what waits is told from the store that they share.

    `token_file`: a bearer token, read anew for each look, for it may be renewed. ValueError when the address is none.
    """

    def __init__(
        self, url: str, token_file: Path | None = None, ca: Path | None = None, timeout_s: float = 5.0
    ) -> None:
        if not re.match(r"https?://[^/]", url):
            raise ValueError(f"{url!r} is no http:// or https:// address")
        self._url = url.rstrip("/").removesuffix("/metrics") + "/metrics"
        self._token_file, self._timeout_s = token_file, timeout_s
        tls = ssl.create_default_context(cafile=None if ca is None else str(ca)) if url.startswith("https") else None
        handlers = [urllib.request.ProxyHandler({})]  # a gateway is near: no proxy of the environment
        self._open = urllib.request.build_opener(
            *handlers, *([urllib.request.HTTPSHandler(context=tls)] if tls else [])
        )

    def waiting(self) -> int:
        """Give how many instances and works are there to be read; Unavailable when that cannot be told."""
        request = urllib.request.Request(self._url)  # noqa: S310 -- its scheme was checked
        try:
            if self._token_file is not None:
                request.add_unredirected_header("Authorization", f"Bearer {self._token_file.read_text().strip()}")
            with self._open.open(request, timeout=self._timeout_s) as answer:
                text = answer.read(_LARGEST).decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            error.close()
            raise Unavailable(status_of_http(error.code).value, f"{self._url} answers {error.code}") from error
        except (OSError, HTTPException, ValueError) as error:
            raise Unavailable(Status.UNAVAILABLE.value, f"{self._url}: {error}") from error
        depths = {state: float(value) for state, value in _DEPTH.findall(text)}
        if not depths.keys() & TO_BE_READ:
            raise Unavailable(Status.NOT_FOUND.value, f"{self._url} tells no wetread_gateway_queue_depth")
        return int(sum(depths.get(state, 0.0) for state in TO_BE_READ))
