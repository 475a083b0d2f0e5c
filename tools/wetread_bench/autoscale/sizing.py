"""How many pods and GPUs a number of studies a day needs, under assumptions that stand beside the answer."""

from __future__ import annotations

import math
from dataclasses import dataclass

STUDIES = (1_500, 15_000, 1_000_000)


@dataclass(frozen=True)
class Assumptions:
    """What the table rests on; all but the films a second are assumptions, no measurements."""

    film_share: float = 0.8
    """Of studies; the others are CT and MR series."""
    films_a_study: float = 2.0
    series_a_study: float = 3.0
    peak_hour_share: float = 0.09
    """Of a day's studies: the table of hours has 225 of 2,493."""
    burst: float = 1.5
    """The busiest minutes over the peak hour's mean."""
    utilisation: float = 0.65
    """Of a pod's films a second."""
    zones: int = 3
    """One of them may be lost in the peak hour."""
    series_core_s: float = 3.0
    """Seconds of a core for a series with a small model: not measured here, no model ships."""
    gpu_films_per_s: float = 1500.0
    """Of one data centre GPU with its own cores for decoding: NOT MEASURED."""
    gpu_series_per_s: float = 4.0
    """NOT MEASURED."""


@dataclass(frozen=True)
class Need:
    """One row."""

    studies: int
    films_per_s: float
    """In the busiest minutes."""
    series_per_s: float
    pods: int
    """Of one core each, by CPU alone."""
    pods_with_spare: int
    """So that what is left after a lost zone still suffices; two in every zone at least where there are zones."""
    gpus: int
    gpus_with_spare: int


def need(studies: int, films_per_s_a_pod: float, given: Assumptions = Assumptions()) -> Need:
    """Size a site."""
    busiest = studies * given.peak_hour_share * given.burst / 3600
    films = busiest * given.film_share * given.films_a_study
    series = busiest * (1 - given.film_share) * given.series_a_study
    cores = (films / films_per_s_a_pod + series * given.series_core_s) / given.utilisation
    gpus = (films / given.gpu_films_per_s + series / given.gpu_series_per_s) / given.utilisation
    pods, cards = max(1, math.ceil(cores)), max(1, math.ceil(gpus))
    return Need(
        studies, round(films, 3), round(series, 3), pods, _spared(pods, given.zones), cards, _spared(cards, given.zones)
    )


def _spared(count: int, zones: int) -> int:
    """Give so many that the zones that are left hold `count`, spread evenly, two at least."""
    in_each = math.ceil(count / max(1, zones - 1))
    return max(2, in_each * zones) if count > 1 else 2


def table(films_per_s_a_pod: float, given: Assumptions = Assumptions()) -> str:
    """Give the rows as Markdown."""
    lines = [
        "| studies a day | films/s in the busiest minutes | series/s | pods of one core | with a zone to lose "
        "| GPUs (NOT MEASURED) | with a zone to lose |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for studies in STUDIES:
        row = need(studies, films_per_s_a_pod, given)
        lines.append(
            f"| {studies:,} | {row.films_per_s:.2f} | {row.series_per_s:.3f} | {row.pods:,} | {row.pods_with_spare:,} "
            f"| {row.gpus} | {row.gpus_with_spare} |"
        )
    return "\n".join(lines) + "\n"
