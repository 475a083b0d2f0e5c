"""What the HTTP door says when it says no: problem details (RFC 9457), never a trace."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Problem:
    """Problem details; `reasons` says what is wrong with each instance, or each parameter, where there are several."""

    status: int
    title: str
    detail: str
    type: str = "about:blank"
    reasons: tuple[str, ...] = ()


class Refusal(Exception):
    """A request ends here, with a problem."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        reasons: tuple[str, ...] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(status, HTTPStatus(status).phrase, detail, reasons=reasons)
        self.headers = dict(headers or {})


def problem_response(problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Give the answer that states `problem`."""
    return JSONResponse(asdict(problem), problem.status, headers, MEDIA_TYPE)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Give the OpenAPI description of the problems that a route may answer with."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


def install(app: FastAPI) -> None:
    """Have every error of `app` answered as a problem."""
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _unforeseen)


def _refused(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refusal)
    return problem_response(error.problem, error.headers)


def _http(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    return problem_response(Problem(status, status.phrase, str(error.detail)), error.headers)


def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    reasons = tuple(f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors())
    return problem_response(Problem(400, HTTPStatus.BAD_REQUEST.phrase, "a parameter is wrong", reasons=reasons))


def _unforeseen(_request: Request, _error: Exception) -> JSONResponse:
    # The traceback is logged by the server; the client learns nothing of our insides.
    return problem_response(Problem(500, HTTPStatus.INTERNAL_SERVER_ERROR.phrase, "the gateway failed; see its log"))
