"""Makes works of sorted instances: readings, corrections and withdrawals, each numbered once."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, exists, insert, select, update

from wetread_gateway.metrics import ALERTS, WORKS_MADE, priority_label
from wetread_gateway.state.tables import INSTANCES, SERIES, WORKS, InstanceState, WorkKind, WorkState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Row
    from sqlalchemy.engine import Connection

    from wetread_gateway.bell import Stage
    from wetread_gateway.config.settings import Rule, Settings
    from wetread_gateway.triage.arms import FixedArm

# Works that stand for a reading of their sources, or will.
_READS = (WorkKind.READ, WorkKind.REUSE)
_SAME = select(WORKS).where(WORKS.c.sources_digest.in_(bindparam("digests", expanding=True))).order_by(WORKS.c.number)


@dataclass(frozen=True, slots=True)
class Source:
    """An instance to be read: its row's id, its SOP Instance UID, and whose spool holds it."""

    id: int
    sop_uid: str
    home: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a rule asks for, as it is when the work is made."""

    rule: str
    pipeline: str
    priority: int
    destinations: tuple[str, ...]
    options: Options

    @classmethod
    def by(cls, settings: Settings, rule: Rule, *, stat: bool) -> Wanted:
        """Take it from the rule; `stat`: the instances were STAT at the door."""
        options = Options(rule.any_body_part, rule.unknown_age_is_inside, rule.report_refusals)
        return cls(rule.name, rule.pipeline, settings.priority_of(rule, stat=stat), rule.destinations, options)


@dataclass(frozen=True, slots=True)
class Options:
    """The options of WORKS.options."""

    any_body_part: bool
    unknown_age_is_inside: bool
    report_refusals: bool
    candidate: int = 0
    """The release that the candidate arm was when the study was given to it."""


@dataclass(frozen=True, slots=True)
class NewWork:
    """Work to be made. `follows`: the work whose reading this one replaces."""

    study_uid: str
    patient_digest: str
    sources: tuple[Source, ...]
    wanted: Wanted
    arm: FixedArm
    completeness: str = "single"
    expected: int | None = None
    follows: Row[Any] | None = None

    @property
    def sources_digest(self) -> str:
        """What stands for its sources."""
        return digest_of(source.sop_uid for source in self.sources)


@dataclass(slots=True)
class Made:
    """What came of it: stages to ring, and lines for the timeline."""

    rings: set[Stage] = field(default_factory=set)
    events: list[tuple[str, str, str, dict[str, object]]] = field(default_factory=list)
    """Study, stage, message, detail."""
    alerts: list[str] = field(default_factory=list)
    to_read: list[tuple[str, int]] = field(default_factory=list)
    """Pipeline and priority of every work that is to be read."""

    def count(self) -> None:
        """Tell the metrics, once it is durable."""
        for pipeline, priority in self.to_read:
            WORKS_MADE.labels(pipeline, priority_label(priority)).inc()
        for kind in self.alerts:
            ALERTS.labels(kind).inc()


def digest_of(sop_uids: Iterable[str]) -> str:
    """Give what stands for a set of sources in WORKS: SHA-256 over their sorted SOP Instance UIDs."""
    return hashlib.sha256("\n".join(sorted(sop_uids)).encode()).hexdigest()


def make(connection: Connection, news: Sequence[NewWork], now: float, made: Made) -> None:
    """Make works; no two of `news` have the same sources. Sources that were read under another identity: REUSE."""
    if not news:
        return
    before: dict[str, list[Row[Any]]] = {}
    digests = [new.sources_digest for new in news]
    for row in connection.execute(_SAME, {"digests": digests}):
        before.setdefault(row.sources_digest, []).append(row)
    rows = []
    for new, digest in zip(news, digests, strict=True):
        known = [work for work in before.get(digest, ()) if work.kind in _READS]
        read = [work for work in known if work.state != WorkState.SUPERSEDED]
        if read and read[-1].sources == [source.id for source in new.sources]:
            continue
        corrected = read[-1] if read and read[-1].pipeline == new.wanted.pipeline else None
        rows.append(_row(new, digest, corrected, max((work.number for work in known), default=0), now))
        made.rings.add("report" if corrected is not None else "read")
        if corrected is None:
            made.to_read.append((new.wanted.pipeline, new.wanted.priority))
    if rows:
        connection.execute(insert(WORKS), rows)


def _row(new: NewWork, digest: str, corrected: Row[Any] | None, highest: int, now: float) -> dict[str, object]:
    before = new.follows if corrected is None else corrected
    return {
        "home": new.sources[0].home,
        "kind": WorkKind.READ if corrected is None else WorkKind.REUSE,
        "state": WorkState.WAITING,
        "study_uid": new.study_uid,
        "patient_digest": new.patient_digest,
        "sources": [source.id for source in new.sources],
        "sources_digest": digest,
        "number": max(highest, 0 if before is None else before.number) + 1,
        "predecessor": None if before is None else before.id,
        "pipeline": new.wanted.pipeline,
        "arm": new.arm.arm,
        "rule": new.wanted.rule,
        "priority": new.wanted.priority,
        "destinations": list(new.wanted.destinations),
        "options": asdict(replace(new.wanted.options, candidate=new.arm.candidate)),
        "expected": new.expected,
        "completeness": new.completeness,
        "created_at": now,
        "changed_at": now,
    }


def works_of(connection: Connection, study_uid: str, ids: Iterable[int]) -> list[Row[Any]]:
    """Give the works of a study that stand for a reading of any of these instances, oldest first."""
    wanted = set(ids)
    query = select(WORKS).where(
        WORKS.c.study_uid == study_uid, WORKS.c.kind.in_(_READS), WORKS.c.state != WorkState.SUPERSEDED
    )
    return [work for work in connection.execute(query.order_by(WORKS.c.id)) if wanted.intersection(work.sources)]


def supersede(connection: Connection, work: Row[Any], now: float, reason: str) -> bool:
    """Take back a work that nobody has begun; False when somebody has."""
    query = update(WORKS).where(WORKS.c.id == work.id, WORKS.c.state == WorkState.WAITING)
    values = {"state": WorkState.SUPERSEDED, "reason": reason, "changed_at": now}
    return connection.execute(query.values(**values)).rowcount == 1


def correct(connection: Connection, old: Row[Any], now: float, made: Made) -> None:
    """Take an instance's identity back: what was read of it is withdrawn, or not read at all."""
    connection.execute(
        update(INSTANCES)
        .where(INSTANCES.c.id == old.id)
        .values(state=InstanceState.CORRECTED, reason="another identity came for the same pixels")
    )
    for work in works_of(connection, old.study_uid, [old.id]):
        if supersede(connection, work, now, "its sources were corrected before it was read"):
            made.events.append((old.study_uid, "alert", "not read: its identity was corrected", {"work": work.id}))
        elif _withdraw(connection, work, now):
            made.rings.add("report")
            made.events.append((old.study_uid, "alert", "withdrawn: its identity was corrected", {"work": work.id}))
        if work.completeness != "single":
            _reopen(connection, old, now)


def _withdraw(connection: Connection, work: Row[Any], now: float) -> bool:
    """Order a withdrawal, once."""
    if connection.execute(
        select(exists().where(WORKS.c.predecessor == work.id, WORKS.c.kind == WorkKind.WITHDRAW))
    ).scalar():
        return False
    copied = ("home", "study_uid", "patient_digest", "sources", "sources_digest", "pipeline", "arm", "rule", "priority")
    also = ("destinations", "options", "expected", "completeness")
    row = {name: getattr(work, name) for name in (*copied, *also)}
    row |= {"kind": WorkKind.WITHDRAW, "state": WorkState.WAITING, "number": work.number + 1, "predecessor": work.id}
    connection.execute(insert(WORKS).values(**row, created_at=now, changed_at=now))
    return True


def _reopen(connection: Connection, old: Row[Any], now: float) -> None:
    """Look at what is left of the series when no more of it is corrected."""
    key = (SERIES.c.series_uid == old.series_uid) & (SERIES.c.patient_digest == old.patient_digest)
    connection.execute(update(SERIES).where(key).values(is_open=True, last_at=now))
