"""Moves the instances of one request into the spool, byte by byte as they come."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING

from wetread_gateway.audit import AuditEvent
from wetread_gateway.errors import BadInstance, DiskFull, NotStored
from wetread_gateway.metrics import ITEMS, SECONDS
from wetread_gateway.web.part10 import HEAD_LIMIT, FileMeta, Identity, identify, read_meta

if TYPE_CHECKING:
    from wetread_gateway.context import Context
    from wetread_gateway.instance import Arrival
    from wetread_gateway.spool.incoming import Incoming


class FailureReason(IntEnum):
    """Failure Reason (0008,1197) of an instance that was not stored: PS3.18, 10.5.3 and PS3.4, B.2.3."""

    OUT_OF_RESOURCES = 0xA700
    MISMATCH = 0xA900  # the dataset contradicts its meta information, or the study that was named
    CANNOT_UNDERSTAND = 0xC000


@dataclass(frozen=True, slots=True)
class Stored:
    """An instance that is durable; `name` is its file's."""

    name: str
    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str


@dataclass(frozen=True, slots=True)
class Failed:
    """An instance that was not stored, and why; the UIDs are empty where nothing could be read."""

    reason: FailureReason
    detail: str
    sop_class_uid: str = ""
    sop_instance_uid: str = ""


class Receiver:
    """Takes one instance after the other: `begin`, `feed`..., `end`; at last, whatever happened, `finish`.

    One thread at a time. `study_uid`: the only study wanted; `one_study`: whichever comes first. What an instance
    lacks is noted in `failed`, and the others go on.
    """

    def __init__(
        self, context: Context, arrival: Arrival, actor: str, study_uid: str = "", *, one_study: bool = False
    ) -> None:
        self._context = context
        self._arrival = arrival
        self._actor = actor
        self._study_uid = study_uid
        self._one_study = one_study
        self.stored: list[Stored] = []
        self.failed: list[Failed] = []
        self.disk_is_full = False
        self._head = bytearray()
        self._meta: FileMeta | None = None
        self._incoming: Incoming | None = None
        self._skipping = True
        self._size = 0
        self._began = 0.0

    def begin(self) -> None:
        """Begin an instance."""
        self._head = bytearray()
        self._meta = None
        self._skipping = False
        self._size = 0
        self._began = time.perf_counter()

    def feed(self, data: memoryview) -> None:
        """Take the next bytes of the instance."""
        if self._skipping:
            return
        self._size += len(data)
        if len(self._head) < HEAD_LIMIT:
            self._head += data[: HEAD_LIMIT - len(self._head)]
        try:
            if self._incoming is None:
                self._open(data)
            else:
                self._incoming.write(data)
        except (BadInstance, NotStored) as error:
            self._fail(error)

    def end(self) -> None:
        """End the instance: it is durable, or it has failed."""
        if self._skipping:
            return
        try:
            if self._incoming is None:
                read_meta(self._head, at_end=True)
                raise BadInstance("it has no dataset")
            stored = self._commit(self._incoming)
        except (BadInstance, NotStored) as error:
            self._fail(error)
            return
        self._skipping, self._incoming = True, None
        self.stored.append(stored)
        self._context.ring("triage")
        ITEMS.labels("http", "ok").inc()
        SECONDS.labels("http").observe(time.perf_counter() - self._began)

    def refuse(self, detail: str) -> None:
        """Note that what comes now is no instance at all."""
        self._skipping = False
        self._fail(BadInstance(detail))

    def finish(self) -> None:
        """Make the audit durable; what it does not take has not been stored as far as the client may know."""
        self._abandon()
        try:
            self._record()
        except (NotStored, OSError):
            self.failed += [
                Failed(
                    FailureReason.OUT_OF_RESOURCES, "the audit is not written", one.sop_class_uid, one.sop_instance_uid
                )
                for one in self.stored
            ]
            self.stored = []
            self.disk_is_full = True

    def _abandon(self) -> None:
        self._skipping = True
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.abort()

    def _open(self, data: memoryview) -> None:
        meta = read_meta(self._head)
        if meta is None:
            return
        self._meta = meta
        self._context.spool.check_room(self._context.settings.intake)
        incoming = self._context.spool.open(
            self._context.slot,
            replace(self._arrival, received_at=time.time()),
            meta.sop_class_uid,
            meta.sop_instance_uid,
            meta.transfer_syntax_uid,
        )
        self._incoming = incoming
        # All that came so far is in the head and in `data`, whose end may lie beyond the head's.
        before = self._size - len(data)
        if before < meta.size:
            incoming.write(data[meta.size - before :])
        else:
            incoming.write(self._head[meta.size : before])
            incoming.write(data)

    def _commit(self, incoming: Incoming) -> Stored:
        meta = self._meta
        assert meta is not None
        identity = identify(self._head, is_whole=self._size <= HEAD_LIMIT)
        self._compare(meta, identity)
        incoming.commit()
        if self._arrival.stat:
            self._context.right_of_way().claim()
        if self._one_study:
            self._study_uid = identity.study_uid
        return Stored(incoming.name, meta.sop_class_uid, meta.sop_instance_uid, identity.study_uid)

    def _compare(self, meta: FileMeta, identity: Identity) -> None:
        if identity.sop_instance_uid not in ("", meta.sop_instance_uid):
            raise _Mismatch("its SOP Instance UID is not the one of its file meta information")
        if identity.sop_class_uid not in ("", meta.sop_class_uid):
            raise _Mismatch("its SOP Class UID is not the one of its file meta information")
        if not identity.study_uid and (identity.is_conclusive or self._study_uid or self._one_study):
            raise BadInstance("it has no Study Instance UID, or one too far from its beginning")
        if self._study_uid and identity.study_uid != self._study_uid:
            raise _Mismatch("it belongs to another study")

    def _fail(self, error: BadInstance | NotStored) -> None:
        meta = self._meta
        self._abandon()
        if isinstance(error, NotStored):
            reason = FailureReason.OUT_OF_RESOURCES
            self.disk_is_full = self.disk_is_full or isinstance(error, DiskFull)
        else:
            reason = FailureReason.MISMATCH if isinstance(error, _Mismatch) else FailureReason.CANNOT_UNDERSTAND
        uids = (meta.sop_class_uid, meta.sop_instance_uid) if meta else ("", "")
        self.failed.append(Failed(reason, str(error), *uids))
        ITEMS.labels("http", "failed").inc()

    def _record(self) -> None:
        how = {"door": self._arrival.door, "address": self._arrival.address, "association": self._arrival.association}
        events = [
            AuditEvent("intake", "ok", self._actor, one.study_uid, one.sop_instance_uid, {**how, "file": one.name})
            for one in self.stored
        ]
        events += [
            AuditEvent("refuse", "failed", self._actor, "", one.sop_instance_uid, {**how, "reason": one.detail})
            for one in self.failed
        ]
        if events:
            self._context.audit.record(*events)


class _Mismatch(BadInstance):
    """It contradicts its meta information, or the request."""
