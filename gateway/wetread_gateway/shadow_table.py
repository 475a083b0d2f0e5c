"""`wetread gateway shadow`: how a candidate's readings compare with those that were reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from sqlalchemy import case, func, select

from wetread_gateway.state.tables import SHADOW_READINGS, WORKS

if TYPE_CHECKING:
    from rich.console import RenderableType

    from wetread_gateway.context import Context

_MOST_NAMED = 20


def comparison(context: Context, pipeline: str) -> list[RenderableType]:
    """Give the comparison by pair of releases, the newest candidate last, and the studies decided otherwise.

    Empty when no candidate of this pipeline has read in shadow.
    """
    shadows = SHADOW_READINGS.c
    pair = (shadows.stable_release, shadows.release)
    flipped = func.sum(case((shadows.flips > 0, 1), else_=0))
    query = (
        select(*pair, func.count(), flipped, func.avg(shadows.difference), func.max(shadows.largest))
        .where(shadows.pipeline == pipeline)
        .group_by(*pair)
        .order_by(*reversed(pair))
    )
    named = (
        select(WORKS.c.study_uid, shadows.stable_release, shadows.release)
        .join(WORKS, WORKS.c.id == shadows.work_id)
        .where(shadows.pipeline == pipeline, shadows.flips > 0)
        .order_by(shadows.id.desc())
        .limit(_MOST_NAMED)
    )
    with context.store.read() as connection:
        rows = connection.execute(query).all()
        flips = connection.execute(named).all()
    if not rows:
        return []
    table = Table("reported", "in shadow", "works", "decided otherwise", "mean |dp|", "largest |dp|", title=pipeline)
    for stable, candidate, works, otherwise, mean, largest in rows:
        numbers = ["-" if number is None else f"{number:.4f}" for number in (mean, largest)]
        table.add_row(
            f"release {stable}", f"release {candidate}", str(works), f"{otherwise} ({otherwise / works:.1%})", *numbers
        )
    lines: list[RenderableType] = [table]
    lines += [f"decided otherwise by release {row.release}: study {row.study_uid}" for row in flips]
    return lines
