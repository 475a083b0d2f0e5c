"""Which works may be leased, in which order, and what a lease says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, not_, select

from wetread_gateway.priority import Priority
from wetread_gateway.reading.routes import CANDIDATE
from wetread_gateway.reading.worklist import STABLE, Lease, LeasedSource, Served
from wetread_gateway.state.tables import INSTANCES, WORKS, WorkKind, WorkState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection

    from wetread_gateway.reading.routes import Routes

COLUMNS = (
    WORKS.c.id,
    WORKS.c.study_uid,
    WORKS.c.pipeline,
    WORKS.c.arm,
    WORKS.c.priority,
    WORKS.c.options,
    WORKS.c.alone,
    WORKS.c.attempts,
    WORKS.c.sources,
    WORKS.c.lease_token,
)

_AT_ONCE = 5000  # a statement takes only so many values


def due(
    now: float, routes: Routes, *, stat_only: bool, away: frozenset[str] = frozenset()
) -> tuple[ColumnElement[bool], ...]:
    """Give the works that may be leased, as two conditions: each has the order of the index, their union has not.

    What waits for a pipeline that is paused is left out as far as its row tells; `Routes.waits` tells the rest.
    `away`: intakes whose films cannot be had.
    """
    also = [WORKS.c.kind == WorkKind.READ]
    if away:
        also.append(WORKS.c.home.not_in(sorted(away)))
    if stat_only:
        also.append(WORKS.c.priority == Priority.STAT)
    also += [not_(_waits(served.pipeline, routes)) for served in sorted(routes.without) if served.arm == STABLE]
    return (
        and_(WORKS.c.state == WorkState.LEASED, WORKS.c.lease_until <= now, *also),
        and_(WORKS.c.state == WorkState.WAITING, WORKS.c.not_before <= now, *also),
    )


def _waits(pipeline: str, routes: Routes) -> ColumnElement[bool]:
    """Give the works that nothing else than the stable arm of this pipeline, which is paused, can read."""
    waits = WORKS.c.pipeline == pipeline
    rollout = routes.rollouts.of(pipeline)
    if rollout is None:
        return waits
    if rollout.light_model and Served(rollout.light_model, STABLE) not in routes.without:
        waits = and_(waits, WORKS.c.priority != Priority.ROUTINE)
    if rollout.candidate_percent > 0 and Served(pipeline, CANDIDATE) not in routes.without:
        waits = and_(waits, WORKS.c.arm != CANDIDATE)
    return waits


def choose(held: Sequence[Any], due: Sequence[Any]) -> list[Any]:
    """Choose of what is due, in order, so that what is to be read alone is alone in its pipeline at this owner.

    Such a work waits until nothing of its pipeline is under way, and nothing passes it meanwhile.
    """
    busy = {row.pipeline for row in held}
    closed = {row.pipeline for row in held if row.alone}
    chosen = []
    for row in due:
        if row.pipeline in closed:
            continue
        if row.alone:
            closed.add(row.pipeline)
            if row.pipeline in busy:
                continue
        busy.add(row.pipeline)
        chosen.append(row)
    return chosen


def sources_of(connection: Connection, works: Sequence[Any]) -> dict[int, LeasedSource]:
    """Give the images of works, by the id of their row."""
    ids = sorted({source for work in works for source in work.sources})
    columns = (INSTANCES.c.id, INSTANCES.c.sop_uid, INSTANCES.c.path, INSTANCES.c.home)
    found: dict[int, LeasedSource] = {}
    for start in range(0, len(ids), _AT_ONCE):
        rows = connection.execute(select(*columns).where(INSTANCES.c.id.in_(ids[start : start + _AT_ONCE])))
        found.update((row.id, LeasedSource(row.sop_uid, row.path, row.home)) for row in rows)
    return found


def lease_of(row: Any, token: int, owner: str, until: float, sources: dict[int, LeasedSource], routes: Routes) -> Lease:
    """Give the lease of a work; what reads it is decided now."""
    served = routes.served(row)
    return Lease(
        work=row.id,
        token=token,
        until=until,
        owner=owner,
        study_uid=row.study_uid,
        served=served,
        priority=Priority(row.priority),
        any_body_part=bool(row.options.get("any_body_part", False)),
        alone=row.alone,
        attempts=row.attempts,
        sources=tuple(sources.get(source, LeasedSource("")) for source in row.sources),
        has_shadow=routes.has_shadow(row, served),
    )
