"""Refuses what would only wait, before anything is done for it: no route is looked for, no byte of a body read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from wetread_gateway.web.problems import problem_response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from wetread_gateway.web.door import Door

STREAMED = ("/studies", "/v1/read")
"""Paths whose requests bring instances."""


class Turnstile:
    """ASGI middleware behind the gate. 429 to what brings routine work while there is too much of it.

    A client that announced its body (`Expect: 100-continue`) is told at once, others while they send: the connection
    lingers until they have heard it (`guarded.py`).
    """

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request pass, or refuse it."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"].startswith(STREAMED):
            actor = scope["state"]["actor"]
            if not self._door.is_stat(Headers(scope=scope), actor):
                refusal = await self._door.pressure.overload()
                if refusal is not None:
                    await self._door.note(refusal, actor)
                    await problem_response(refusal.problem, refusal.headers)(scope, receive, send)
                    return
        await self._app(scope, receive, send)
