"""Who may ask: bearer tokens of a file, compared in constant time; the token's name is whom the audit names."""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import re
import threading
import time
from typing import TYPE_CHECKING

from anyio.to_thread import run_sync
from starlette.datastructures import Headers

from wetread_gateway.audit import AuditEvent
from wetread_gateway.errors import ConfigError
from wetread_gateway.web.problems import Problem, problem_response

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import ASGIApp, Receive, Scope, Send

    from wetread_gateway.audit import AuditSink

LOG = logging.getLogger(__name__)

SHORTEST_TOKEN = 16
"""Characters; what is shorter can be guessed."""
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""What those who watch over processes ask; a kubelet has no token."""
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Tokens:
    """The tokens of `file`: a line is `name token`, # begins a comment. ConfigError when it is broken at the start.

    A changed file is taken up at the next request; a broken one leaves the old tokens, one that is gone leaves none.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._stamp = self._look()
        self._names = _read(file)

    def name_of(self, token: str) -> str | None:
        """Give the name of a token, None for one that is not in the file."""
        names = self._current()
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        found = None
        for known, name in names:  # all of them, so that the time tells nothing
            if hmac.compare_digest(known, digest):
                found = name
        return found

    def _current(self) -> tuple[tuple[bytes, str], ...]:
        with self._lock:
            stamp = self._look()
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._names = _read(self._file) if stamp else ()
                except ConfigError as error:
                    LOG.error("the changed token file is not taken up: %s", error)
            return self._names

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = self._file.stat()
        except FileNotFoundError:
            return None
        return (found.st_mtime_ns, found.st_size, found.st_ino)


def _read(file: Path) -> tuple[tuple[bytes, str], ...]:
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: the token file cannot be read ({error}): correct http.token_file") from error
    tokens = []
    for number, line in enumerate(lines, 1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        if len(words) != 2 or not _NAME.fullmatch(words[0]):
            raise ConfigError(f"{file}:{number}: not a name and a token: write `name token`")
        if len(words[1]) < SHORTEST_TOKEN:
            raise ConfigError(
                f"{file}:{number}: the token of {words[0]} is shorter than {SHORTEST_TOKEN} characters: "
                "make one with `openssl rand -hex 32`"
            )
        tokens.append((hashlib.sha256(words[1].encode()).digest(), words[0]))
    return tuple(tokens)


class Gate:
    """ASGI middleware: lets nobody in without a token where there is a token file, and says who came.

    `request.state.actor` is the token's name, else the name in the client's certificate, else its address.
    """

    def __init__(self, app: ASGIApp, tokens: Tokens | None, audit: AuditSink) -> None:
        self._app = app
        self._tokens = tokens
        self._refusals = Refusals(audit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = scope.get("client")
        address = client[0] if client else ""
        state = scope.setdefault("state", {})
        state["actor"] = state.get("certificate") or address
        if self._tokens is not None and scope["path"] not in OPEN_PATHS:
            name = self._tokens.name_of(_bearer(Headers(scope=scope).get("authorization", "")))
            if name is None:
                await run_sync(self._refusals.note, address, "no valid token")
                problem = Problem(401, "Unauthorized", "a bearer token of the gateway's token file is needed")
                await problem_response(problem, {"WWW-Authenticate": 'Bearer realm="wetread"'})(scope, receive, send)
                return
            state["actor"] = name
        await self._app(scope, receive, send)


class Refusals:
    """Audits refused requests, an actor's at most once a second: nobody fills the disk by being refused."""

    def __init__(self, audit: AuditSink) -> None:
        self._audit = audit
        self._lock = threading.Lock()
        self._last: dict[tuple[str, str], float] = {}
        self._left_out: dict[tuple[str, str], int] = {}

    def is_due(self, actor: str, reason: str) -> bool:
        """Whether `note` would write now; else the refusal is counted, which costs no disk."""
        with self._lock:
            if time.monotonic() - self._last.get((actor, reason), -math.inf) >= 1.0:
                return True
            self._left_out[actor, reason] = self._left_out.get((actor, reason), 0) + 1
            return False

    def note(self, actor: str, reason: str) -> None:
        """Record a refusal, with the number of those like it that were not recorded since the last."""
        key = (actor, reason)
        with self._lock:
            now = time.monotonic()
            if now - self._last.get(key, -math.inf) < 1.0:
                self._left_out[key] = self._left_out.get(key, 0) + 1
                return
            if len(self._last) > 1024:
                self._last.clear()
            self._last[key] = now
            left_out = self._left_out.pop(key, 0)
        self._audit.record(
            AuditEvent("refuse", "failed", actor, detail={"door": "http", "reason": reason, "more": left_out})
        )


def _bearer(header: str) -> str:
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
