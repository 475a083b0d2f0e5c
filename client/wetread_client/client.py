"""Read films and series on a server: retries, deadlines, and labels that belong to the release that answered."""

from __future__ import annotations

import itertools
import os
import re
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from wetread_client.asking import Asking, Wishes
from wetread_client.connect import Way, connect
from wetread_client.errors import Rejected, WetreadError
from wetread_client.film import is_picture, secondary_capture
from wetread_client.reading import Reading
from wetread_client.retry import Clock, Retry
from wetread_client.transport import LENGTHS, BufferPayload, FilePayload, SeriesPayload, Transport

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence
    from types import TracebackType
    from typing import Self

    from typing_extensions import Buffer

    from wetread_client.card import PipelineCard
    from wetread_client.transport import Payload

_NAMED_FILE = re.compile(r"\bfile (\d+) of (\d+)\b")  # how a server names a file of a series: by its place, from 1


@dataclass(frozen=True, slots=True)
class FilmResult:
    """What became of one file of many: a reading, or the error that stands in its place."""

    file: Path
    reading: Reading | None = None
    error: WetreadError | OSError | None = None


class Client:
    """Reads films, or series, with one pipeline of one server; safe to use from many threads.

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
        self._asking = Asking(self._transport, pipeline, clock)

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
        name = str(film) if isinstance(film, Path | str) else None
        try:
            payload, wrapped = _payload(film)
            wishes = Wishes.of_film(
                declared_film=declared_film or wrapped, any_body_part=any_body_part, heatmap=heatmap
            )
            return self._read(payload, wishes, started, deadline_s)
        except WetreadError as error:
            error.file = error.file or name
            raise

    def read_series(
        self,
        files: Sequence[Path | str | Buffer],
        *,
        any_body_part: bool = False,
        segmentation: bool = True,
        heatmap: bool = True,
        deadline_s: float | None = None,
    ) -> Reading:
        """Read one series as a whole: its DICOM files, or their bytes, in any order.

        `segmentation`, `heatmap`: ask for them, where the release makes them. Other arguments as in `read`.
        Rejected, Unavailable or ServerError; where the server names one of the files, the error's `file` is that one,
        else the folder that holds them all. OSError when a file cannot be read.
        """
        started = self._clock.monotonic()
        try:
            payload = SeriesPayload([_file_payload(file) for file in files])
            wishes = Wishes.of_series(any_body_part=any_body_part, segmentation=segmentation, heatmap=heatmap)
            return self._read(payload, wishes, started, deadline_s)
        except WetreadError as error:
            error.file = error.file or _file_at_fault(error.message, files)
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
        return self._asking.card(release)

    def takes_series(self, timeout_s: float = 2.0) -> bool:
        """Say whether this client's pipeline takes series (`read_series`) and not films (`read`)."""
        return LENGTHS in self._transport.inputs(self.pipeline, timeout_s)

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

    def _read(self, payload: Payload, wishes: Wishes, started: float, deadline_s: float | None) -> Reading:
        if not payload.size:
            raise Rejected("InvalidDicom", "the file is empty")
        deadline_s = self._timeout_s if deadline_s is None else deadline_s
        left_s = deadline_s - (self._clock.monotonic() - started)
        answer, card = self._retry.call(partial(self._asking.ask, payload, wishes), left_s, self._clock)
        return Reading.of_answer(answer, card, (self._clock.monotonic() - started) * 1e3)

    def _result(self, file: Path, *, any_body_part: bool, heatmap: bool, deadline_s: float | None) -> FilmResult:
        try:
            reading = self.read(file, any_body_part=any_body_part, heatmap=heatmap, deadline_s=deadline_s)
        except (WetreadError, OSError) as error:
            return FilmResult(file, error=error)
        return FilmResult(file, reading)


def _payload(film: Path | str | Buffer) -> tuple[Payload, bool]:
    """Give a film's bytes, and whether they were wrapped here."""
    if isinstance(film, Path | str) and is_picture(path := Path(film)):
        return BufferPayload(secondary_capture(path)), True
    return _file_payload(film), False


def _file_payload(file: Path | str | Buffer) -> FilePayload | BufferPayload:
    return FilePayload(Path(file)) if isinstance(file, Path | str) else BufferPayload(file)


def _file_at_fault(message: str, files: Sequence[Path | str | Buffer]) -> str | None:
    """Give the file that an error names by its place, else the folder of all; None where they have no names."""
    for place, count in _NAMED_FILE.findall(message):
        if int(count) == len(files) and 0 < int(place) <= len(files):
            named = files[int(place) - 1]
            return str(named) if isinstance(named, Path | str) else None
    folders = [str(Path(file).absolute().parent) for file in files if isinstance(file, Path | str)]
    return os.path.commonpath(folders) if folders else None
