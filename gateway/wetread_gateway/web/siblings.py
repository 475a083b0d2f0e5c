"""The door for the other intakes: a film that lies in this one's spool, as it came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query
from fastapi.responses import FileResponse

if TYPE_CHECKING:
    from wetread_gateway.context import Context

_CHUNK = 1 << 20  # 64 KiB, the default, costs a thread switch each
Home = Annotated[str, Path(max_length=48)]
Name = Annotated[str, Path(max_length=80, pattern=r"^[01]-[0-9]{20}-[a-z0-9-]+\.dcm$")]
_ELSE: dict[int | str, dict[str, Any]] = {
    410: {"description": "The film is nowhere in this intake's spool."},
    421: {"description": "This is another intake."},
}


class _Film(FileResponse):
    chunk_size = _CHUNK


def make_siblings_router(context: Context) -> APIRouter:
    """Make the route below /v1/siblings. Who may use it is for the app to say."""
    router = APIRouter(prefix="/v1/siblings", tags=["siblings"])

    def film(home: Home, name: Name, study: Annotated[str, Query(max_length=64)] = "") -> _Film:
        """Give a film of this intake's spool; `home` is the intake that is meant."""
        if home != context.home:
            raise HTTPException(421, f"this is the intake {context.home!r}")
        try:
            return _Film(context.spool.locate(name, study), media_type="application/dicom")
        except FileNotFoundError as error:
            raise HTTPException(410, "the film is nowhere in this intake's spool") from error

    router.add_api_route("/{home}/{name}", film, methods=["GET"], response_class=_Film, responses=_ELSE)
    return router
