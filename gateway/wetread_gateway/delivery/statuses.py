"""What a destination's answers mean: C-STORE, STOW-RS, storage commitment, association rejection."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from wetread_gateway.errors import NotDelivered, Refused, TryAgain, Unreachable


class Verdict(StrEnum):
    """What becomes of an object after an answer."""

    STORED = "stored"
    WARNED = "warned"  # stored with a warning; that it is there is asked for as ever
    AGAIN = "again"  # tried again later
    UNREACHABLE = "unreachable"  # tried again later; nothing else would fare better now
    REFUSED = "refused"  # the dead letter


@dataclass(frozen=True, slots=True)
class Meaning:
    """One answer: its verdict and its words."""

    verdict: Verdict
    text: str


# PS3.4 B.2.3 (storage), PS3.7 9.1.1.1.9 and annex C (general). The first range that holds the status counts.
C_STORE = (
    (0x0000, 0x0000, Meaning(Verdict.STORED, "success")),
    (0x0001, 0x0001, Meaning(Verdict.WARNED, "requested optional attributes are not supported")),
    (0x0107, 0x0107, Meaning(Verdict.WARNED, "attribute list error")),
    (0x0116, 0x0116, Meaning(Verdict.WARNED, "attribute value out of range")),
    # General failures of the moment: archives give 0x0110 for a database that is away.
    (0x0110, 0x0110, Meaning(Verdict.AGAIN, "processing failure")),
    (0x0111, 0x0111, Meaning(Verdict.WARNED, "duplicate SOP instance")),  # it is there: asked for as ever
    (0x0117, 0x0117, Meaning(Verdict.REFUSED, "invalid SOP instance")),
    (0x0122, 0x0122, Meaning(Verdict.REFUSED, "SOP class not supported")),
    (0x0124, 0x0124, Meaning(Verdict.REFUSED, "not authorised")),
    (0x0210, 0x0210, Meaning(Verdict.AGAIN, "duplicate invocation")),
    (0x0211, 0x0211, Meaning(Verdict.REFUSED, "unrecognised operation")),
    (0x0212, 0x0212, Meaning(Verdict.REFUSED, "mistyped argument")),
    (0x0213, 0x0213, Meaning(Verdict.AGAIN, "resource limitation")),
    (0xA700, 0xA7FF, Meaning(Verdict.AGAIN, "out of resources")),
    (0xA900, 0xA9FF, Meaning(Verdict.REFUSED, "data set does not match SOP class")),
    (0xB000, 0xB000, Meaning(Verdict.WARNED, "coercion of data elements")),
    (0xB006, 0xB006, Meaning(Verdict.WARNED, "elements discarded")),
    (0xB007, 0xB007, Meaning(Verdict.WARNED, "data set does not match SOP class")),
    (0xB000, 0xBFFF, Meaning(Verdict.WARNED, "stored with a warning")),
    (0xC000, 0xCFFF, Meaning(Verdict.REFUSED, "cannot understand")),
    (0xFE00, 0xFE00, Meaning(Verdict.AGAIN, "cancelled")),
)
UNKNOWN = Meaning(Verdict.REFUSED, "a failure that no standard names")

# PS3.18 10.5.3 (store transaction) and RFC 9110, 6585. What is the whole site's fault is no object's.
STOW = (
    (200, 200, Meaning(Verdict.STORED, "all stored")),
    (202, 202, Meaning(Verdict.WARNED, "accepted with warnings or failures")),
    (201, 299, Meaning(Verdict.WARNED, "an unexpected success")),
    (300, 399, Meaning(Verdict.UNREACHABLE, "redirected: the url is another")),
    (401, 401, Meaning(Verdict.UNREACHABLE, "credentials are not accepted")),
    (403, 403, Meaning(Verdict.UNREACHABLE, "not allowed with these credentials")),
    (404, 405, Meaning(Verdict.UNREACHABLE, "no store service at this url")),
    (407, 407, Meaning(Verdict.UNREACHABLE, "a proxy asks for credentials")),
    (408, 408, Meaning(Verdict.AGAIN, "time-out of the request")),
    (409, 409, Meaning(Verdict.REFUSED, "none stored")),
    (425, 425, Meaning(Verdict.AGAIN, "too early")),
    (429, 429, Meaning(Verdict.UNREACHABLE, "too many requests")),
    (400, 499, Meaning(Verdict.REFUSED, "bad request")),
    (500, 500, Meaning(Verdict.AGAIN, "error of the server")),  # perhaps of this object alone
    (503, 503, Meaning(Verdict.UNREACHABLE, "busy")),
    (507, 507, Meaning(Verdict.UNREACHABLE, "no room left")),
    (500, 599, Meaning(Verdict.UNREACHABLE, "the server is not in order")),
)


class Remedy(StrEnum):
    """What to do about an instance that a commitment report names as failed."""

    SEND = "send"  # it is not there: sent again
    ASK = "ask"  # asked anew, later
    ASK_OTHERWISE = "ask otherwise"  # asked by C-FIND or QIDO-RS
    GIVE_UP = "give up"  # the dead letter


# Failure Reason (0008,1197), PS3.3 C.14.1.1.
COMMITMENT_FAILURES = {
    0x0110: (Remedy.ASK, "processing failure"),
    0x0112: (Remedy.SEND, "no such object instance"),
    0x0119: (Remedy.GIVE_UP, "class and instance conflict: another object has its UID"),
    0x0122: (Remedy.ASK_OTHERWISE, "commitment of this SOP class is not supported"),
    0x0131: (Remedy.ASK, "duplicate transaction UID"),
    0x0213: (Remedy.ASK, "resource limitation"),
}
UNKNOWN_FAILURE = (Remedy.SEND, "a failure that no standard names")

# N-ACTION answers that say "not here": PS3.7 10.1.4.1.10. Anything else but success is tried again.
COMMITMENT_NOT_OFFERED = frozenset({0x0112, 0x0118, 0x0122, 0x0123, 0x0124, 0x0211})

# A-ASSOCIATE-RJ: source and reason, PS3.8 table 9-21.
REJECTIONS = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognised",
    (1, 7): "called AE title not recognised",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}


def of_store(status: int) -> Meaning:
    """Give the meaning of a C-STORE status, also where STOW-RS gives it as Failure Reason or Warning Reason."""
    return _within(C_STORE, status)


def of_stow(status: int) -> Meaning:
    """Give the meaning of an HTTP status of STOW-RS."""
    return _within(STOW, status)


def of_commitment(reason: int) -> tuple[Remedy, str]:
    """Give what to do about a Failure Reason of a commitment report."""
    return COMMITMENT_FAILURES.get(reason, UNKNOWN_FAILURE)


def error(meaning: Meaning, status: int, what: str, after_s: float = 0.0) -> NotDelivered:
    """Make the error of a failure: `what` says what was answered so."""
    message = (
        f"{what}: {meaning.text} (0x{status:04X})" if what.startswith("C-") else f"{what}: {meaning.text} ({status})"
    )
    if meaning.verdict is Verdict.REFUSED:
        return Refused(message, status)
    return (Unreachable if meaning.verdict is Verdict.UNREACHABLE else TryAgain)(message, status, after_s)


def _within(table: tuple[tuple[int, int, Meaning], ...], status: int) -> Meaning:
    return next((meaning for first, last, meaning in table if first <= status <= last), UNKNOWN)
