"""Films wherever they lie: in this intake's spool, or fetched from the spool of a sibling over HTTP."""

from __future__ import annotations

import ssl
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx

from wetread_gateway.config.files import first_line
from wetread_gateway.errors import SiblingAway, SourceMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from wetread_gateway.config.settings import Settings
    from wetread_gateway.spool.spool import Spool

REST_S = 1.0
"""Seconds that a sibling which did not answer is not asked again."""
_TIMEOUT = httpx.Timeout(30.0, connect=3.0)
_CHUNK = 1 << 20
_FETCHERS = 8


@dataclass(frozen=True, slots=True)
class Held:
    """A file of a spool. `path`: as its row has it; its name is what counts."""

    home: str
    path: str
    study_uid: str

    @property
    def name(self) -> str:
        """Its name, which never changes."""
        return Path(self.path).name


class Siblings:
    """The files of all intakes, for the process `slot` of one of them. Safe to use from many threads."""

    def __init__(self, spool: Spool, slot: str, settings: Callable[[], Settings]) -> None:
        self._spool = spool
        self._slot = slot
        self._settings = settings
        self._lock = threading.Lock()
        self._http: httpx.Client | None = None
        self._stamp: list[int] = []
        self._folder: Path | None = None
        self._resting: dict[str, float] = {}

    def film(self, held: Held) -> Path | bytes:
        """Give a file of ours, or the bytes of a sibling's; SourceMissing when it is gone, SiblingAway."""
        if self._is_ours(held):
            return self._ours(held)
        with self._asked(held) as answer:
            return answer.read()

    @contextmanager
    def borrowed(self, films: Iterable[Held]) -> Iterator[list[Path]]:
        """Give files, a sibling's as copies that are gone afterwards; SourceMissing, SiblingAway."""
        wanted = list(films)
        if all(map(self._is_ours, wanted)):
            yield list(map(self._ours, wanted))
            return
        with tempfile.TemporaryDirectory(prefix=f"{self._slot}~", dir=self._make_folder()) as folder:
            goals = [Path(folder) / f"{number}.dcm" for number in range(len(wanted))]
            with ThreadPoolExecutor(_FETCHERS, "fetch") as threads:  # or the distance counts for each
                files = list(threads.map(self._given, wanted, goals))
            yield files

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._http is not None:
                self._http.close()
            self._http = None

    def _is_ours(self, held: Held) -> bool:
        return held.home == self._settings().gateway.name

    def _ours(self, held: Held) -> Path:
        if not held.path:
            raise SourceMissing("its file has left the spool")
        try:
            return self._spool.locate(held.path, held.study_uid)
        except FileNotFoundError as error:
            raise SourceMissing(str(error)) from error

    def _given(self, held: Held, to: Path) -> Path:
        """Give a file of ours, or a copy of a sibling's in `to`."""
        if self._is_ours(held):
            return self._ours(held)
        with self._asked(held) as answer, to.open("wb") as file:
            for chunk in answer.iter_bytes(_CHUNK):
                file.write(chunk)
        return to

    @contextmanager
    def _asked(self, held: Held) -> Iterator[httpx.Response]:
        """Ask the file's home for it."""
        if not held.path:
            raise SourceMissing("its file has left the spool")
        gateway = self._settings().gateway
        if not gateway.sibling_url:
            raise SiblingAway(f"an image lies at {held.home!r}, and gateway.sibling_url does not say where that is")
        if time.monotonic() < self._resting.get(held.home, 0.0):
            raise SiblingAway(f"{held.home} did not answer a moment ago")
        root = gateway.sibling_url.replace("{name}", held.home).rstrip("/")
        url = f"{root}/v1/siblings/{quote(held.home)}/{quote(held.name)}"
        token = gateway.sibling_token_file
        try:
            headers = {} if token is None else {"Authorization": f"Bearer {first_line(token)}"}
            with self._client().stream("GET", url, params={"study": held.study_uid}, headers=headers) as answer:
                self._judge(held, answer.status_code)
                yield answer
        except (httpx.TransportError, RuntimeError, OSError) as error:  # RuntimeError: closed for a new certificate
            self._resting[held.home] = time.monotonic() + REST_S
            raise SiblingAway(f"no answer from {held.home}: {type(error).__name__}") from error

    def _judge(self, held: Held, status: int) -> None:
        if status == httpx.codes.GONE:
            raise SourceMissing(f"an image is nowhere in the spool of {held.home}")
        if status != httpx.codes.OK:  # a wrong token, a proxy, another intake behind that address
            self._resting[held.home] = time.monotonic() + REST_S
            raise SiblingAway(f"{held.home} answers {status}")

    def _client(self) -> httpx.Client:
        """Give the connections; new ones when a certificate was renewed in its place."""
        settings = self._settings()
        authorities, ours = settings.gateway.sibling_authorities, settings.http.tls
        files = [] if ours is None else [ours.certificate, ours.key]
        stamp = [file.stat().st_mtime_ns for file in (*files, *([authorities] if authorities else []))]
        with self._lock:
            if self._http is None or stamp != self._stamp:
                tls = ssl.create_default_context(cafile=authorities)
                if ours is not None:  # where doors ask for certificates, intakes show each other theirs
                    tls.load_cert_chain(ours.certificate, ours.key)
                if self._http is not None:
                    self._http.close()
                self._http, self._stamp = httpx.Client(verify=tls, timeout=_TIMEOUT, trust_env=False), stamp
            return self._http

    def _make_folder(self) -> Path:
        """Give where copies lie; those of a former process of this name go."""
        with self._lock:
            if self._folder is None:
                folder = self._spool.root.parent / "borrowed"
                folder.mkdir(exist_ok=True)
                for left in folder.glob(f"{self._slot}~*"):
                    rmtree(left, ignore_errors=True)
                self._folder = folder
            return self._folder
