"""`POST /v1/read`: a film or a study in, its reading out; the way is the one that a PACS takes, and as durable."""

import asyncio
import time
from dataclasses import asdict
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from wetread_gateway.web import studies
from wetread_gateway.web.door import Door, Taken, door_of
from wetread_gateway.web.models import ReadAnswer, StudyAnswer
from wetread_gateway.web.outcome import Outcome, look
from wetread_gateway.web.problems import Refusal, responses
from wetread_gateway.web.receiving import FailureReason
from wetread_gateway.web.stow import OPENAPI, StudyUid

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_READ_BODY: dict[str, Any] = {
    **OPENAPI,
    "requestBody": {
        "required": True,
        "content": {
            "application/dicom": _BINARY,
            "application/octet-stream": _BINARY,
            'multipart/related; type="application/dicom"': _BINARY,
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}
            },
        },
    },
}
WaitS = Annotated[float, Query(ge=0, le=300, description="Seconds to wait for the reading.", allow_inf_nan=False)]

_LOOK_S = 5.0  # after so long a client that has gone is noticed

router = APIRouter(prefix="/v1", tags=["Readings"])


@router.post(
    "/read",
    response_model=ReadAnswer,
    responses={
        202: {
            "description": "Stored, not read in time; see Location.",
            "model": ReadAnswer,
            "headers": {"Location": {"schema": {"type": "string"}}},
        },
        **responses(400, 401, 408, 409, 413, 415, 422, 429, 500, 507),
    },
    openapi_extra=_READ_BODY,
    summary="Read a film or a study",
)
async def read(request: Request, wait_s: WaitS = 30.0) -> JSONResponse:
    """Store the instances and wait until they are read. Results go to the rule's destinations all the same."""
    door = door_of(request)
    taken = await door.take(request, "read", one_study=True)
    stored = taken.receiver.stored
    failed = [f"{one.sop_instance_uid or 'an instance'}: {one.detail}" for one in taken.receiver.failed]
    if taken.broken:
        failed.append(taken.broken)
    if not stored:
        raise _nothing_stored(taken, tuple(failed))
    study_uid = stored[0].study_uid
    outcome = await _wait(request, door, taken, [(one.name, one.sop_instance_uid) for one in stored], wait_s)
    if outcome.is_over:
        _check(outcome)
    location = {} if outcome.is_over else {"Location": f"/v1/studies/{study_uid}"}
    return JSONResponse(asdict(outcome.answer(study_uid, failed)), 200 if outcome.is_over else 202, location)


@router.get("/studies/{study_uid}", responses=responses(400, 401, 404, 500), summary="What became of a study")
async def study(request: Request, study_uid: StudyUid) -> StudyAnswer:
    """Tell of its instances, works, readings, deliveries and timeline."""
    door = door_of(request)
    found = await run_sync(studies.study, door.context, study_uid)
    if found is None and (count := door.recent.count(study_uid)):
        found = StudyAnswer(study_uid, {"received": count}, [], [], [])
    if found is None:
        raise Refusal(404, "no such study")
    return found


async def _wait(request: Request, door: Door, taken: Taken, names: list[tuple[str, str]], wait_s: float) -> Outcome:
    until = time.monotonic() + wait_s
    study_uid = taken.receiver.stored[0].study_uid
    with door.waiting.ringing(study_uid) as rung:
        while True:
            rung.clear()  # before looking: a ring while we look is not missed
            outcome = await run_sync(look, door.context, study_uid, names, limiter=taken.threads)
            left = until - time.monotonic()
            if outcome.is_over or left <= 0 or door.waiting.is_over or await request.is_disconnected():
                return outcome
            await _either(rung, left)


async def _either(rung: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(min(timeout_s, _LOOK_S)):
            await rung.wait()
    except TimeoutError:
        return


def _nothing_stored(taken: Taken, reasons: tuple[str, ...]) -> Refusal:
    failed = taken.receiver.failed
    if not failed:
        return Refusal(400, taken.broken or "the body holds no instance")
    if any(one.reason == FailureReason.OUT_OF_RESOURCES for one in failed):
        return Refusal(507, "nothing could be stored", reasons=reasons)
    return Refusal(422, "it cannot be read as DICOM", reasons=reasons)


def _check(outcome: Outcome) -> None:
    """Refusal when nothing came of it: 422 refused or unreadable, 409 set aside."""
    if outcome.has_reading:
        return
    reasons = (*outcome.refusals, *outcome.set_aside)
    if outcome.works or not outcome.conflicts():
        raise Refusal(422, reasons[0] if reasons else "there is nothing to read in it", reasons=reasons)
    raise Refusal(409, reasons[0], reasons=reasons)
