"""The figures of the film benchmark: quotients of two cells' numbers, taken round by round."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from wetread_bench.results import Cell, Observation, Observations, Ratio, Spread

LIMIT_CONCURRENCY = 1
"""The limit's concurrency in names: each of its processes reads one batch at a time."""


@dataclass(frozen=True)
class _Figure:
    above: Cell
    below: Cell
    number: Callable[[Observation], float]


def _rate(seen: Observation) -> float:
    return seen.films_per_s


def _p50(seen: Observation) -> float:
    return seen.p50_ms


def _limit(syntax: str) -> Cell:
    return Cell("limit", syntax, LIMIT_CONCURRENCY)


FIGURES: Mapping[str, _Figure] = {
    "served_over_limit_raw": _Figure(Cell("shm", "raw", 8), _limit("raw"), _rate),
    "served_over_limit_j2k": _Figure(Cell("shm", "j2k", 8), _limit("j2k"), _rate),
    "served_over_plain_raw": _Figure(Cell("shm", "raw", 8), Cell("plain", "raw", 8), _rate),
    "served_over_plain_j2k": _Figure(Cell("shm", "j2k", 8), Cell("plain", "j2k", 8), _rate),
    "http_over_plain_raw": _Figure(Cell("http", "raw", 8), Cell("plain", "raw", 8), _rate),
    "http_over_plain_j2k": _Figure(Cell("http", "j2k", 8), Cell("plain", "j2k", 8), _rate),
    "p50_over_inprocess_raw": _Figure(Cell("shm", "raw", 1), Cell("in_process", "raw", 1), _p50),
    # The time of a film at concurrency 8 is the inverse of the rate.
    "j2k_over_raw_time": _Figure(Cell("shm", "raw", 8), Cell("shm", "j2k", 8), _rate),
}


def ratios(observations: Observations) -> list[Ratio]:
    """The figures whose cells were measured."""
    found = []
    for name, figure in FIGURES.items():
        if figure.above in observations and figure.below in observations:
            pairs = zip(observations[figure.above], observations[figure.below], strict=True)
            values = [figure.number(above) / figure.number(below) for above, below in pairs if figure.number(below)]
            if values:
                found.append(Ratio(name, Spread.over(values), figure.above.key, figure.below.key))
    return found
