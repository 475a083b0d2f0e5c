"""One pipeline of one server: a client, its releases' cards, and a way to ask whether it works at all."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from wetread_client import Client, Rejected, Retry, WetreadError

from wetread_gateway.reading.canary import CANARY_MODALITIES, canary_film, canary_series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from typing_extensions import Buffer
    from wetread_client import PipelineCard, Reading

PROBES = 4  # of two instances, each gets one of four in a row
_PROBE_S = 10.0
_SERIES_PROBE_S = 60.0


class Pipeline:
    """Reads films, or series, with what the server serves as `model`; safe to use from many threads."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._last: tuple[int, PipelineCard] | None = None
        self._takes_series: bool | None = None

    def takes_series(self) -> bool:
        """Whether it takes a series whole; the server is asked once a release, and after a failure: another pipeline
        may be served under its name. The client's errors."""
        if self._takes_series is None:
            self._takes_series = self._client.takes_series()
        return self._takes_series

    def read(
        self, film: Path | Buffer, deadline_s: float, *, any_body_part: bool, heatmap: bool = True
    ) -> tuple[Reading, PipelineCard]:
        """Read a film once, and give the card of the release that read it; the client's errors, OSError."""
        with self._doubting():
            reading = self._client.read(film, any_body_part=any_body_part, heatmap=heatmap, deadline_s=deadline_s)
        return reading, self._learn(reading.release)

    def read_series(
        self, files: Sequence[Path | Buffer], deadline_s: float, *, any_body_part: bool, segmentation: bool = True
    ) -> tuple[Reading, PipelineCard]:
        """Read the images of a series, in any order, as a whole; otherwise as `read`."""
        with self._doubting():
            reading = self._client.read_series(
                files, any_body_part=any_body_part, segmentation=segmentation, heatmap=False, deadline_s=deadline_s
            )
        return reading, self._learn(reading.release)

    def release(self) -> tuple[int, PipelineCard] | None:
        """Give the release that answers now and its card, for what the pipeline refuses; None when it will not say."""
        try:
            served = self._client.releases(timeout_s=_PROBE_S)
        except WetreadError:
            return self._last
        if len(served) == 1 and (card := self._client.card(served[0])):
            return served[0], card
        with contextlib.suppress(WetreadError):
            self.probe(1)
        return self._last

    def probe(self, times: int = PROBES) -> None:
        """Read a film that is known to be good, so often; the client's errors when the pipeline does not work."""
        if self.takes_series():
            self._probe_series()
            return
        for _ in range(times):
            try:
                self.read(canary_film(), _PROBE_S, any_body_part=True)
            except Rejected:
                return  # a pipeline for other images lives, and says so

    def _probe_series(self) -> None:
        """Read a small series of the modality that it takes; what refuses them all lives, and says so."""
        for modality in CANARY_MODALITIES:
            with contextlib.suppress(Rejected):
                self.read_series(canary_series(modality), _SERIES_PROBE_S, any_body_part=True)
                return

    @contextlib.contextmanager
    def _doubting(self) -> Iterator[None]:
        try:
            yield
        except Rejected:
            raise
        except WetreadError:
            self._takes_series = None
            raise

    def _learn(self, release: int) -> PipelineCard:
        """Keep the card of a release that has answered; another one may take something else."""
        card = self._client.card(release)
        assert card is not None, "a client that has a reading has its card"
        if self._last is not None and self._last[0] != release:
            self._takes_series = None
        self._last = (release, card)
        return card

    def close(self) -> None:
        """Close connections and remove shared memory."""
        self._client.close()


class Pipelines:
    """The pipelines of a server, each made when it is first asked for."""

    def __init__(self, url: Callable[[], str], client: Callable[[str, str], Client] | None = None) -> None:
        """`url`: gives the server's address, which may change. `client`: makes the client of an address and a model.

        By default it reads over shared memory where the server is beside us, and tries each film once.
        """
        self._url = url
        self._client = client or (lambda url, model: Client(url, model, retry=Retry(times=0)))
        self._made: dict[tuple[str, str], Pipeline] = {}
        self._lock = threading.Lock()

    def __getitem__(self, model: str) -> Pipeline:
        url = self._url()
        with self._lock:
            if (url, model) not in self._made:
                self._made[url, model] = Pipeline(self._client(url, model))
            return self._made[url, model]

    def close(self) -> None:
        """Close all of them."""
        with self._lock:
            for pipeline in self._made.values():
                pipeline.close()
            self._made.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
