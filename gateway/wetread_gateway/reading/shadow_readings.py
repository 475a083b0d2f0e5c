"""Shadow readings: what a candidate says of works that the stable release has read; kept and compared, never sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import exists, insert, select

from wetread_gateway.errors import LeaseLost
from wetread_gateway.reading.stored import StoredReading
from wetread_gateway.state.store import note
from wetread_gateway.state.tables import READINGS, SHADOW_READINGS, WORKS

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from wetread_gateway.reading.worklist import Lease


@dataclass(frozen=True, slots=True)
class Difference:
    """How two readings of the same images differ.

    `flips`: findings of which one says present and the other absent; a refusal against a reading is one too.
    `findings`: how many both tell of. `mean`, `largest`: of the absolute differences of their probabilities.
    """

    flips: int
    findings: int
    mean: float | None
    largest: float | None

    @classmethod
    def between(cls, one: StoredReading, other: StoredReading) -> Difference:
        """Compare findings of the same label on the same image; what only one of them knows counts for nothing."""
        if (one.refusal is None) is not (other.refusal is None):
            return cls(1, 0, None, None)
        theirs = {(finding.label, finding.source_uid): finding for finding in other.findings}
        pairs = [
            (finding, theirs[finding.label, finding.source_uid])
            for finding in one.findings
            if (finding.label, finding.source_uid) in theirs
        ]
        if not pairs:
            return cls(0, 0, None, None)
        apart = [abs(a.probability - b.probability) for a, b in pairs]
        flips = sum(a.positive is not b.positive for a, b in pairs)
        return cls(flips, len(pairs), sum(apart) / len(apart), max(apart))


def keep_shadow(connection: Connection, lease: Lease, shadow: StoredReading) -> None:
    """Keep a candidate's reading of a work that was completed under this lease; a second one counts for nothing.

    LeaseLost when somebody else has read the work.
    """
    query = (
        select(READINGS.c.document, WORKS.c.study_uid)
        .join(WORKS, WORKS.c.id == READINGS.c.work_id)
        .where(WORKS.c.id == lease.work, WORKS.c.lease_token == lease.token)
    )
    row = connection.execute(query).first()
    if row is None:
        raise LeaseLost(f"work {lease.work} was not read under token {lease.token}")
    same = exists().where(SHADOW_READINGS.c.work_id == lease.work, SHADOW_READINGS.c.release == shadow.release)
    if connection.execute(select(same)).scalar():
        return
    stable = StoredReading.parse(row.document, None)
    found = Difference.between(stable, shadow)
    connection.execute(
        insert(SHADOW_READINGS).values(
            work_id=lease.work,
            pipeline=stable.pipeline,
            stable_release=stable.release,
            release=shadow.release,
            flips=found.flips,
            findings=found.findings,
            difference=found.mean,
            largest=found.largest,
            document=shadow.document(),
            read_at=shadow.read_at,
        )
    )
    detail = {"work": lease.work, "pipeline": shadow.pipeline, "arm": shadow.arm, "release": shadow.release}
    message = f"read in shadow by {shadow.pipeline} release {shadow.release} ({shadow.arm}), not reported"
    note(connection, row.study_uid, "read", message, detail | {"flips": found.flips})
