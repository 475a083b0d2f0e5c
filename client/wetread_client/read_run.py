"""Read films and series, each with its own pipeline, and give what became of each."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 -- a field's type
from typing import TYPE_CHECKING

from wetread_client.choosing import Choice, choose
from wetread_client.errors import Rejected, ServerError, Status, Unavailable, WetreadError
from wetread_client.sorting import as_films, sort

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from wetread_client.client import Client
    from wetread_client.reading import Reading
    from wetread_client.sorting import Sorted, Work

FILM_S, SERIES_S = 30.0, 300.0
_SERIES_AT_ONCE = 2  # one is read by the server while the next is copied; more would only fill its memory


@dataclass(frozen=True, slots=True)
class Plan:
    """A film or a series and the pipeline that reads it."""

    work: Work
    choice: Choice


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a film or a series: a reading, or the error that stands in its place.

    `segmentation`: the file that it was written to.
    """

    plan: Plan
    reading: Reading | None = None
    error: WetreadError | OSError | None = None
    segmentation: Path | None = None


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read; `timeout_s`: for each film or series, None for what each usually takes."""

    concurrency: int = 8
    any_body_part: bool = False
    heatmap: bool = False
    timeout_s: float | None = None


class Reader:
    """One client a pipeline, made by `connect` when it is first needed; closed at the end."""

    def __init__(self, connect: Callable[[str], Client], options: ReadOptions) -> None:
        self._connect = connect
        self._options = options
        self._clients: dict[str, Client] = {}
        self._open = ExitStack()

    def plan(self, files: Sequence[Path], named: frozenset[Path], pipeline: str | None) -> tuple[list[Plan], Sorted]:
        """Sort files into films and series and choose a pipeline for each; `pipeline`: reads all of them instead."""
        if pipeline is None:
            found = sort(files, named=named)
            return [Plan(work, choose(work.modality, work.body_part)) for work in found.works], found
        told = Choice(pipeline, f"--pipeline {pipeline}")
        found = sort(files, named=named, by_series=lambda _: True) if self._takes_series(pipeline) else as_films(files)
        return [Plan(work, told) for work in found.works], found

    def trouble(self, plans: Sequence[Plan]) -> str | None:
        """Say once what would fail all, None when a pipeline that is needed is ready."""
        pipelines = sorted({plan.choice.pipeline for plan in plans if plan.choice.pipeline})
        clients = [self._client(pipeline) for pipeline in pipelines]
        if not clients or any(client.is_ready() for client in clients):
            return None
        if not clients[0].is_live():
            return f"no server answers at {clients[0].url}; start one with `wetread serve` or name another with --url"
        return "; ".join(_unserved(client) for client in clients) + "; `wetread doctor` tells more"

    def read(self, plans: Sequence[Plan]) -> Iterator[Outcome]:
        """Read all; outcomes come as they are ready."""
        groups: dict[str, list[Plan]] = {}
        for plan in plans:
            if plan.choice.pipeline is None:
                yield Outcome(plan, error=Rejected("UnsupportedImage", plan.choice.why))
            else:
                groups.setdefault(plan.choice.pipeline, []).append(plan)
        for pipeline, group in groups.items():
            client = self._client(pipeline)
            if not client.is_ready():
                reason = Unavailable(Status.NOT_FOUND.value, _unserved(client))
                yield from (Outcome(plan, error=reason) for plan in group)
                continue
            yield from self._films(client, [plan for plan in group if not plan.work.is_series])
            yield from self._series(client, [plan for plan in group if plan.work.is_series])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def _films(self, client: Client, plans: Sequence[Plan]) -> Iterator[Outcome]:
        by_file = {plan.work.files[0]: plan for plan in plans}
        results = client.read_many(
            by_file,
            self._options.concurrency,
            any_body_part=self._options.any_body_part,
            heatmap=self._options.heatmap,
            deadline_s=self._options.timeout_s or FILM_S,
        )
        for result in results:
            yield Outcome(by_file[result.file], result.reading, result.error)

    def _series(self, client: Client, plans: Sequence[Plan]) -> Iterator[Outcome]:
        with ThreadPoolExecutor(min(_SERIES_AT_ONCE, self._options.concurrency), "wetread-series") as threads:
            try:
                waiting: list[Future[Outcome]] = [threads.submit(self._one_series, client, plan) for plan in plans]
                for future in as_completed(waiting):
                    yield future.result()
            finally:
                threads.shutdown(wait=True, cancel_futures=True)

    def _one_series(self, client: Client, plan: Plan) -> Outcome:
        deadline_s = self._options.timeout_s or SERIES_S
        try:
            reading = client.read_series(
                plan.work.files,
                any_body_part=self._options.any_body_part,
                heatmap=self._options.heatmap,
                deadline_s=deadline_s,
            )
        except (WetreadError, OSError) as error:
            return Outcome(plan, error=error)
        return Outcome(plan, reading)

    def _client(self, pipeline: str) -> Client:
        if pipeline not in self._clients:
            self._clients[pipeline] = self._open.enter_context(self._connect(pipeline))
        return self._clients[pipeline]

    def _takes_series(self, pipeline: str) -> bool:
        """Ask the server; where it does not say, films are what it is taken for, and each fails with the reason."""
        try:
            return self._client(pipeline).takes_series()
        except (ServerError, Unavailable):
            return False


def _unserved(client: Client) -> str:
    return (
        f"the server at {client.url} does not serve the pipeline {client.pipeline}: put its model there "
        "(`wetread release publish`), or name a pipeline that it serves with --pipeline"
    )
