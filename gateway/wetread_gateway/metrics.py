"""Prometheus metrics of all processes, gathered through files (prometheus_client's multiprocess mode)."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from prometheus_client import Counter, Histogram

if TYPE_CHECKING:
    from collections.abc import Iterator

StageName = Literal["receive", "triage", "read", "report", "deliver", "confirm", "http"]

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SECONDS = Histogram(
    "wetread_gateway_stage_seconds", "Time that a stage took for one item.", ["stage"], buckets=_BUCKETS
)
ITEMS = Counter("wetread_gateway_items_total", "Items that left a stage, by outcome.", ["stage", "outcome"])
ALERTS = Counter("wetread_gateway_alerts_total", "Things that somebody should look at.", ["kind"])

SHADOWS = Counter("wetread_gateway_shadows_total", "Films for a candidate in shadow, by outcome.", ["outcome"])


@contextmanager
def timed(stage: StageName) -> Iterator[None]:
    """Time one item in a stage and count it as `ok`, or as `failed` when the block raises."""
    started = time.perf_counter()
    try:
        yield
    except BaseException:
        ITEMS.labels(stage, "failed").inc()
        raise
    ITEMS.labels(stage, "ok").inc()
    SECONDS.labels(stage).observe(time.perf_counter() - started)
