"""What can go wrong in the gateway.

GatewayError
├── ConfigError      the configuration is at fault: file, line and remedy
├── NotStored        an instance was not made durable, so its sender must not hear Success
│   └── DiskFull     no room is left above the watermark: DIMSE 0xA700, HTTP 507
├── BadInstance      what was sent is no instance that can be kept: DIMSE 0xC000, HTTP 409
├── LeaseLost        the lease has expired or was taken over: what its holder did counts for nothing
├── SourceMissing    an image that is to be read is nowhere in the spool
├── WorklistAway     the worklist behind HTTP cannot be asked now
│   └── SiblingAway  nor can the intake whose spool holds a file that is needed: what needs it waits
├── NotDelivered     a destination did not take an object
│   ├── TryAgain     it may take it later: status 0xA7xx, abort, time-out
│   │   └── Unreachable  nothing at all can be had of it now: connection or association refused, bad credentials
│   └── Refused      it never will: status 0xA9xx, 0xCxxx, 0x0122; the dead letter
└── CannotReport     no standard object can be made of a reading, with the reason
"""

from __future__ import annotations


class GatewayError(Exception):
    """Anything that the gateway itself raises; the message is for the operator and holds no name of a patient."""


class ConfigError(GatewayError):
    """The configuration is at fault; `str()` names the file, the line, what is wrong and the remedy."""


class NotStored(GatewayError):
    """An instance was not made durable: its sender must not hear Success."""


class DiskFull(NotStored):
    """The disk has no room above its watermark, or none at all."""


class BadInstance(GatewayError):
    """What was sent is no DICOM instance that can be kept."""


class LeaseLost(GatewayError):
    """The lease has expired or was taken over; what its holder did counts for nothing."""


class SourceMissing(GatewayError):
    """An image that is to be read is nowhere in the spool."""


class WorklistAway(GatewayError):
    """The worklist behind HTTP cannot be asked now."""


class SiblingAway(WorklistAway):
    """The intake whose spool holds a file cannot be asked now; nothing is known of the file."""


class NotDelivered(GatewayError):
    """A destination did not take an object. `status`: the DIMSE or HTTP status, where there was one."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class TryAgain(NotDelivered):
    """The destination may take it later; `after_s`: not sooner than that, where it said so."""

    def __init__(self, message: str, status: int | None = None, after_s: float = 0.0) -> None:
        super().__init__(message, status)
        self.after_s = after_s


class Unreachable(TryAgain):
    """The destination takes nothing at all now: the fault is not the object's."""


class Refused(NotDelivered):
    """The destination will never take it as it is."""


class CannotReport(GatewayError):
    """No standard object can be made of this reading."""
