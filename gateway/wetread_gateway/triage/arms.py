"""Which arm of a rollout reads a study: fixed with the first instance to be read, so that a study never changes arm."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sqlalchemy import insert, select
from wetread_client.rollout import Arm, assign, key_of

from wetread_gateway.state.tables import STUDY_ARMS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection
    from wetread_client.rollout import Rollout

    from wetread_gateway.instance import InstanceFacts
    from wetread_gateway.rollouts import Rollouts

STABLE = Arm.STABLE.value
StudyOf: TypeAlias = "tuple[str, str]"
"""A study's UID and the pipeline that reads it."""


@dataclass(frozen=True, slots=True)
class FixedArm:
    """An arm, and the release that it meant when it was fixed: a later candidate has no claim to the study."""

    arm: str = STABLE
    candidate: int = 0


def arm_of(rollout: Rollout | None, facts: InstanceFacts) -> FixedArm:
    """Give the arm of a study that is seen for the first time: the one that a plain client would be given."""
    if rollout is None:
        return FixedArm()
    key = key_of(
        rollout,
        patient_id=facts.patient_id,
        study_uid=facts.study_instance_uid,
        accession=facts.accession_number,
    )
    arm = assign(rollout, key)
    return FixedArm(arm.value, rollout.candidate or 0 if arm is Arm.CANDIDATE else 0)


def fix_arms(
    connection: Connection, rollouts: Rollouts, first: Mapping[StudyOf, InstanceFacts]
) -> dict[StudyOf, FixedArm]:
    """Give the arm of each study and pipeline; what has none yet is given it by its first instance, for good."""
    if not first or not rollouts.in_use:
        return dict.fromkeys(first, FixedArm())
    query = select(STUDY_ARMS).where(STUDY_ARMS.c.study_uid.in_({uid for uid, _ in first}))
    fixed = {(row.study_uid, row.pipeline): FixedArm(row.arm, row.candidate) for row in connection.execute(query)}
    rows = []
    for (study, pipeline), facts in first.items():
        if (study, pipeline) in fixed:
            continue
        given = fixed[study, pipeline] = arm_of(rollouts.of(pipeline), facts)
        row = {"study_uid": study, "pipeline": pipeline, "arm": given.arm, "candidate": given.candidate}
        rows.append(row | {"fixed_at": time.time()})
    if rows:
        connection.execute(insert(STUDY_ARMS), rows)
    return {one: fixed[one] for one in first}
