"""The calls to a running Triton that change what it serves."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from wetread_embedded.errors import ServerCallFailed

from wetread_release.errors import ServeFailed

if TYPE_CHECKING:
    from wetread_embedded.rest import Rest

_REASON_LENGTH = 1500
_STACK = re.compile(r"(\n|\\n)+At:")


class Control:
    """Loads and unloads over Triton's repository API (EXPLICIT mode)."""

    def __init__(self, rest: Rest, load_timeout_s: float) -> None:
        self._rest = rest
        self._load_timeout_s = load_timeout_s

    def load(self, model: str) -> None:
        """Load a model whose files changed; the versions that did not change go on answering.

        Raises:
            ServeFailed: it did not load; what was served before still is.
        """
        try:
            self._rest.load(model, timeout_s=self._load_timeout_s)
        except ServerCallFailed as error:
            raise ServeFailed(f"{model} does not load: {_without_stack(error.message)}") from error

    def unload(self, model: str) -> None:
        """Unload a model with all its versions, and nothing that it needs; requests in flight are answered."""
        body = json.dumps({"parameters": {"unload_dependents": False}}).encode()
        try:
            self._rest.call("POST", f"/v2/repository/models/{model}/unload", body, timeout_s=self._load_timeout_s)
        except ServerCallFailed as error:
            raise ServeFailed(f"{model} does not unload: {_without_stack(error.message)}") from error

    def is_ready(self, model: str, version: int) -> bool:
        """Tell whether this version answers; the server's own readiness says less."""
        return self._rest.is_ready(f"{model}/versions/{version}")

    def is_live(self) -> bool:
        """Tell whether the server can be reached at all."""
        try:
            self._rest.call("GET", "/v2/health/live", timeout_s=5.0)
        except ServerCallFailed:
            return False
        return True


def _without_stack(message: str) -> str:
    """Leave out the stack of a Python backend, which the server's log has."""
    return _STACK.split(message, maxsplit=1)[0].strip()[:_REASON_LENGTH]
