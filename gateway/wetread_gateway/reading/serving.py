"""What a reader elsewhere tells of itself: whether it lives, whether it can read, and its metrics."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import httpx
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from wetread_client.health import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from prometheus_client import Metric

    from wetread_gateway.reading.http_worklist import HttpWorklist
    from wetread_gateway.reading.reader import Reader

STUCK_S = 120.0
"""Its loop waits for the worklist at most so long: 30 s an address, and connecting before it."""
SILENT_S = 30.0
_TRITON_S = 2.0


class ReaderHealth:
    """Answers the probes of one reader, and is a collector of its metrics.

    `pipelines`: must be ready for the reader to be; without any, whatever Triton has loaded.
    """

    def __init__(
        self, reader: Reader, worklist: HttpWorklist, triton: str, pipelines: Sequence[str], stop: threading.Event
    ) -> None:
        self._reader, self._worklist, self._stop = reader, worklist, stop
        self._triton, self._pipelines = triton, tuple(pipelines)
        self._met: set[str] = set(pipelines)
        self._reading = threading.current_thread()

    def routes(self) -> Mapping[str, Callable[[], Answer]]:
        """Give the table of the health door."""
        return {
            "/healthz": lambda: Answer.of(self.illness()),
            "/readyz": lambda: Answer.of(self.illness() or self.unready()),
            "/metrics": lambda: Answer(generate_latest(REGISTRY), content_type=CONTENT_TYPE_LATEST),
        }

    def illness(self) -> str:
        """Say why the process should be started anew, or ''."""
        if not self._reading.is_alive():
            return "the reader's thread has ended"
        silent_s = time.monotonic() - self._reader.turned_at
        return f"the reader's loop has not turned for {silent_s:.0f} s" if silent_s > STUCK_S else ""

    def unready(self) -> str:
        """Say why nothing can be read now, or ''."""
        if self._stop.is_set():
            return "it was told to stop"
        silent_s = time.time() - self._worklist.answered_at
        if silent_s > SILENT_S:
            return f"no worklist has answered for {silent_s:.0f} s" if self._worklist.answered_at else "no worklist yet"
        return self._triton_unready()

    def collect(self) -> Iterator[Metric]:
        """Give the reader's own metrics."""
        yield GaugeMetricFamily("wetread_reader_under_way", "Works being read.", value=self._reader.under_way)
        yield CounterMetricFamily(
            "wetread_reader_leases_lost", "Leases that went to another reader.", value=self._reader.lost
        )
        yield GaugeMetricFamily(
            "wetread_reader_last_lease_seconds",
            "When the worklist last answered, in seconds since 1970.",
            value=self._worklist.answered_at,
        )
        paused = GaugeMetricFamily(
            "wetread_reader_paused", "1: the pipeline is not read with, but probed.", labels=["pipeline"]
        )
        now = {served.pipeline for served in self._reader.pauses.paused()}
        self._met |= now
        for pipeline in sorted(self._met):
            paused.add_metric([pipeline], float(pipeline in now))
        yield paused

    def _triton_unready(self) -> str:
        try:
            with httpx.Client(base_url=self._triton, timeout=_TRITON_S, trust_env=False) as triton:
                for pipeline in self._pipelines:
                    if not triton.get(f"/v2/models/{pipeline}/ready").is_success:
                        return f"Triton does not serve {pipeline}"
                if not self._pipelines and not triton.post("/v2/repository/index", json={"ready": True}).json():
                    return "Triton serves nothing"
        except (httpx.HTTPError, ValueError) as error:
            return f"Triton does not answer: {type(error).__name__}"
        return ""
