"""The few calls to a running server that starting and healing need, over one HTTP connection a call."""

import http.client
import json
from dataclasses import dataclass

from wetread_embedded.errors import ServerCallFailed


@dataclass(frozen=True)
class Rest:
    """The HTTP address of a server. All methods raise ServerCallFailed for any answer but 200, and for none."""

    host: str
    port: int
    grpc_port: int = 0
    """Where the same server speaks gRPC, 0: not known. A load over HTTP holds up all requests of an HTTP thread."""

    def call(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        timeout_s: float | None,
    ) -> bytes:
        """Send one request and return the answer's body."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ServerCallFailed(0, f"{method} {path}: {error or type(error).__name__}") from error
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise ServerCallFailed(answer.status, _error_text(content))
        return content

    def is_ready(self, model: str, *, timeout_s: float = 5.0) -> bool:
        """Tell whether a model or pipeline is ready; the whole server's readiness says less."""
        try:
            self.call("GET", f"/v2/models/{model}/ready", timeout_s=timeout_s)
        except ServerCallFailed:
            return False
        return True

    def config(self, model: str) -> dict[str, object]:
        """Return a model's configuration, as Triton's JSON has it."""
        return _object(self.call("GET", f"/v2/models/{model}/config", timeout_s=10.0))

    def load(self, model: str, *, timeout_s: float) -> None:
        """Load a model whose files changed, and wait until it is loaded."""
        self.call("POST", f"/v2/repository/models/{model}/load", b"{}", timeout_s=timeout_s)


def _object(content: bytes) -> dict[str, object]:
    value = json.loads(content)
    if not isinstance(value, dict):
        raise ServerCallFailed(200, f"expected a JSON object, got {content[:80]!r}")
    return value


def _error_text(content: bytes) -> str:
    try:
        return str(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError):
        return content[:500].decode(errors="replace") or "no reason given"
