"""What those who run the gateway ask: is it alive, can it serve, how does it do."""

import os
from dataclasses import asdict

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from wetread_gateway.context import Context
from wetread_gateway.errors import DiskFull
from wetread_gateway.web.door import door_of
from wetread_gateway.web.gauges import Gauges
from wetread_gateway.web.models import HealthAnswer
from wetread_gateway.web.problems import responses

router = APIRouter(tags=["Operations"])


@router.get("/healthz", summary="Whether the process lives")
async def healthz() -> HealthAnswer:
    """Answer; nothing is looked at, so that a slow disk restarts nobody."""
    return HealthAnswer("ok", [])


@router.get(
    "/readyz",
    response_model=HealthAnswer,
    responses={503: {"description": "It cannot.", "model": HealthAnswer}, **responses(401, 500)},
    summary="Whether the door can take more",
)
def readyz(request: Request) -> JSONResponse:
    """Look at the store and the disk. Overload is no reason: STAT is taken, and the others are told when to return."""
    problems = list(_problems(door_of(request).context))
    answer = HealthAnswer("not ready" if problems else "ok", problems)
    return JSONResponse(asdict(answer), 503 if problems else 200)


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **responses(401, 500)},
    summary="Metrics for Prometheus",
)
def metrics(request: Request) -> PlainTextResponse:
    """Give the metrics of all processes, and what lies in store and spool now."""
    counted = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:  # prometheus_client's own switch; the supervisor sets it
        counted = CollectorRegistry()
        MultiProcessCollector(counted)  # type: ignore[no-untyped-call]  # the library's
    looked_up = CollectorRegistry()
    looked_up.register(_gauges(request))
    body = generate_latest(counted) + generate_latest(looked_up)
    return PlainTextResponse(body, media_type=CONTENT_TYPE_LATEST)


def _gauges(request: Request) -> Gauges:
    """Give this door's gauges, which remember what is costly to look up."""
    state = request.app.state
    if not hasattr(state, "gauges"):
        state.gauges = Gauges(door_of(request).context)
    gauges: Gauges = state.gauges
    return gauges


def _problems(context: Context) -> list[str]:
    problems = []
    try:
        with context.store.read() as connection:
            connection.execute(text("SELECT 1"))
    except SQLAlchemyError as error:
        problems.append(f"the state store does not answer ({type(error).__name__})")
    try:
        context.spool.check_room(context.settings.intake)
    except DiskFull as error:
        problems.append(str(error))
    return problems
