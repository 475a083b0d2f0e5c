"""What can go wrong with a reading, and the one table that says which error an answer of the server is.

WetreadError
├── Rejected       this file is at fault: give up on it
├── Unavailable    nobody is at fault: try again later
│   └── RegionLost   the server cannot find a shared-memory region (transports mend this themselves)
└── ServerError    the server is at fault: wake somebody
    └── NoSuchOutput   the pipeline has no output of that name (clients mend this themselves)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """The status codes of gRPC but for OK, by their names on the wire."""

    CANCELLED = "CANCELLED"
    UNKNOWN = "UNKNOWN"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    INTERNAL = "INTERNAL"
    UNAVAILABLE = "UNAVAILABLE"
    DATA_LOSS = "DATA_LOSS"
    UNAUTHENTICATED = "UNAUTHENTICATED"


class WetreadError(Exception):
    """A film that was not read.

    `code` is the backend's word for a rejected film (`InvalidDicom`, `UnsupportedImage`), else the gRPC status name;
    `message` is the reason for a human; `file` names the film where it is known.
    """

    def __init__(self, code: str, message: str, file: str | None = None) -> None:
        super().__init__(code, message, file)
        self.code = str(code)
        self.message = message
        self.file = file

    def __str__(self) -> str:
        where = f"{self.file}: " if self.file else ""
        return f"{where}{self.code}: {self.message}"


class Rejected(WetreadError):
    """The film is at fault; sending it again gives the same answer."""


class Unavailable(WetreadError):
    """The server could not answer now: down, full, late, or its pipeline not loaded. Safe to send again."""


class RegionLost(Unavailable):
    """The server cannot find a shared-memory region: register it anew, or send the film itself."""


class ServerError(WetreadError):
    """The server or its set-up is at fault. Never proof that the film is."""


class NoSuchOutput(ServerError):
    """The pipeline has no output of that name (any more): ask for those that it has."""


@dataclass(frozen=True, slots=True)
class Cause:
    """An answer that says more than its status: the status *and* the start or part of its message decide."""

    status: Status
    message: re.Pattern[str]
    error: type[WetreadError]
    code: str


CAUSES = (
    Cause(Status.INVALID_ARGUMENT, re.compile(r"^InvalidDicom: "), Rejected, "InvalidDicom"),
    Cause(Status.UNIMPLEMENTED, re.compile(r"^UnsupportedImage: "), Rejected, "UnsupportedImage"),
    Cause(Status.NOT_FOUND, re.compile(r"Unable to find shared memory region"), RegionLost, "NOT_FOUND"),
    Cause(Status.NOT_FOUND, re.compile(r"^RegionNotFound: "), RegionLost, "NOT_FOUND"),
    Cause(Status.INVALID_ARGUMENT, re.compile(r"^unexpected inference output '"), NoSuchOutput, "INVALID_ARGUMENT"),
)

ERRORS: dict[Status, type[WetreadError]] = {
    Status.CANCELLED: Unavailable,
    Status.UNKNOWN: ServerError,
    Status.INVALID_ARGUMENT: ServerError,
    Status.DEADLINE_EXCEEDED: Unavailable,
    Status.NOT_FOUND: Unavailable,  # the model is unknown or not loaded (yet)
    Status.ALREADY_EXISTS: ServerError,
    Status.PERMISSION_DENIED: ServerError,
    Status.RESOURCE_EXHAUSTED: Unavailable,
    Status.FAILED_PRECONDITION: ServerError,
    Status.ABORTED: Unavailable,
    Status.OUT_OF_RANGE: ServerError,
    Status.UNIMPLEMENTED: ServerError,
    # A stub that died under the request says the same as one that was dead before the request came (`Stub process
    # '...' is not healthy`), so it may be what killed it: sending it again is for whoever can send it alone.
    Status.INTERNAL: ServerError,
    Status.UNAVAILABLE: Unavailable,
    Status.DATA_LOSS: ServerError,
    Status.UNAUTHENTICATED: ServerError,
}

HTTP_STATUS = {
    400: Status.INVALID_ARGUMENT,
    401: Status.UNAUTHENTICATED,
    403: Status.PERMISSION_DENIED,
    404: Status.NOT_FOUND,
    408: Status.DEADLINE_EXCEEDED,
    409: Status.ABORTED,
    413: Status.OUT_OF_RANGE,
    429: Status.RESOURCE_EXHAUSTED,
    499: Status.CANCELLED,
    500: Status.INTERNAL,
    501: Status.UNIMPLEMENTED,
    502: Status.UNAVAILABLE,
    503: Status.UNAVAILABLE,
    504: Status.DEADLINE_EXCEEDED,
}

_BY_ENSEMBLE = re.compile(r"^(?:in ensemble '[^']*', )+")


def status_of_http(code: int) -> Status:
    """Give the gRPC status that an HTTP status stands for; UNKNOWN for one that neither Triton nor a proxy sends."""
    return HTTP_STATUS.get(code, Status.UNKNOWN)


def translate(status: Status, message: str) -> WetreadError:
    """Make the error of an answer's status and message; Rejected needs our prefix and its code."""
    reason = _BY_ENSEMBLE.sub("", message)
    for cause in CAUSES:
        if cause.status is status and (found := cause.message.search(reason)):
            text = reason[found.end() :] if issubclass(cause.error, Rejected) else reason
            return cause.error(cause.code, text)
    return ERRORS[status](status.value, reason)
