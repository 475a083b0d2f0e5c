"""A real HTTP door for the tests: uvicorn on a free port over a real spool and state store."""

import contextlib
import dataclasses
import io
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import films
import httpx
import numpy as np
from pydicom.uid import UID
from waiting import WAIT_S
from wetread_gateway.audit import JsonLinesAudit
from wetread_gateway.config.settings import Dicom, Gateway, Http, Intake, Peer, Settings
from wetread_gateway.context import Context
from wetread_gateway.spool.spool import Spool
from wetread_gateway.state.store import StateStore
from wetread_gateway.web import stage

STUDY = "1.2.826.0.1.3680043.8.498.10"
BOUNDARY = "wetread-boundary"
_NUMBERS = itertools.count(1)


@dataclass
class Live:
    """Settings that a test may change."""

    current: Settings


@dataclass
class Door:
    """A door that is open, and its context."""

    context: Context
    url: str
    settings: Settings
    client: httpx.Client = field(repr=False)

    def stow(self, *parts: bytes, study: str = "", **headers: str) -> httpx.Response:
        path = f"/studies/{study}" if study else "/studies"
        return self.client.post(path, content=related(*parts), headers={**RELATED, **headers})

    def received(self) -> list[Path]:
        return self.context.spool.arrivals(100_000)

    def audited(self) -> list[str]:
        return (self.settings.gateway.state_dir / "audit" / "http.jsonl").read_text().splitlines()


RELATED = {"Content-Type": f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'}


def related(*parts: bytes, header: bytes = b"Content-Type: application/dicom\r\n") -> bytes:
    line = f"--{BOUNDARY}".encode()
    body = b"".join(line + b"\r\n" + header + b"\r\n" + part + b"\r\n" for part in parts)
    return body + line + b"--\r\n"


def stow_head(length: int) -> bytes:
    """Give the head of a STOW-RS request, for tests that speak to the socket."""
    lines = (
        "POST /studies HTTP/1.1",
        "Host: x",
        f"Content-Length: {length}",
        f"Content-Type: {RELATED['Content-Type']}",
    )
    return "\r\n".join((*lines, "", "")).encode()


def instance(study: str = STUDY, sop: str | None = None, size: int = 16, **attributes: object) -> tuple[str, bytes]:
    """Give the SOP Instance UID and the bytes of a film of noise."""
    sop = sop or f"1.2.826.0.1.3680043.8.498.99.{next(_NUMBERS)}"
    noise = np.random.default_rng(7).integers(0, 4096, (size, size), dtype=np.uint16)
    dataset = films.film(
        noise, SOPInstanceUID=UID(sop), StudyInstanceUID=UID(study), SeriesInstanceUID=UID(study + ".1"), **attributes
    )
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return sop, buffer.getvalue()


def settings_for(folder: Path, **http: object) -> Settings:
    return Settings(
        gateway=Gateway(state_dir=folder, drain_s=5.0),
        dicom=Dicom(),
        http=Http(port=0, **{"patience_s": 60.0, **http}),
        intake=Intake(watermark_free_bytes=0),
        peer=(Peer("CT-STAT", stat=True),),
    )


def make_context(settings: Settings, **parts: object) -> Context:
    folder = settings.gateway.state_dir
    folder.mkdir(parents=True, exist_ok=True)
    made = {
        "slot": "http",
        "live": Live(settings),
        "spool": Spool(folder / "spool"),
        "store": StateStore(folder),
        "audit": JsonLinesAudit(folder / "audit", "http"),
        "bells": folder / "bells",
    }
    return Context(**{**made, **parts})


@contextlib.contextmanager
def open_door(settings: Settings, *, verify: object = True, cert: object = None, **parts: object) -> Iterator[Door]:
    """Open a door on a free port (0 in the settings means off to the stage, not here)."""
    context = make_context(settings, **parts)
    door = stage.open_door(context)
    scheme = "https" if settings.http.tls else "http"
    url = f"{scheme}://{settings.http.host}:{door.port}"
    try:
        with httpx.Client(base_url=url, verify=verify, cert=cert, timeout=WAIT_S) as client:
            yield Door(context, url, settings, client)
    finally:
        context.stop.set()
        door.close(wait=True)
        context.store.close()
        context.audit.close()


def with_http(settings: Settings, **http: object) -> Settings:
    return dataclasses.replace(settings, http=dataclasses.replace(settings.http, **http))


def waiting_work(age_s: float) -> dict[str, object]:
    """Give a row of `works` that waits to be read since `age_s`."""
    return {
        "kind": "read", "state": "waiting", "study_uid": STUDY, "patient_digest": "", "sources": [],
        "sources_digest": "", "number": 1, "pipeline": "p", "arm": "stable", "rule": "r", "priority": 2,
        "destinations": [], "options": {}, "completeness": "single", "created_at": time.time() - age_s,
        "changed_at": time.time(),
    }  # fmt: skip
