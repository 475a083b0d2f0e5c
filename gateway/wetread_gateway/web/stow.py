"""STOW-RS: PS3.18, 10.5. An instance that the answer calls stored is durable, and so is the audit of it."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse
from pydicom.datadict import tag_for_keyword

from wetread_gateway.web.door import PRIORITY_HEADER, Taken, door_of
from wetread_gateway.web.problems import Refusal, responses
from wetread_gateway.web.receiving import Failed, FailureReason, Stored

MEDIA_TYPE = "application/dicom+json"
UID_PATTERN = "^[0-9.]{1,64}$"
StudyUid = Annotated[str, Path(pattern=UID_PATTERN, description="Study Instance UID")]

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_ANSWER = {"content": {MEDIA_TYPE: {"schema": {"type": "object"}}}}
OPENAPI: dict[str, Any] = {
    "parameters": [
        {
            "name": PRIORITY_HEADER,
            "in": "header",
            "schema": {"type": "string", "enum": ["STAT", "ROUTINE"]},
            "description": "STAT passes an overloaded door and is read first.",
        }
    ],
    "requestBody": {
        "required": True,
        "content": {'multipart/related; type="application/dicom"': _BINARY, "application/dicom": _BINARY},
    },
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "All instances are stored.", **_ANSWER},
    202: {"description": "Some instances are stored, others have failed, each with its reason.", **_ANSWER},
    409: {"description": "No instance is stored; each has its reason.", **_ANSWER},
    **responses(400, 401, 408, 413, 415, 429, 500, 507),
}

router = APIRouter(tags=["DICOMweb"], default_response_class=JSONResponse)


@router.post("/studies", responses=RESPONSES, openapi_extra=OPENAPI, summary="Store instances")
async def store(request: Request) -> JSONResponse:
    """Store instances of any study."""
    return answer(await door_of(request).take(request, "stow"))


@router.post("/studies/{study_uid}", responses=RESPONSES, openapi_extra=OPENAPI, summary="Store a study's instances")
async def store_in_study(request: Request, study_uid: StudyUid) -> JSONResponse:
    """Store instances of this study; those of others fail."""
    return answer(await door_of(request).take(request, "stow", study_uid))


def answer(taken: Taken) -> JSONResponse:
    """Give the answer of PS3.18, 10.5.3; Refusal (400) for a body that held no instance at all."""
    stored, failed = taken.receiver.stored, list(taken.receiver.failed)
    if taken.broken:
        if not stored and not failed:
            raise Refusal(400, taken.broken)
        failed.append(Failed(FailureReason.CANNOT_UNDERSTAND, taken.broken))
    if not stored and not failed:
        raise Refusal(400, "the body holds no instance")
    status = 409 if not stored else 202 if failed else 200
    return JSONResponse(_dataset(stored, failed), status, media_type=MEDIA_TYPE)


def _dataset(stored: list[Stored], failed: list[Failed]) -> dict[str, object]:
    """Give the Store Instances Response Module (PS3.18, 10.5.3.1.1)."""
    known = [one for one in failed if one.sop_instance_uid]
    others = [one for one in failed if not one.sop_instance_uid]
    sequences = {
        "ReferencedSOPSequence": [_reference(one) for one in stored],
        "FailedSOPSequence": [_reference(one) | _reason(one) for one in known],
        "OtherFailuresSequence": [_reason(one) for one in others],
    }
    return {key: value for name, items in sequences.items() if items for key, value in _element(name, "SQ", items)}


def _reference(one: Stored | Failed) -> dict[str, object]:
    return dict(
        [
            *_element("ReferencedSOPClassUID", "UI", [one.sop_class_uid]),
            *_element("ReferencedSOPInstanceUID", "UI", [one.sop_instance_uid]),
        ]
    )


def _reason(one: Failed) -> dict[str, object]:
    return dict(
        [
            *_element("FailureReason", "US", [int(one.reason)]),
            *_element("ErrorComment", "LO", [one.detail[:64]]),
        ]
    )


def _element(keyword: str, vr: str, value: list[Any]) -> list[tuple[str, object]]:
    return [(f"{tag_for_keyword(keyword):08X}", {"vr": vr, "Value": value})]
