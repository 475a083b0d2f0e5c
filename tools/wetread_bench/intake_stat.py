"""STAT films among five times as many routine films as can be read, against STAT films alone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wetread_bench.hospital import STAT_AE_TITLE
from wetread_bench.intake_senders import Line
from wetread_bench.intake_trip import latencies_ms
from wetread_bench.intake_watch import REPORT
from wetread_bench.results import quantile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wetread_bench.fresh_films import FilmTemplate
    from wetread_bench.intake_senders import OpenLoop
    from wetread_bench.intake_trip import Road
    from wetread_bench.intake_watch import Stored

STAT_RATE = 2.0
OVERLOAD = 5.0
_BATCH = 10
_LEAD_S = 3.0  # the queue is there before the first STAT film of the loaded half


@dataclass(frozen=True, slots=True)
class StatResult:
    """STAT's latencies with and without the overload."""

    unloaded_p50_ms: float
    unloaded_p99_ms: float
    loaded_p50_ms: float
    loaded_p99_ms: float
    stat_films: int
    stat_back: int
    """STAT films of the loaded half, and those of them that came back."""
    capacity_per_s: float
    routine_offered_per_s: float
    routine_acknowledged_per_s: float
    routine_troubles: dict[str, int]

    @property
    def p99_ratio(self) -> float:
        """Loaded over unloaded."""
        return self.loaded_p99_ms / self.unloaded_p99_ms if self.unloaded_p99_ms else 0.0


def stat_under_overload(
    road: Road,
    stored: Callable[[], Sequence[Stored]],
    films: Sequence[FilmTemplate],
    seconds: float,
    capacity_per_s: float,
) -> StatResult:
    """Measure STAT films alone, then among routine films offered at `OVERLOAD` times the capacity."""
    stat = Line(STAT_RATE, seconds, called=STAT_AE_TITLE, calling="EMERGENCY")
    with road.sending(stat, films) as alone:
        pass
    road.await_back(alone.sent)
    routine = Line(OVERLOAD * capacity_per_s, seconds + _LEAD_S, batch=_BATCH, most_at_once=16, nice=19)
    began = time.monotonic()
    with road.sending(routine, films) as flood:
        time.sleep(_LEAD_S)
        with road.sending(stat, films) as among:
            pass
        flood.stop()
    took = time.monotonic() - began
    road.await_back(among.sent)
    back = {one.study_uid: one.at for one in reversed(stored()) if one.kind == REPORT}
    quiet, loaded = _latencies(alone, back), _latencies(among, back)
    return StatResult(
        unloaded_p50_ms=round(quantile(quiet, 0.5), 1),
        unloaded_p99_ms=round(quantile(quiet, 0.99), 1),
        loaded_p50_ms=round(quantile(loaded, 0.5), 1),
        loaded_p99_ms=round(quantile(loaded, 0.99), 1),
        stat_films=stat.films,
        stat_back=len(loaded),
        capacity_per_s=round(capacity_per_s, 1),
        routine_offered_per_s=round((flood.offered + flood.troubles["late"]) / took, 1),
        routine_acknowledged_per_s=round(sum(film.acknowledged is not None for film in flood.sent) / took, 1),
        routine_troubles=dict(flood.troubles),
    )


def _latencies(loop: OpenLoop, back: dict[str, float]) -> list[float]:
    return latencies_ms([film for film in loop.sent if film.acknowledged is not None], back)
