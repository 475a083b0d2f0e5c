"""The worklist's HTTP door, for readers that sit elsewhere: lease, extend, complete, fail, and the films themselves."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query
from fastapi.responses import FileResponse, Response

from wetread_gateway.errors import LeaseLost, SiblingAway, SourceMissing
from wetread_gateway.reading.store_worklist import StoreWorklist
from wetread_gateway.reading.wire import (
    Completion,
    FailureDocument,
    GivenBack,
    LeaseDocument,
    Leases,
    Owner,
    Token,
    Wanted,
)
from wetread_gateway.reading.worklist import Served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wetread_gateway.context import Context
    from wetread_gateway.reading.stored import StoredReading

_LARGEST = 2**63 - 1
Work = Annotated[int, Path(ge=1, le=_LARGEST)]
_LOST: dict[int | str, dict[str, Any]] = {409: {"description": "The lease has expired or was taken over."}}
_GONE: dict[int | str, dict[str, Any]] = {404: {"description": "The film is nowhere in the spool."}}
_AWAY: dict[int | str, dict[str, Any]] = {424: {"description": "The film lies at an intake that is away."}}


class _Film(FileResponse):
    chunk_size = 1 << 20  # 64 KiB, the default, costs a thread switch each


class _Door:
    """The routes' functions, over a worklist."""

    def __init__(self, worklist: StoreWorklist) -> None:
        self._worklist = worklist

    def lease(self, wanted: Wanted) -> Leases:
        """Lease works: STAT first, the oldest of each priority first."""
        without = frozenset(Served(served.pipeline, served.arm) for served in wanted.without)
        leases = self._worklist.lease(wanted.n, _name(wanted.owner), stat_only=wanted.stat_only, without=without)
        return Leases(leases=[LeaseDocument.of(lease) for lease in leases])

    def abandon(self, owner: Owner) -> GivenBack:
        """Give back all that a reader has leased: it died and has come back."""
        return GivenBack(works=self._worklist.abandon(_name(owner.owner)))

    def extend(self, work: Work, token: Token) -> LeaseDocument:
        """Keep a work for longer."""
        with _answers():
            return LeaseDocument.of(self._worklist.extend(self._worklist.held(work, token.token)))

    def complete(self, work: Work, completion: Completion) -> None:
        """Hand in a reading: durable when this is answered, and the only one."""
        reading = _reading(completion)
        with _answers():
            self._worklist.complete(self._worklist.held(work, completion.token), reading)

    def shadow(self, work: Work, completion: Completion) -> None:
        """Hand in what a candidate says of a work that was completed under the same token."""
        reading = _reading(completion)
        with _answers():
            self._worklist.shadow(self._worklist.completed(work, completion.token), reading)

    def fail(self, work: Work, failure: FailureDocument) -> None:
        """Give a work back unread."""
        with _answers():
            self._worklist.fail(self._worklist.held(work, failure.token), failure.parsed())

    def source(
        self, work: Work, n: Annotated[int, Path(ge=0, le=2**31)], token: Annotated[int, Query(ge=1, le=_LARGEST)]
    ) -> Response:
        """Give the n-th film of a leased work, as it came, from whichever intake's spool it lies in."""
        with _answers():
            film = self._worklist.source(work, token, n)
        if isinstance(film, bytes):
            return Response(film, media_type="application/dicom")
        return _Film(film, media_type="application/dicom")


def make_leases_router(context: Context) -> APIRouter:
    """Make the routes below /v1/leases. Who may use them is for the app to say."""
    router = APIRouter(prefix="/v1/leases", tags=["leases"])
    door = _Door(StoreWorklist(context))
    router.add_api_route("", door.lease, methods=["POST"])
    router.add_api_route("/abandon", door.abandon, methods=["POST"])
    router.add_api_route("/{work}/extend", door.extend, methods=["POST"], responses=_LOST)
    router.add_api_route("/{work}/complete", door.complete, methods=["POST"], status_code=204, responses=_LOST)
    router.add_api_route("/{work}/shadow", door.shadow, methods=["POST"], status_code=204, responses=_LOST)
    router.add_api_route("/{work}/fail", door.fail, methods=["POST"], status_code=204, responses=_LOST)
    router.add_api_route(
        "/{work}/sources/{n}", door.source, methods=["GET"], response_class=_Film, responses=_LOST | _GONE | _AWAY
    )
    return router


def _reading(completion: Completion) -> StoredReading:
    try:
        return completion.parsed()
    except ValueError as error:
        raise HTTPException(422, "that is no reading") from error


@contextmanager
def _answers() -> Iterator[None]:
    try:
        yield
    except LeaseLost as error:
        raise HTTPException(409, str(error)) from error
    except SourceMissing as error:
        raise HTTPException(404, str(error)) from error
    except SiblingAway as error:
        raise HTTPException(424, str(error)) from error


def _name(owner: str) -> str:
    """Keep readers that come over HTTP from giving back what one of our own processes has leased."""
    return f"http:{owner}"
