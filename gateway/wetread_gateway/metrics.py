"""Prometheus metrics of all processes, gathered through files (prometheus_client's multiprocess mode)."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from prometheus_client import Counter, Histogram

from wetread_gateway.priority import Priority

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

WORKS_MADE = Counter(
    "wetread_gateway_works_made_total",
    "Works that came to be read, by pipeline and priority.",
    ["pipeline", "priority"],
)
REFUSED = Counter(
    "wetread_gateway_refused_total", "Associations and requests that a door refused, by its reason.", ["door", "reason"]
)

# 1 and 2 s are what the objectives of docs/observability.md are counted at.
_LONG_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
STUDY_SECONDS = Histogram(
    "wetread_gateway_study_seconds",
    "Time from the last image's receipt until its reading was durable.",
    ["priority"],
    buckets=_LONG_BUCKETS,
)
DELIVERY_SECONDS = Histogram(
    "wetread_gateway_delivery_seconds",
    "Time from the last image's receipt until a destination had confirmed its results.",
    ["priority"],
    buckets=_LONG_BUCKETS,
)


def priority_label(priority: int) -> str:
    """Give a priority as labels have it."""
    return Priority(priority).name.lower()


def observe_since(histogram: Histogram, priority: int, came_at: float | None) -> None:
    """Count the time since `came_at` (seconds since 1970), where that is known."""
    if came_at is not None:
        histogram.labels(priority_label(priority)).observe(max(0.0, time.time() - came_at))


_ALERT_KINDS = (
    *("association_failed", "correction", "dead_letter", "dead_work", "destination_absent", "destination_down"),
    *("incomplete", "not_committed", "not_stored", "patients", "pipeline_broken", "poison_film", "quarantine"),
    *("result_missing", "rollout"),
)
_REFUSALS = (
    *(("dimse", reason) for reason in ("overload", "disk_full", "associations", "not_stored")),
    *(("http", reason) for reason in ("overload", "disk_full", "too_large")),
)


def expose_zeros() -> None:
    """Show counters before they count: a series that begins at 1 has not risen, as Prometheus sees it."""
    for kind in _ALERT_KINDS:
        ALERTS.labels(kind)
    for outcome in ("read", "failed", "dropped"):
        SHADOWS.labels(outcome)
    for door, reason in _REFUSALS:
        REFUSED.labels(door, reason)
    for priority in Priority:
        STUDY_SECONDS.labels(priority_label(priority))
        DELIVERY_SECONDS.labels(priority_label(priority))


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
