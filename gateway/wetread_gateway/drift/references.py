"""What a release's readings are compared with, as its card tells it; kept in the store with its first reading."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from sqlalchemy import insert, select, update
from wetread_client.card import Reference

from wetread_gateway.state.drift_tables import DRIFT_REFERENCES as KEPT

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection

    from wetread_gateway.reading.stored import StoredReading

_REMEMBER_S = 60.0


def keep_reference(connection: Connection, reading: StoredReading) -> None:
    """Write down the reference of the release that has read, unless it is there."""
    if reading.reference is None:
        return
    document = json.loads(json.dumps(asdict(reading.reference)))
    mine = _of(reading.pipeline, reading.release)
    found = connection.execute(select(KEPT.c.document).where(mine)).scalar()
    if found == document:
        return
    if found is not None:  # a release that was made anew under its number, at a developer's
        connection.execute(update(KEPT).where(mine).values(document=document))
        return
    row = {"pipeline": reading.pipeline, "release": reading.release, "document": document}
    if connection.dialect.name == "postgresql":  # another intake may write it at this moment
        from sqlalchemy.dialects.postgresql import insert as upsert  # noqa: PLC0415 -- where it is used

        connection.execute(upsert(KEPT).values(row).on_conflict_do_nothing())
    else:
        connection.execute(insert(KEPT).values(row))


class References:
    """Gives references, remembered for a minute."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[float, Reference | None]] = {}

    def get(self, connection: Connection, pipeline: str, release: int) -> Reference | None:
        """Give what a release's readings are compared with; None where it does not tell."""
        key, now = (pipeline, release), time.monotonic()
        looked_at, reference = self._known.get(key, (-_REMEMBER_S, None))
        if now - looked_at >= _REMEMBER_S:
            document = connection.execute(select(KEPT.c.document).where(_of(pipeline, release))).scalar()
            reference = None if document is None else Reference.parse(document)
            self._known[key] = now, reference
        return reference


def _of(pipeline: str, release: int) -> ColumnElement[bool]:
    return (KEPT.c.pipeline == pipeline) & (KEPT.c.release == release)
