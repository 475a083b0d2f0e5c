"""Finds out whether the instances of one request have been read, and what came of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wetread_gateway.state.tables import InstanceState, WorkKind, WorkState
from wetread_gateway.web.models import InstanceAnswer, ReadAnswer, WorkAnswer
from wetread_gateway.web.studies import instances_of, readings_of, work_answer, works_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wetread_gateway.context import Context
    from wetread_gateway.state.store import AnyRow

OVER = (WorkState.READ, WorkState.REPORTED, WorkState.FINISHED, WorkState.DEAD)
_HAS_WORK = (InstanceState.SORTED, InstanceState.PURGED, InstanceState.CORRECTED)
_NEVER_READ = {
    InstanceState.UNMATCHED: "no rule wants it",
    InstanceState.QUARANTINED: "it is in quarantine",
    InstanceState.IGNORED: "it is nothing that is read",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where the request stands. `is_over`: nothing more will come; `works` are read or given up then."""

    is_over: bool
    works: tuple[WorkAnswer, ...]
    instances: tuple[InstanceAnswer, ...]

    @property
    def has_reading(self) -> bool:
        """Whether something was read that the pipeline did not refuse."""
        return any(work.reading is not None and work.reading.refusal is None for work in self.works)

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why works came to nothing: the pipeline's word, or the dead letter's."""
        return tuple(
            f"{work.reading.refusal.code}: {work.reading.refusal.reason}"
            if work.reading and work.reading.refusal
            else work.reason or "given up"
            for work in self.works
            if work.reading is None or work.reading.refusal
        )

    @property
    def set_aside(self) -> tuple[str, ...]:
        """Which instances will never be read, and why."""
        return tuple(
            f"{one.sop_uid}: {one.reason or _NEVER_READ[InstanceState(one.state)]}"
            for one in self.instances
            if one.state in _NEVER_READ
        )

    def conflicts(self) -> bool:
        """Whether an instance is unmatched or in quarantine, rather than nothing to read."""
        return any(one.state in (InstanceState.UNMATCHED, InstanceState.QUARANTINED) for one in self.instances)

    def answer(self, study_uid: str, failed: list[str]) -> ReadAnswer:
        """Give the body of the answer."""
        return ReadAnswer(
            study_uid, "read" if self.is_over else "waiting", list(self.works), list(self.instances), failed
        )


def look(context: Context, study_uid: str, names: Sequence[tuple[str, str]]) -> Outcome:
    """Say where the instances stand; `names`: file name and SOP Instance UID of each."""
    with context.store.read() as connection:
        rows = instances_of(connection, study_uid)
        by_name = {row.arrival: row for row in rows}
        mine = [by_name.get(name) for name, _ in names]
        wanted = _wanted(rows, [row for row in mine if row is not None])
        works = [
            work
            for work in works_of(connection, study_uid)
            if work.kind != WorkKind.WITHDRAW and work.state != WorkState.SUPERSEDED and wanted & set(work.sources)
        ]
        covered = {source for work in works for source in work.sources}
        is_over = all(mine) and wanted <= covered and all(work.state in OVER for work in works)
        readings = readings_of(connection, [work.id for work in works])
    by_id = {row.id: row for row in rows}
    return Outcome(
        is_over,
        tuple(work_answer(context, work, by_id, readings.get(work.id)) for work in works) if is_over else (),
        tuple(
            InstanceAnswer(uid, "received", "", "")
            if row is None
            else InstanceAnswer(row.sop_uid, row.state, row.reason, row.rule)
            for row, (_, uid) in zip(mine, names, strict=True)
        ),
    )


def _wanted(rows: Sequence[AnyRow], mine: Sequence[AnyRow]) -> set[int]:
    """Give the ids whose works tell of `mine`: of a duplicate it is the instance that came first."""
    wanted = {row.id for row in mine if row.state in _HAS_WORK}
    for copy in (row for row in mine if row.state == InstanceState.DUPLICATE):
        wanted |= {row.id for row in rows if row.sop_uid == copy.sop_uid and row.state in _HAS_WORK}
    return wanted
