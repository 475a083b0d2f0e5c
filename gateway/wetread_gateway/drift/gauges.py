"""The gauges of drift: PSI, KS and the number of readings of each release, score, site and scanner."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from sqlalchemy import func, select
from wetread_client.card import Reference

from wetread_gateway.drift.counting import NOVELTY, WINDOW_DAYS, today
from wetread_gateway.drift.statistics import ks, psi
from wetread_gateway.state.drift_tables import DRIFT_COUNTS as COUNTS
from wetread_gateway.state.drift_tables import DRIFT_REFERENCES as REFERENCES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection
    from wetread_client.card import Distribution

FEWEST = 200
"""Readings below which nothing is said: by chance alone PSI over ten bins exceeds 0.1 once in twenty at 200."""
_LABELS = ["pipeline", "release", "score", "site", "scanner"]


def drift_gauges(connection: Connection) -> Iterator[GaugeMetricFamily]:
    """Compare what the window holds with the references; silent where there are too few readings."""
    names = ("wetread_gateway_drift_psi", "wetread_gateway_drift_ks", "wetread_gateway_drift_readings")
    texts = (
        "Population stability index of a score against the release's reference.",
        "Kolmogorov-Smirnov distance of a score from the release's reference.",
        f"Readings of {WINDOW_DAYS} days that drift is judged by.",
    )
    families = [GaugeMetricFamily(name, text, labels=_LABELS) for name, text in zip(names, texts, strict=True)]
    references = {
        (row.pipeline, row.release): Reference.parse(row.document) for row in connection.execute(select(REFERENCES))
    }
    for key, bins in _counted(connection).items():
        pipeline, release, score, site, scanner = key
        told = _distribution(references.get((pipeline, release)), score)
        total = sum(bins.values())
        if told is None or total < FEWEST:
            continue
        counts = [bins.get(at, 0) for at in range(len(told.fractions))]
        labels = [pipeline, str(release), score, site, scanner]
        for family, value in zip(
            families, (psi(told.fractions, counts), ks(told.fractions, counts), total), strict=True
        ):
            family.add_metric(labels, value)
    yield from families


def _counted(connection: Connection) -> dict[tuple[str, int, str, str, str], dict[int, int]]:
    key = (COUNTS.c.pipeline, COUNTS.c.release, COUNTS.c.score, COUNTS.c.site, COUNTS.c.scanner)
    query = select(*key, COUNTS.c.bin, func.sum(COUNTS.c.readings)).where(COUNTS.c.day > today() - WINDOW_DAYS)
    found: dict[tuple[str, int, str, str, str], dict[int, int]] = defaultdict(dict)
    for pipeline, release, score, site, scanner, at, readings in connection.execute(query.group_by(*key, COUNTS.c.bin)):
        found[pipeline, release, score, site, scanner][at] = readings
    return found


def _distribution(reference: Reference | None, score: str) -> Distribution | None:
    if reference is None:
        return None
    return reference.novelty if score == NOVELTY else reference.findings.get(score)
