"""Writes a batch of decisions into the state store, in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, insert, select, update

from wetread_gateway.audit import AuditEvent
from wetread_gateway.state.tables import EVENTS, INSTANCES, SERIES, STUDIES, InstanceState
from wetread_gateway.triage.arms import STABLE, FixedArm, StudyOf, fix_arms
from wetread_gateway.triage.placement import fit, row_of
from wetread_gateway.triage.works import Made, NewWork, Source, Wanted, correct, make

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.engine import Connection

    from wetread_gateway.config.settings import Settings
    from wetread_gateway.rollouts import Rollouts
    from wetread_gateway.spool.spool import Spool
    from wetread_gateway.triage.placement import Placement

_STUDIES = select(STUDIES.c.study_uid, STUDIES.c.patient_digest).where(
    STUDIES.c.study_uid.in_(bindparam("uids", expanding=True))
)
_SAID = {
    InstanceState.IGNORED: ("received", "not read: {}"),
    InstanceState.DUPLICATE: ("received", "the same instance again: {}"),
    InstanceState.UNMATCHED: ("rule", "kept in `unmatched`, not read: {}"),
    InstanceState.QUARANTINED: ("alert", "quarantined: {}"),
}


def audit_of(placements: Sequence[Placement], actor: str) -> list[AuditEvent]:
    """Give what the audit trail says of them."""
    return [
        AuditEvent(
            "refuse" if placement.state is InstanceState.QUARANTINED else "rule",
            "failed" if placement.state is InstanceState.QUARANTINED else "ok",
            actor,
            placement.study_uid,
            placement.item.sop_uid,
            {
                "state": placement.state,
                "arrival": placement.item.name,
                "reason": placement.reason,
                "rule": placement.rule.name if placement.rule else "",
            },
        )
        for placement in placements
    ]


class Filing:
    """One batch. No two instances of it have the same SOP Instance UID."""

    def __init__(
        self, connection: Connection, settings: Settings, spool: Spool, rollouts: Rollouts, now: float
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._spool = spool
        self._rollouts = rollouts
        self._now = now
        self._home = settings.gateway.name
        self.made = Made()

    def file(self, placements: Sequence[Placement]) -> Made:
        """Write it all down."""
        patients = self._studies(placements)
        arms = self._arms(placements)
        self._contradictions(placements, patients)
        rows = [row_of(placement, self._spool, self._home) for placement in placements]
        ids = self._connection.scalars(
            insert(INSTANCES).returning(INSTANCES.c.id, sort_by_parameter_order=True), rows
        ).all()
        for placement in placements:
            if placement.corrects is not None:
                self._correct(placement)
        sorted_ = [
            (placement, row_id)
            for placement, row_id in zip(placements, ids, strict=True)
            if placement.state is InstanceState.SORTED
        ]
        singles = self._settings.completeness.single_image_modalities
        works = [self._single(*one, arms) for one in sorted_ if one[0].item.facts.modality in singles]
        opened = self._touch([one for one, _ in sorted_ if one.item.facts.modality not in singles])
        make(self._connection, works, self._now, self.made)
        lines = [line for placement in placements for line in self._lines(placement, opened)]
        lines += [
            {"at": self._now, "study_uid": study, "stage": stage, "message": message, "detail": detail}
            for study, stage, message, detail in self.made.events
        ]
        self._connection.execute(insert(EVENTS), lines)
        return self.made

    def _studies(self, placements: Sequence[Placement]) -> dict[str, str]:
        """Give the patient of each study; a study is noted when this is its first instance."""
        first = {p.study_uid: p for p in reversed(placements) if p.item.sighting}
        found = self._connection.execute(_STUDIES, {"uids": list(first)})
        patients = {row.study_uid: row.patient_digest for row in found}
        rows = []
        for uid, placement in first.items():
            if uid not in patients:
                patients[uid] = placement.item.facts.patient_digest
                row = {"study_uid": uid, "patient_digest": patients[uid], "arm": STABLE, "received_at": self._now}
                rows.append(row)
        if rows:
            self._connection.execute(insert(STUDIES), rows)
        return patients

    def _arms(self, placements: Sequence[Placement]) -> dict[StudyOf, FixedArm]:
        """Give the arm that reads each study, by pipeline; it is fixed with the first instance that is to be read."""
        first = {
            (p.study_uid, p.rule.pipeline): p.item.facts
            for p in reversed(placements)
            if p.rule is not None and p.state is InstanceState.SORTED
        }
        return fix_arms(self._connection, self._rollouts, first)

    def _contradictions(self, placements: Sequence[Placement], patients: dict[str, str]) -> None:
        """Alert, once a patient, where a study's instances name several; works never mix them."""
        told = set()
        for placement in placements:
            if placement.state is not InstanceState.SORTED or placement.corrects is not None:
                continue
            key = (placement.study_uid, placement.item.facts.patient_digest)
            if key[1] == patients[key[0]] or key in told:
                continue
            told.add(key)
            query = select(INSTANCES.c.id).where(INSTANCES.c.study_uid == key[0], INSTANCES.c.patient_digest == key[1])
            if self._connection.execute(query.limit(1)).first() is None:
                message = "instances of this study name different patients: they are read apart"
                self.made.events.append((key[0], "alert", message, {"sop": placement.item.sop_uid}))
                self.made.alerts.append("patients")

    def _correct(self, placement: Placement) -> None:
        old = placement.corrects
        assert old is not None
        facts = placement.item.facts
        correct(self._connection, old, self._now, self.made)
        self.made.alerts.append("correction")
        moved = {"from": old.study_uid, "to": facts.study_instance_uid, "sop": facts.sop_instance_uid}
        for study in dict.fromkeys((old.study_uid, facts.study_instance_uid)):
            self.made.events.append((study, "alert", "a correction: equal pixels under another identity", moved))
        if facts.study_instance_uid == old.study_uid:
            query = update(STUDIES).where(STUDIES.c.study_uid == old.study_uid)
            self._connection.execute(query.values(patient_digest=facts.patient_digest))

    def _single(self, placement: Placement, row_id: int, arms: dict[StudyOf, FixedArm]) -> NewWork:
        facts = placement.item.facts
        assert placement.rule is not None
        return NewWork(
            study_uid=facts.study_instance_uid,
            patient_digest=facts.patient_digest,
            sources=(Source(row_id, facts.sop_instance_uid, self._home),),
            wanted=Wanted.by(self._settings, placement.rule, stat=placement.item.arrival.stat),
            arm=arms[facts.study_instance_uid, placement.rule.pipeline],
        )

    def _touch(self, placements: Sequence[Placement]) -> set[str]:
        """Note that something has come of these series; give the SOP Instance UIDs that opened one."""
        newest = {(p.item.facts.series_instance_uid, p.item.facts.patient_digest): p for p in placements}
        opened = set()
        for (series, digest), placement in newest.items():
            facts = placement.item.facts
            values: dict[str, Any] = {
                "home": self._home,
                "study_uid": facts.study_instance_uid,
                "calling_ae": fit(placement.item.arrival.calling_ae, 16),
                "last_at": self._now,
                "is_open": True,
            }
            if facts.expected_instances:
                values |= {"expected": facts.expected_instances, "expected_from": "sender"}
            key = (SERIES.c.series_uid == series) & (SERIES.c.patient_digest == digest)
            if self._connection.execute(update(SERIES).where(key).values(**values)).rowcount == 0:
                self._connection.execute(insert(SERIES).values(series_uid=series, patient_digest=digest, **values))
                opened.add(facts.sop_instance_uid)
        return opened

    def _lines(self, placement: Placement, opened: set[str]) -> Iterator[dict[str, object]]:
        """Give an instance's lines of the timeline; the rule of a series is told once."""
        item = placement.item
        detail: dict[str, object] = {"sop": fit(item.sop_uid, 64), "arrival": item.name}
        common = {"study_uid": placement.study_uid, "detail": detail}
        if placement.state is not InstanceState.SORTED:
            stage, message = _SAID[placement.state]
            yield {"at": self._now, "stage": stage, "message": message.format(placement.reason)[:1024], **common}
            return
        door = {"calling_ae": fit(item.arrival.calling_ae, 16), "door": item.arrival.door, "stat": item.arrival.stat}
        yield {
            **common,
            "at": item.arrival.received_at,
            "stage": "received",
            "message": "received",
            "detail": detail | door,
        }
        single = item.facts.modality in self._settings.completeness.single_image_modalities
        if placement.rule is not None and (single or item.sop_uid in opened):
            name = placement.rule.name
            message = f"rule {name!r}: read by {placement.rule.pipeline}"
            yield {**common, "at": self._now, "stage": "rule", "message": message[:1024]}
