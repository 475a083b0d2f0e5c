"""The one table that says what becomes of a work for each thing that can go wrong while it is read (DESIGN 4)."""

from __future__ import annotations

from dataclasses import dataclass

from wetread_client import Rejected, ServerError, Unavailable
from wetread_client.errors import Status, WetreadError

from wetread_gateway.errors import SiblingAway, SourceMissing
from wetread_gateway.reading.worklist import Failure, FailureKind

_LENGTH = 300


@dataclass(frozen=True, slots=True)
class Cause:
    """A kind of error. `code`: only with this code; `mends`: the pipeline must show that it works before it goes on;
    `alert`: somebody should look, by this name."""

    error: type[Exception]
    kind: FailureKind
    code: str | None = None
    mends: bool = False
    alert: str | None = None


CAUSES = (  # the first that fits counts; Rejected is no failure: the refusal is the result
    Cause(Unavailable, FailureKind.LATER, Status.NOT_FOUND.value, alert="pipeline_not_served"),
    Cause(Unavailable, FailureKind.LATER),
    Cause(ServerError, FailureKind.SUSPECT, mends=True),
    Cause(SiblingAway, FailureKind.LATER),
    Cause(SourceMissing, FailureKind.HOPELESS, alert="source_missing"),
    Cause(OSError, FailureKind.SUSPECT, alert="source_unreadable"),  # the file is there and cannot be read
)
EXPECTED = tuple(dict.fromkeys(cause.error for cause in CAUSES))


def cause_of(error: Exception) -> Cause:
    """Find an error's cause; LookupError for one that is none of a reading."""
    if isinstance(error, Rejected):
        raise LookupError("a refusal is a result, no failure")
    code = error.code if isinstance(error, WetreadError) else None
    for cause in CAUSES:
        if isinstance(error, cause.error) and cause.code in (None, code):
            return cause
    raise LookupError(f"not an error of a reading: {error!r}")


def failure_of(error: Exception, wait_s: float) -> Failure:
    """Say how a work is given back after `error`."""
    cause = cause_of(error)
    if isinstance(error, WetreadError):
        return Failure(cause.kind, error.code, error.message.partition("\n")[0][:_LENGTH], wait_s)
    if isinstance(error, OSError):  # its text names a path
        return Failure(cause.kind, "OSError", error.strerror or "the file cannot be read", wait_s)
    return Failure(cause.kind, type(error).__name__, str(error), wait_s)
