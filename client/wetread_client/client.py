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
from wetread_client.errors import Rejected, ServerError, Status, WetreadError
from wetread_client.film import is_picture, secondary_capture
from wetread_client.reading import Reading
from wetread_client.retry import Clock, Retry
from wetread_client.transport import BufferPayload, FilePayload, InferAnswer, InferRequest, Transport

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from types import TracebackType
    from typing import Self

    from typing_extensions import Buffer

_OUTPUTS = ("PROBABILITY", "POSITIVE", "NOVELTY", "NOTES")


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

    def request(self, model: str, film: FilePayload | BufferPayload, *, card: bool) -> InferRequest:
        outputs = _OUTPUTS + ("HEATMAP",) * self.heatmap + ("CARD",) * card
        chosen = (("declared_film", self.declared_film), ("any_body_part", self.any_body_part))
        return InferRequest(model, film, outputs, tuple((name, True) for name, wanted in chosen if wanted))


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
        self._cards: dict[int, PipelineCard] = {}
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
        `heatmap`: ask for the heatmap too. `deadline_s`: seconds for all of it, retries included.
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
            return self._cards.get(release)

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
        used whole: between the two the release may have changed once more.
        """
        deadline = self._clock.monotonic() + timeout_s
        if self._cards:
            answer = self._transport.infer(wishes.request(self.pipeline, film, card=False), timeout_s)
            if known := self.card(answer.model_version):
                return answer, known
        remaining_s = deadline - self._clock.monotonic()
        answer = self._transport.infer(wishes.request(self.pipeline, film, card=True), remaining_s)
        try:
            card = PipelineCard.parse(answer.outputs["CARD"].tobytes())
        except (CardError, KeyError) as error:
            raise ServerError(Status.INTERNAL.value, f"release {answer.model_version}: {error}") from error
        with self._lock:
            self._cards[answer.model_version] = card
        return answer, card


def _payload(film: Path | str | Buffer) -> tuple[FilePayload | BufferPayload, bool]:
    """Give a film's bytes, and whether they were wrapped here."""
    if not isinstance(film, Path | str):
        return BufferPayload(film), False
    path = Path(film)
    if is_picture(path):
        return BufferPayload(secondary_capture(path)), True
    return FilePayload(path), False
