"""The figures of the swap benchmark, from every request's record and the moments at which something was swapped."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from wetread_bench.results import quantile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from wetread_bench.swap_expected import Ledger
    from wetread_bench.swap_load import Row

MARGIN_S = 0.5
"""A window around a promote or rollback begins so long before it and ends so long after it."""
OURS = "shm"
"""The way whose latency is judged; plain clients send 8 MB over loopback, which hides a swap."""


@dataclass(frozen=True, slots=True)
class Request:
    """One film sent. Moments in monotonic seconds."""

    intended: float
    ended: float
    way: str
    film: int
    release: int
    """0: there was no answer."""
    probability: float
    error: str

    @classmethod
    def of(cls, row: Row) -> Self:
        """Read a load generator's row."""
        return cls(*row)

    @property
    def latency_ms(self) -> float:
        """From the intended moment on."""
        return (self.ended - self.intended) * 1e3


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time in which requests were meant to be sent. `kind`: one of the names below."""

    kind: str
    begin: float
    end: float

    @classmethod
    def around(cls, kind: str, begin: float, end: float) -> Self:
        """Give the window of a switch that took from `begin` to `end`."""
        return cls(kind, begin - MARGIN_S, end + MARGIN_S)


QUIET_FULL, PROMOTE, ROLLBACK = "quiet at 70 %", "promote", "rollback"
QUIET_LIGHT, PUBLISH, RETIRE = "quiet at 40 %", "publish", "retire"


@dataclass(frozen=True)
class Latency:
    """Of the requests of some windows, in milliseconds from the intended moment."""

    requests: int
    p50_ms: float
    p99_ms: float
    worst_ms: float

    @classmethod
    def over(cls, latencies_ms: Sequence[float]) -> Self:
        """Sum up; zeros of none."""
        numbers = [round(quantile(latencies_ms, share), 3) for share in (0.5, 0.99, 1.0)]
        return cls(len(latencies_ms), *numbers)


def latencies(requests: Sequence[Request], windows: Sequence[Window], *kinds: str, way: str = OURS) -> list[float]:
    """Give the latencies (ms) of answered requests that were meant to be sent in a window of these kinds.

    One that lies in two windows counts once.
    """
    spans = sorted((window.begin, window.end) for window in windows if window.kind in kinds)
    chosen = sorted((each for each in requests if each.way == way and not each.error), key=lambda each: each.intended)
    found, at = [], 0
    for each in chosen:
        while at < len(spans) and spans[at][1] <= each.intended:
            at += 1
        if at < len(spans) and spans[at][0] <= each.intended:
            found.append(each.latency_ms)
    return found


def strangers(requests: Iterable[Request], ledger: Ledger) -> list[Request]:
    """Give the answers that are not those of the release that they name."""
    return [each for each in requests if not each.error and not ledger.is_of(each.release, each.film, each.probability)]


def figures(
    requests: Sequence[Request],
    windows: Sequence[Window],
    unattributed: Sequence[Request],
    memory_mib: Mapping[str, float],
) -> dict[str, float]:
    """Give the numbers to judge by; a figure whose windows hold nothing is left out.

    Args:
        requests: all of the run.
        windows: quiet ones, and those of swaps.
        unattributed: answers that belong to no release.
        memory_mib: of the whole server, `before` and `after`, both with the same number of releases loaded.
    """
    found: dict[str, float] = {
        "requests": len(requests),
        "failed": sum(1 for each in requests if each.error),
        "unattributed": len(unattributed),
    }
    for name, quiet, busy in (
        ("p99_swap_over_quiet", QUIET_FULL, (PROMOTE, ROLLBACK)),
        ("p99_publish_over_quiet", QUIET_LIGHT, (PUBLISH,)),
    ):
        calm, stirred = latencies(requests, windows, quiet), latencies(requests, windows, *busy)
        if calm and stirred:
            found[name] = round(quantile(stirred, 0.99) / quantile(calm, 0.99), 3)
    if {"before", "after"} <= memory_mib.keys():
        found["rss_after_over_before"] = round(memory_mib["after"] / memory_mib["before"], 3)
    return found


def by_kind(requests: Sequence[Request], windows: Sequence[Window]) -> dict[str, dict[str, Latency]]:
    """Give the latencies by kind of window and way."""
    ways = sorted({each.way for each in requests})
    kinds = dict.fromkeys(window.kind for window in windows)
    return {kind: {way: Latency.over(latencies(requests, windows, kind, way=way)) for way in ways} for kind in kinds}


def errors(requests: Iterable[Request]) -> dict[str, int]:
    """Count the failures by way and words."""
    return dict(Counter(f"{each.way}: {each.error}" for each in requests if each.error).most_common(20))


def releases(requests: Iterable[Request]) -> dict[str, int]:
    """Count the answers by release."""
    counted = Counter(each.release for each in requests if not each.error)
    return {str(release): counted[release] for release in sorted(counted)}
