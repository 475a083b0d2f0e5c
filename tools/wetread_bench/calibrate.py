"""What is chosen by measuring before the rounds: the limit's best batch, the cheapest load generator, the open rate."""

import statistics
from dataclasses import dataclass

from wetread_bench.results import Cell, Observation
from wetread_bench.rig import GENERATORS, Rig

BATCHES = (1, 2, 4, 8)
GENERATOR_COUNTS = (1, 2, GENERATORS)
PASSES = 3
OPEN_SHARE = 0.7
"""The open loop's rate, as a share of the closed loop's throughput at concurrency 8."""


@dataclass(frozen=True)
class Calibration:
    """What was tried, and what was taken."""

    limit_films_per_s: dict[str, dict[int, float]]
    """By syntax and batch, the median of PASSES."""
    batches: dict[str, int]
    generators_films_per_s: dict[int, float]
    """By processes of the load generator, uncompressed films over shared memory at concurrency 8."""
    client_cpu_ms: dict[int, float]
    """By processes of the load generator, CPU milliseconds a film."""
    generators: int
    open_rates: dict[str, float]


def calibrate(rig: Rig, syntaxes: list[str], seconds: float, *, brief: bool) -> Calibration:
    """Measure and set the rig's choices. `brief`: one pass over two batches, one load generator."""
    passes, tried = (1, (1, 4)) if brief else (PASSES, BATCHES)
    limit = {syntax: _batches(rig, syntax, seconds, passes, tried) for syntax in syntaxes}
    rig.batches = {syntax: max(rates, key=rates.__getitem__) for syntax, rates in limit.items()}
    rates, cost = _generators(rig, syntaxes[0], seconds, passes, (1,) if brief else GENERATOR_COUNTS)
    # The cheapest within 3 % of the fastest: a load generator takes the server's own cores.
    fast = [count for count, rate in rates.items() if rate >= 0.97 * max(rates.values())]
    rig.generators = min(fast, key=cost.__getitem__)
    for syntax in syntaxes:
        seen = rig.run_load(Cell("shm", syntax, 8), seconds, 0.3, rig.generators)
        rig.rates[syntax] = round(OPEN_SHARE * seen.films_per_s, 2)
    return Calibration(limit, rig.batches, rates, cost, rig.generators, dict(rig.rates))


def _batches(rig: Rig, syntax: str, seconds: float, passes: int, tried: tuple[int, ...]) -> dict[int, float]:
    cell = Cell("limit", syntax, 1)
    seen: dict[int, list[float]] = {batch: [] for batch in tried}
    for _ in range(passes):
        for batch, rates in seen.items():
            rates.append(rig.run_in_process(cell, seconds, 0.3, batch).films_per_s)
    return {batch: round(statistics.median(rates), 2) for batch, rates in seen.items()}


def _generators(
    rig: Rig, syntax: str, seconds: float, passes: int, counts: tuple[int, ...]
) -> tuple[dict[int, float], dict[int, float]]:
    cell = Cell("shm", syntax, 8)
    seen: dict[int, list[Observation]] = {count: [] for count in counts}
    for _ in range(passes):
        for count, observations in seen.items():
            observations.append(rig.run_load(cell, seconds, 0.3, count))
    rates = {
        count: round(statistics.median(one.films_per_s for one in observations), 2)
        for count, observations in seen.items()
    }
    cost = {
        count: round(
            statistics.median(one.cpu["client"].total_s * 1e3 if "client" in one.cpu else 0.0 for one in observations),
            3,
        )
        for count, observations in seen.items()
    }
    return rates, cost
