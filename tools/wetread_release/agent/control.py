"""The calls to a running Triton that change what it serves."""

from __future__ import annotations

import json
import re
from contextlib import closing
from typing import TYPE_CHECKING

from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException
from wetread_embedded.errors import ServerCallFailed

from wetread_release.errors import ServeFailed

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from wetread_embedded.rest import Rest

_REASON_LENGTH = 1500
# A proxy has no business between an agent and the server beside it, and no channel is shared with other calls.
_CHANNEL = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))
_STACK = re.compile(r"(\n|\\n)+At:")


class Control:
    """Loads and unloads over Triton's repository API (EXPLICIT mode).

    Over gRPC where its port is known: Triton 2.51 runs a load on the HTTP thread that took the call, and every request
    on that thread's other connections waits until it ends.
    """

    def __init__(self, rest: Rest, load_timeout_s: float) -> None:
        self._rest = rest
        self._load_timeout_s = load_timeout_s

    def load(self, model: str) -> None:
        """Load a model whose files changed; the versions that did not change go on answering.

        Raises:
            ServeFailed: it did not load; what was served before still is.
        """
        try:
            if self._rest.grpc_port:
                with self._grpc() as client:
                    client.load_model(model, client_timeout=self._load_timeout_s)
            else:
                self._rest.load(model, timeout_s=self._load_timeout_s)
        except (ServerCallFailed, InferenceServerException) as error:
            raise ServeFailed(f"{model} does not load: {_reason(error)}") from error

    def unload(self, model: str) -> None:
        """Unload a model with all its versions, and nothing that it needs; requests in flight are answered."""
        try:
            if self._rest.grpc_port:
                with self._grpc() as client:
                    client.unload_model(model, unload_dependents=False, client_timeout=self._load_timeout_s)
            else:
                body = json.dumps({"parameters": {"unload_dependents": False}}).encode()
                path = f"/v2/repository/models/{model}/unload"
                self._rest.call("POST", path, body, timeout_s=self._load_timeout_s)
        except (ServerCallFailed, InferenceServerException) as error:
            raise ServeFailed(f"{model} does not unload: {_reason(error)}") from error

    def is_ready(self, model: str, version: int) -> bool:
        """Tell whether this version answers; the server's own readiness says less."""
        return self._rest.is_ready(f"{model}/versions/{version}")

    def _grpc(self) -> AbstractContextManager[InferenceServerClient]:
        """Open a connection of its own for a call: loads are rare, and a channel that is kept may be half dead."""
        address = f"{self._rest.host}:{self._rest.grpc_port}"
        return closing(InferenceServerClient(address, channel_args=_CHANNEL))

    def is_live(self) -> bool:
        """Tell whether the server can be reached at all."""
        try:
            self._rest.call("GET", "/v2/health/live", timeout_s=5.0)
        except ServerCallFailed:
            return False
        return True


def _reason(error: ServerCallFailed | InferenceServerException) -> str:
    """Give the server's words without the stack of a Python backend, which its log has."""
    words = error.message if isinstance(error, ServerCallFailed) else str(error.message())
    return _STACK.split(words, maxsplit=1)[0].strip()[:_REASON_LENGTH]
