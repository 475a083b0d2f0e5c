"""Counts readings by site, scanner and bin, in the transaction in which they are reported."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite

from wetread_gateway.drift.references import References
from wetread_gateway.drift.statistics import bin_of
from wetread_gateway.errors import BadInstance
from wetread_gateway.state.drift_tables import DRIFT_COUNTS as COUNTS
from wetread_gateway.state.drift_tables import SCANNER, SITE
from wetread_gateway.state.tables import INSTANCES, WorkKind
from wetread_gateway.triage.header import read_header

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.engine import Connection
    from wetread_client.card import Reference

    from wetread_gateway.context import Context
    from wetread_gateway.reading.stored import StoredReading
    from wetread_gateway.state.store import AnyRow

WINDOW_DAYS = 14
"""Readings of so many days are compared with the reference, today among them."""
NOVELTY = "novelty"
OTHER = "other"
MOST_SITES, MOST_PAIRS = 32, 64
"""Sites, and pairs of site and scanner, of one release that are told apart; what comes beyond is `other`."""
_DAY_S = 86400
_MANUFACTURER, _MODEL = 0x00080070, 0x00081090


def today() -> int:
    """Give the day since 1970, UTC."""
    return int(time.time() // _DAY_S)


class Counting:
    """Counts what one process reports."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._references = References()
        self._pairs: dict[tuple[str, int], set[tuple[str, str]]] = {}
        self._swept = 0

    def count(self, connection: Connection, work: AnyRow, reading: StoredReading) -> None:
        """Count a reading whose work is being reported; corrections, withdrawals and refusals say nothing new."""
        if work.kind != WorkKind.READ or reading.refusal is not None:
            return
        reference = self._references.get(connection, reading.pipeline, reading.release)
        if reference is None:
            return
        day = today()
        site, scanner = self._told_apart(connection, reading, *self._origin(connection, work))
        key = {"pipeline": reading.pipeline, "release": reading.release, "site": site, "scanner": scanner, "day": day}
        for (score, at), readings in sorted(_bins(reference, reading).items()):
            _add(connection, {**key, "score": score, "bin": at}, readings)
        if self._swept != day:
            connection.execute(delete(COUNTS).where(COUNTS.c.day <= day - WINDOW_DAYS))
            self._swept = day

    def _origin(self, connection: Connection, work: AnyRow) -> tuple[str, str]:
        """Give who sent the work's first image, and what made it."""
        query = select(INSTANCES.c.calling_ae, INSTANCES.c.path, INSTANCES.c.study_uid)
        row = connection.execute(query.where(INSTANCES.c.id == work.sources[0])).first()
        if row is None:
            return OTHER, OTHER
        try:
            scanner = scanner_of(self._context.spool.locate(row.path, row.study_uid))
        except (OSError, BadInstance):
            scanner = ""
        return _plain(row.calling_ae)[:SITE] or OTHER, scanner or OTHER

    def _told_apart(self, connection: Connection, reading: StoredReading, site: str, scanner: str) -> tuple[str, str]:
        """Give the labels that a pair is counted under: its own as long as there are few."""
        release = (reading.pipeline, reading.release)
        known = self._pairs.get(release, set())
        if (site, scanner) not in known:
            query = select(COUNTS.c.site, COUNTS.c.scanner).distinct()
            rows = connection.execute(query.where(COUNTS.c.pipeline == release[0], COUNTS.c.release == release[1]))
            known = self._pairs[release] = {(row.site, row.scanner) for row in rows}
        if (site, scanner) in known:
            return site, scanner
        sites = {one for one, _ in known} - {OTHER}
        site = site if site in sites or len(sites) < MOST_SITES else OTHER
        told = sum(one != OTHER for _, one in known)
        return site, scanner if told < MOST_PAIRS and site != OTHER else OTHER


def scanner_of(path: Path) -> str:
    """Give Manufacturer and Manufacturer's Model Name of a file; empty where it tells neither. BadInstance, OSError."""
    header = read_header(path, {_MANUFACTURER, _MODEL})
    values = [header.elements[tag].value for tag in (_MANUFACTURER, _MODEL) if tag in header.elements]
    return " ".join(filter(None, (_plain(value.decode("latin-1")) for value in values)))[:SCANNER].strip()


def _plain(text: str) -> str:
    """Keep what is printable ASCII: a label in every series and on every page."""
    return "".join(sign if " " <= sign <= "~" and sign not in '"\\' else " " for sign in text).strip()


def _bins(reference: Reference, reading: StoredReading) -> Counter[tuple[str, int]]:
    bins: Counter[tuple[str, int]] = Counter()
    for finding in reading.findings:
        if told := reference.findings.get(finding.label):
            bins[finding.label, bin_of(finding.probability, told.edges)] += 1
    if reference.novelty is not None and reading.novelty is not None:
        bins[NOVELTY, bin_of(reading.novelty, reference.novelty.edges)] += 1
    return bins


def _add(connection: Connection, key: dict[str, object], readings: int) -> None:
    new = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(COUNTS)
    adds = new.values(**key, readings=readings)
    more = {"readings": COUNTS.c.readings + readings}
    connection.execute(adds.on_conflict_do_update(index_elements=list(key), set_=more))
