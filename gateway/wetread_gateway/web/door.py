"""What the routes of one HTTP door share."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from wetread_gateway.instance import Arrival
from wetread_gateway.metrics import REFUSED
from wetread_gateway.web.body import Body, store
from wetread_gateway.web.multipart import ContentType
from wetread_gateway.web.problems import Refusal
from wetread_gateway.web.receiving import Receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.datastructures import Headers
    from starlette.requests import Request

    from wetread_gateway.config.settings import Http, Settings
    from wetread_gateway.context import Context
    from wetread_gateway.web.access import Refusals
    from wetread_gateway.web.pressure import Pressure
    from wetread_gateway.web.waiting import Waiting

_REASONS = {413: "too_large", 429: "overload", 507: "disk_full"}
PRIORITY_HEADER = "Wetread-Priority"
_LONGEST_AE = 16  # PS3.5, table 6.2-1
_REMEMBERED = 4096  # studies
_THREADS, _STAT_THREADS = 24, 8  # at once; they mostly wait for the disk


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one request's instances; `broken` says what was wrong with its body, `threads` does its work."""

    receiver: Receiver
    broken: str
    threads: CapacityLimiter


class Recent:
    """Studies that came through this door a moment ago: they exist though triage has not seen them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: OrderedDict[str, int] = OrderedDict()

    def add(self, study_uid: str) -> None:
        """Note an instance."""
        with self._lock:
            self._counts[study_uid] = self._counts.pop(study_uid, 0) + 1
            if len(self._counts) > _REMEMBERED:
                self._counts.popitem(last=False)

    def count(self, study_uid: str) -> int:
        """Give the instances of a study that came."""
        with self._lock:
            return self._counts.get(study_uid, 0)


@dataclass(frozen=True, slots=True)
class Door:
    """One HTTP door: the process's context, and what its requests share."""

    context: Context
    http: Http
    pressure: Pressure
    waiting: Waiting
    refusals: Refusals
    recent: Recent = field(default_factory=Recent)
    threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(_THREADS))
    stat_threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(_STAT_THREADS))
    """STAT has its own: it must not wait for a thread of those that give way to it."""
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(time.time_ns()))

    async def take(
        self, request: Request, door: Literal["stow", "read"], study_uid: str = "", *, one_study: bool = False
    ) -> Taken:
        """Store what the request brings; Refusal when that ends it. The instances are durable when this returns."""
        arrival = self._arrival(request, door)
        actor: str = request.state.actor
        threads = self.stat_threads if arrival.stat else self.threads
        try:
            await run_sync(self._check, request.headers.get("content-length", "0"), limiter=threads)
        except Refusal as refusal:
            await self.note(refusal, actor)
            raise
        if arrival.stat:
            self.context.right_of_way().claim()  # what is routine waits from here on, not only from its last byte
        receiver = Receiver(self.context, arrival, actor, study_uid, one_study=one_study)
        content_type = ContentType.parse(request.headers.get("content-type"))
        sink = content_type.sink(receiver, form=door == "read")
        with self._associated(arrival):
            broken = await store(Body(request.receive, self.http), sink, receiver, threads)
        for one in receiver.stored:
            self.recent.add(one.study_uid)
        if receiver.disk_is_full and not receiver.stored:
            raise Refusal(507, "the disk is full; nothing was stored")
        return Taken(receiver, broken, threads)

    def is_stat(self, headers: Headers, actor: str) -> bool:
        """Whether a request is STAT, by its own word or by who sends it."""
        return headers.get(PRIORITY_HEADER, "").strip().upper() == "STAT" or _is_stat(self.context.settings, _ae(actor))

    async def note(self, refusal: Refusal, actor: str) -> None:
        """Count a refusal, and audit it unless one like it was audited a moment ago."""
        problem = refusal.problem
        REFUSED.labels("http", _REASONS.get(problem.status, "other")).inc()
        reason = f"{problem.status} {problem.title}"
        if self.refusals.is_due(actor, reason):
            await run_sync(self.refusals.note, actor, reason)

    def _check(self, length: str) -> None:
        size = int(length) if length.isascii() and length.isdecimal() else 0
        if size > self.http.max_body_bytes:
            close = {"Connection": "close"}
            raise Refusal(413, f"the body is larger than {self.http.max_body_bytes} bytes", headers=close)
        self.pressure.check_room(size)

    def _arrival(self, request: Request, door: Literal["stow", "read"]) -> Arrival:
        settings = self.context.settings
        calling = _ae(request.state.actor)
        stat = self.is_stat(request.headers, request.state.actor)
        return Arrival(
            door=door,
            calling_ae=calling,
            called_ae=settings.dicom.stat_ae_title if stat else settings.dicom.ae_title,
            address=request.client.host if request.client else "",
            association=f"{self.context.slot}.{next(self.numbers)}",
            received_at=time.time(),
            stat=stat,
        )

    @contextlib.contextmanager
    def _associated(self, arrival: Arrival) -> Iterator[None]:
        """While a request is under way its sender has more to say, as on an open association."""
        self.context.spool.opened(arrival.association, arrival.calling_ae)
        try:
            yield
        finally:
            self.context.spool.closed(arrival.association, arrival.calling_ae)


def door_of(request: Request) -> Door:
    """Give the door that a request came through."""
    door: Door = request.app.state.door
    return door


def _ae(actor: str) -> str:
    """Make an AE title of whoever asks, so that rules can tell senders apart."""
    return "".join(sign for sign in actor if sign.isascii() and sign.isprintable() and sign != "\\")[
        :_LONGEST_AE
    ].strip()


def _is_stat(settings: Settings, calling_ae: str) -> bool:
    return any(peer.stat for peer in settings.peer if peer.ae_title == calling_ae)
