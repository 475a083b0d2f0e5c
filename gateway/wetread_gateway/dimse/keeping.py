"""One C-STORE on its way to the spool: from its command to the status of its answer."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wetread_gateway.audit import AuditEvent
from wetread_gateway.dimse.command import Command, is_uid
from wetread_gateway.dimse.negotiation import is_storage
from wetread_gateway.dimse.status import Status
from wetread_gateway.errors import DiskFull, NotStored
from wetread_gateway.instance import Arrival
from wetread_gateway.metrics import ALERTS, ITEMS, REFUSED, SECONDS

if TYPE_CHECKING:
    from wetread_gateway.context import Context
    from wetread_gateway.dimse.negotiation import Context as Presentation
    from wetread_gateway.spool.incoming import Incoming

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is at the other end of an association."""

    calling_ae: str
    called_ae: str
    address: str
    association: str
    stat: bool


class Keeping:
    """Takes a dataset's bytes as they are. End it with `finish` or, when the rest never comes, `abort`.

    What cannot be kept is still taken off the wire: the peer hears why after its last byte, as DIMSE wants.
    """

    def __init__(self, context: Context, caller: Caller, command: Command, presentation: Presentation) -> None:
        self._context = context
        self._caller = caller
        self._command = command
        self._began = time.perf_counter()
        self._incoming: Incoming | None = None
        self._size = 0
        self._status = _objection(command, presentation)
        if self._status is Status.SUCCESS:
            self._open(presentation)

    def write(self, fragment: memoryview) -> None:
        """Take a fragment of the dataset."""
        self._size += len(fragment)
        if self._incoming is not None:
            try:
                self._incoming.write(fragment)
            except NotStored as error:
                self._refuse(error)

    def finish(self) -> Status:
        """Make instance and audit durable and give the answer's status; unless that is Success nothing is left."""
        if self._incoming is not None and not self._size:
            self.abort()
            self._status = Status.CANNOT_UNDERSTAND
        if self._incoming is not None:
            try:
                self._incoming.commit()
                self._context.audit.record(self._event("intake", "ok"))
            except (NotStored, OSError) as error:
                self.abort()
                self._refuse(error)
            else:
                if self._caller.stat:
                    self._context.right_of_way().claim()
                self._context.ring("triage")
        ok = self._status is Status.SUCCESS
        ITEMS.labels("receive", "ok" if ok else "failed").inc()
        if ok:
            SECONDS.labels("receive").observe(time.perf_counter() - self._began)
        else:
            self._tell()
        return self._status

    def abort(self) -> None:
        """Leave nothing of it."""
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.abort()

    def _open(self, presentation: Presentation) -> None:
        caller, command = self._caller, self._command
        arrival = Arrival(
            door="dimse",
            calling_ae=caller.calling_ae,
            called_ae=caller.called_ae,
            address=caller.address,
            association=caller.association,
            received_at=time.time(),
            stat=caller.stat,
        )
        spool = self._context.spool
        try:
            spool.check_room(self._context.settings.intake)
            self._incoming = spool.open(
                self._context.slot,
                arrival,
                command.sop_class_uid,
                command.sop_instance_uid,
                presentation.transfer_syntax,
            )
        except (NotStored, OSError) as error:
            self._refuse(error)

    def _refuse(self, error: Exception) -> None:
        self._incoming = None
        self._status = Status.OUT_OF_RESOURCES
        ALERTS.labels("not_stored").inc()
        REFUSED.labels("dimse", "disk_full" if isinstance(error, DiskFull) else "not_stored").inc()
        LOG.error("an instance is refused: %s", error, extra={"association": self._caller.association})

    def _tell(self) -> None:
        try:
            self._context.audit.record(self._event("refuse", "failed"))
        except (NotStored, OSError) as error:  # the full disk that was the reason
            LOG.error("a refusal could not be audited: %s", error, extra={"association": self._caller.association})

    def _event(self, action: str, outcome: str) -> AuditEvent:
        uid = self._command.sop_instance_uid
        return AuditEvent(
            action="intake" if action == "intake" else "refuse",
            outcome="ok" if outcome == "ok" else "failed",
            actor=self._caller.calling_ae,
            object_uid=uid if is_uid(uid) else "",
            detail={
                "address": self._caller.address,
                "association": self._caller.association,
                "bytes": self._size,
                "status": self._status,
            },
        )


def _objection(command: Command, presentation: Presentation) -> Status:
    """Say why the instance cannot be kept, before its first byte: PS3.7, 9.1.1.1.9, and PS3.4, B.2.3."""
    if not is_uid(command.sop_instance_uid):
        return Status.INVALID_INSTANCE
    if not is_uid(command.sop_class_uid):
        return Status.CANNOT_UNDERSTAND
    if not is_storage(command.sop_class_uid):
        return Status.SOP_CLASS_NOT_SUPPORTED
    if command.sop_class_uid != presentation.abstract_syntax:
        return Status.CLASS_DIFFERS
    return Status.SUCCESS
