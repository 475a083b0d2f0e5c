"""Puts the HTTP door together."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from importlib.metadata import version

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from wetread_gateway.config.settings import Http
from wetread_gateway.context import Context
from wetread_gateway.web import operations, problems, read, stow
from wetread_gateway.web.access import Gate, Refusals, Tokens
from wetread_gateway.web.body import Body
from wetread_gateway.web.door import Door
from wetread_gateway.web.leases import make_leases_router
from wetread_gateway.web.openapi import describe
from wetread_gateway.web.pressure import Pressure
from wetread_gateway.web.siblings import make_siblings_router
from wetread_gateway.web.turnstile import STREAMED, Turnstile
from wetread_gateway.web.waiting import Waiting

JSON_LIMIT = 64 << 20
"""Largest body of a request that is read as JSON, in memory: a reading with its heatmaps has a tenth of it."""


def make_app(context: Context) -> FastAPI:
    """Make the door as the settings are now; ConfigError when the token file is broken."""
    http = context.settings.http
    waiting = Waiting(context)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        waiting.start()
        yield
        await waiting.stop()

    app = FastAPI(
        redirect_slashes=False,
        title="Wetread gateway",
        version=version("wetread"),
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    tokens = None if http.token_file is None else Tokens(http.token_file)
    door = Door(context, http, Pressure(context), waiting, Refusals(context.audit))
    app.state.door = door
    problems.install(app)
    for router in (
        operations.router,
        stow.router,
        read.router,
        make_leases_router(context),
        make_siblings_router(context),
    ):
        app.include_router(router)
    app.add_middleware(_JsonLimit, limits=replace(http, max_body_bytes=min(JSON_LIMIT, http.max_body_bytes)))
    app.add_middleware(Turnstile, door=door)
    app.add_middleware(Gate, tokens=tokens, audit=context.audit)
    describe(app, has_tokens=tokens is not None)
    return app


class _JsonLimit:
    """ASGI middleware: bodies that are not streamed are bounded, in size and in time."""

    def __init__(self, app: ASGIApp, limits: Http) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_streamed = scope["type"] != "http" or scope["path"].startswith(STREAMED)
        await self._app(scope, receive if is_streamed else Body(receive, self._limits).next, send)
