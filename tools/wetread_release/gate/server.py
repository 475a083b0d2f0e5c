"""One Triton that serves draft and reference side by side, and what is asked of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from wetread_client import Client, Rejected, WetreadError
from wetread_embedded import EmbeddedTriton, ServerConfig
from wetread_embedded.errors import EmbeddedError, ServerCallFailed
from wetread_embedded.rest import Rest

from wetread_release.errors import ServeFailed
from wetread_release.gate.lay_out import MARK, check_served_on_cpu, provide_backends

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from wetread_client import Reading

    from wetread_release.gate.films import GateFilm
    from wetread_release.gate.lay_out import Side

CONCURRENCY = 4
_HEATMAPS = 48
"""Films whose heatmaps are compared: enough to see a difference, and they are large."""
_DEADLINE_S = 120.0
_NO_CANARIES_S = 3600.0
"""They would only take time from what is measured."""


@dataclass(frozen=True)
class Answer:
    """What one side says of one film."""

    probability: tuple[float, ...] = ()
    """[C]; empty: it did not read the film."""
    positive: tuple[bool, ...] = ()
    novelty: float | None = None
    heatmap: NDArray[np.uint8] | None = None
    """uint8 [C, h, w], for the first films."""
    error: str = ""
    """Why it did not."""
    is_refusal: bool = False
    """The film is at fault, not the server."""

    @property
    def is_read(self) -> bool:
        """Whether there is an answer."""
        return not self.error


class GateServer:
    """A running server with the given sides. `stub_pids`: gives the processes of its models, where they are known."""

    def __init__(
        self, url: str, rest: Rest, sides: Sequence[Side], stub_pids: Callable[[], Mapping[str, Sequence[int]]] = dict
    ) -> None:
        self.rest = rest
        self.stub_pids = stub_pids
        self.sides = tuple(sides)
        self.clients = {side.name: Client(url, side.ensemble, timeout_s=_DEADLINE_S) for side in sides}

    def read(self, side: Side, film: bytes, *, heatmap: bool = False) -> Reading:
        """Let a side read a film; the errors of the client."""
        return self.clients[side.name].read(film, declared_film=True, any_body_part=True, heatmap=heatmap)

    def read_all(
        self, films: Sequence[GateFilm], done: Callable[[], None] = lambda: None
    ) -> dict[str, tuple[Answer, ...]]:
        """Let all sides read all films; give the answers by side, in the order of the films."""

        def of_film(numbered: tuple[int, GateFilm]) -> list[Answer]:
            number, film = numbered
            answers = self._answers(film, heatmap=number < _HEATMAPS)
            done()
            return answers

        with ThreadPoolExecutor(CONCURRENCY, "gate") as threads:
            rows = list(threads.map(of_film, enumerate(films)))
        return {side.name: tuple(row[place] for row in rows) for place, side in enumerate(self.sides)}

    def labels(self, side: Side) -> tuple[str, ...]:
        """Give the findings of a side that has answered; empty for one that has not."""
        card = self.clients[side.name].card(1)
        return () if card is None else tuple(finding.label for finding in card.findings)

    def thresholds(self, side: Side) -> tuple[float, ...]:
        """Give the thresholds of a side's findings; empty for one that has not answered."""
        card = self.clients[side.name].card(1)
        return () if card is None else tuple(finding.threshold for finding in card.findings)

    def close(self) -> None:
        """Close the clients; the server runs on."""
        for client in self.clients.values():
            client.close()

    def _answers(self, film: GateFilm, *, heatmap: bool) -> list[Answer]:
        try:
            content = film.load()
        except (WetreadError, OSError) as error:
            return [Answer(error=f"{error}", is_refusal=True)] * len(self.sides)
        return [self._answer(side, content, heatmap=heatmap) for side in self.sides]

    def _answer(self, side: Side, film: bytes, *, heatmap: bool) -> Answer:
        try:
            reading = self.read(side, film, heatmap=heatmap)
        except WetreadError as error:
            return Answer(error=str(error), is_refusal=isinstance(error, Rejected))
        return Answer(
            tuple(finding.probability for finding in reading.findings),
            tuple(finding.positive for finding in reading.findings),
            reading.novelty,
            reading.heatmap,
        )


@contextmanager
def serving(sides: Sequence[Side], backends: Path, scratch: Path, startup_timeout_s: float) -> Iterator[GateServer]:
    """Serve the sides in a Triton of their own; `scratch`: an empty folder for all that it needs.

    Raises:
        ServeFailed: the server does not start, or a model does not load; with Triton's words.
    """
    root = scratch / "root"
    root.mkdir()
    provide_backends(root, backends)
    for side in sides:
        check_served_on_cpu(side)
        side.write(root)
    triton = EmbeddedTriton(
        ServerConfig.on_free_ports(
            root=root,
            store=scratch / "served",
            state=scratch / "state",
            startup_timeout_s=startup_timeout_s,
            canary_interval_s=_NO_CANARIES_S,
            exit_timeout_s=1.0,  # nothing is in flight then
        )
    )
    try:
        triton.start()
    except EmbeddedError as error:
        raise ServeFailed(_blame(str(error), sides)) from error
    server = GateServer(triton.http_url, triton.rest, sides, triton.stub_pids)
    try:
        yield server
    finally:
        server.close()
        triton.stop()


@contextmanager
def asking(url: str, sides: Sequence[Side]) -> Iterator[GateServer]:
    """Ask a Triton that somebody else started over the laid-out repositories; `url`: http://host:port.

    Raises:
        ServeFailed: it is not there, or serves something else.
    """
    address = urlsplit(url)
    if address.scheme != "http" or not address.hostname or not address.port:
        raise ServeFailed(f"--url {url} is not the HTTP address of a Triton, http://host:port")
    rest = Rest(address.hostname, address.port)
    for side in sides:
        try:
            parameters = rest.config(side.ensemble).get("parameters")
        except ServerCallFailed as error:
            raise ServeFailed(f"{url} does not serve {side.ensemble}: {error}") from error
        mark = parameters.get(MARK, {}).get("string_value") if isinstance(parameters, dict) else None
        if mark != side.mark:
            raise ServeFailed(f"{url} serves another {side.ensemble} than {side.title} is now: lay it out again")
    server = GateServer(url, rest, sides)
    try:
        yield server
    finally:
        server.close()


def _blame(words: str, sides: Sequence[Side]) -> str:
    guilty = [side.title for side in sides if any(f"{model}:" in words for model in side.models)]
    return f"{' and '.join(guilty) or 'the pipeline'} does not load: {words}"
