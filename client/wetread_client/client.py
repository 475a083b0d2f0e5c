"""Read films on a server: retries, deadlines, and labels that belong to the release that answered."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from wetread_client.card import CardError, PipelineCard
from wetread_client.connect import Way, connect
from wetread_client.errors import NoSuchOutput, Rejected, ServerError, Status, Unavailable, WetreadError
from wetread_client.film import is_picture, secondary_capture
from wetread_client.reading import Reading
from wetread_client.retry import Clock, Retry
from wetread_client.transport import BufferPayload, FilePayload, InferAnswer, InferRequest, Transport

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from types import TracebackType
    from typing import Self

    from typing_extensions import Buffer

_OUTPUTS = ("PROBABILITY", "POSITIVE", "NOTES")  # every film classifier has them
_OPTIONAL = ("NOVELTY", "HEATMAP")
_TURNS = 5
"""Requests a try: releases may change between two of them, but hardly so often."""


@dataclass(frozen=True, slots=True)
class FilmResult:
    """What became of one file of many: a reading, or the error that stands in its place."""

    file: Path
    reading: Reading | None = None
    error: WetreadError | OSError | None = None


@dataclass(frozen=True, slots=True)
class _Wishes:
    """What a caller wants of one reading."""

    declared_film: bool
    any_body_part: bool
    heatmap: bool

    def of(self, offered: frozenset[str]) -> tuple[str, ...]:
        """Choose of the outputs that a release offers."""
        return tuple(o for o in _OPTIONAL if o in offered and (self.heatmap or o != "HEATMAP"))

    def request(
        self, model: str, film: FilePayload | BufferPayload, offered: frozenset[str], *, card: bool
    ) -> InferRequest:
        outputs = _OUTPUTS + self.of(offered) + ("CARD",) * card
        chosen = (("declared_film", self.declared_film), ("any_body_part", self.any_body_part))
        return InferRequest(model, film, outputs, tuple((name, True) for name, wanted in chosen if wanted))


@dataclass(frozen=True, slots=True)
class _Release:
    """What is known of a release that has answered."""

    card: PipelineCard
    offered: frozenset[str]


class Client:
    """Reads films with one pipeline of one server; safe to use from many threads.

    `transport`: `auto` (shared memory beside the server, else the address's protocol), `shm`, `http`, `grpc`, or a
    transport of your own, such as a FakeTransport. `timeout_s`: the deadline of a reading that is given none.
    `retry`: when to send a film again. `ca`: PEM file of the authorities to trust (https, grpcs).
    ValueError when the address is none.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        pipeline: str = "chest_xray",
        *,
        transport: Way | Transport = "auto",
        timeout_s: float = 30.0,
        retry: Retry | None = None,
        ca: Path | None = None,
        clock: Clock = time,
    ) -> None:
        self.url = url
        self.pipeline = pipeline
        self._transport = connect(url, transport, ca) if isinstance(transport, str) else transport
        self._timeout_s = timeout_s
        self._retry = retry or Retry()
        self._clock = clock
        self._known: dict[int, _Release] = {}
        self._last: _Release | None = None
        self._lock = threading.Lock()

    def read(
        self,
        film: Path | str | Buffer,
        *,
        declared_film: bool = False,
        any_body_part: bool = False,
        heatmap: bool = True,
        deadline_s: float | None = None,
    ) -> Reading:
        """Read one film: a file, or the bytes of one.

        A PNG, JPEG or TIFF *file* is wrapped as a Secondary Capture and declared a film.
        `declared_film`: take a Secondary Capture for a film. `any_body_part`: whatever part the file says it shows.
        `heatmap`: ask for the heatmap too, where the release makes one. `deadline_s`: seconds for all of it, with
        retries.
        Rejected, Unavailable or ServerError; OSError when the file cannot be read.
        """
        started = self._clock.monotonic()
        deadline_s = self._timeout_s if deadline_s is None else deadline_s
        name = str(film) if isinstance(film, Path | str) else None
        try:
            payload, wrapped = _payload(film)
            if not payload.size:
                raise Rejected("InvalidDicom", "the file is empty")
            wishes = _Wishes(declared_film or wrapped, any_body_part, heatmap)
            left_s = deadline_s - (self._clock.monotonic() - started)
            answer, card = self._retry.call(partial(self._attempt, payload, wishes), left_s, self._clock)
            return Reading.of_answer(answer, card, (self._clock.monotonic() - started) * 1e3)
        except WetreadError as error:
            error.file = error.file or name
            raise

    def read_many(
        self,
        films: Iterable[Path],
        concurrency: int = 8,
        *,
        any_body_part: bool = False,
        heatmap: bool = True,
        deadline_s: float | None = None,
    ) -> Generator[FilmResult, None, None]:
        """Read files, `concurrency` at a time; results come as they are ready, errors in the place of readings.

        Files are taken from `films` no faster than they are read. Other arguments as in `read`.
        """
        read = partial(self._result, any_body_part=any_body_part, heatmap=heatmap, deadline_s=deadline_s)
        files = iter(films)
        with ThreadPoolExecutor(concurrency, "wetread-read") as threads:
            waiting: set[Future[FilmResult]] = set()
            try:
                while True:
                    for file in itertools.islice(files, 2 * concurrency - len(waiting)):
                        waiting.add(threads.submit(read, file))
                    if not waiting:
                        return
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield future.result()
            finally:
                threads.shutdown(wait=True, cancel_futures=True)

    def card(self, release: int) -> PipelineCard | None:
        """Give the card of a release that has answered this client, None for one that has not."""
        with self._lock:
            known = self._known.get(release)
        return None if known is None else known.card

    def is_live(self, timeout_s: float = 2.0) -> bool:
        """Say whether a server answers at this address."""
        return self._transport.is_live(timeout_s)

    def is_ready(self, timeout_s: float = 2.0) -> bool:
        """Say whether the server serves this client's pipeline now."""
        return self._transport.is_ready(self.pipeline, timeout_s)

    def releases(self, timeout_s: float = 2.0) -> tuple[int, ...]:
        """Give the releases of this client's pipeline that the server serves."""
        return self._transport.versions(self.pipeline, timeout_s)

    def close(self) -> None:
        """Close connections and remove shared memory; may be called twice."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _result(self, file: Path, *, any_body_part: bool, heatmap: bool, deadline_s: float | None) -> FilmResult:
        try:
            reading = self.read(file, any_body_part=any_body_part, heatmap=heatmap, deadline_s=deadline_s)
        except (WetreadError, OSError) as error:
            return FilmResult(file, error=error)
        return FilmResult(file, reading)

    def _attempt(
        self, film: FilePayload | BufferPayload, wishes: _Wishes, timeout_s: float
    ) -> tuple[InferAnswer, PipelineCard]:
        """Get one answer and the card of the release that gave it.

        An answer of a release not met before is asked for again together with its card, and that second answer is
        used whole: between the two the release may have changed once more. Only outputs that are there are asked for.
        """
        deadline = self._clock.monotonic() + timeout_s
        known = self._last
        for _ in range(_TURNS):
            offered = self._offered(deadline) if known is None else known.offered
            request = wishes.request(self.pipeline, film, offered, card=known is None)
            try:
                answer = self._transport.infer(request, deadline - self._clock.monotonic())
            except NoSuchOutput:  # a release without it has taken over
                known = None
                continue
            if known is None:
                self._learn(answer, offered, deadline)
            with self._lock:
                known = self._known.get(answer.model_version)
                self._last = known or self._last
            if known is not None and set(wishes.of(known.offered)) <= answer.outputs.keys():
                return answer, known.card
        raise Unavailable(Status.ABORTED.value, f"{self.pipeline} changed its release under {_TURNS} requests")

    def _offered(self, deadline: float, release: int | None = None) -> frozenset[str]:
        """Ask which outputs there are; where the server will not say, take it that there are all."""
        try:
            return self._transport.outputs(self.pipeline, deadline - self._clock.monotonic(), release)
        except ServerError:
            return frozenset(_OPTIONAL)

    def _learn(self, answer: InferAnswer, offered: frozenset[str], deadline: float) -> None:
        """Keep the card that came with an answer, and which outputs its release has."""
        release = answer.model_version
        try:
            card = PipelineCard.parse(answer.outputs["CARD"].tobytes())
        except (CardError, KeyError) as error:
            raise ServerError(Status.INTERNAL.value, f"release {release}: {error}") from error
        if not offered.issuperset(_OPTIONAL):  # were they asked of this release, or of the one before it?
            offered = self._offered(deadline, release)
        with self._lock:
            self._known[release] = _Release(card, offered)


def _payload(film: Path | str | Buffer) -> tuple[FilePayload | BufferPayload, bool]:
    """Give a film's bytes, and whether they were wrapped here."""
    if not isinstance(film, Path | str):
        return BufferPayload(film), False
    path = Path(film)
    if is_picture(path):
        return BufferPayload(secondary_capture(path)), True
    return FilePayload(path), False
