"""Segmentations in the state store: beside their reading, so that films' rows stay as small as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import insert, select

from wetread_gateway.reading.segmentation import StoredSegmentation
from wetread_gateway.reading.stored import StoredReading
from wetread_gateway.state.tables import READINGS, SEGMENTATIONS

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_LABELS = SEGMENTATIONS.c.labels
_WHOLE = select(READINGS, SEGMENTATIONS.c.document.label("segmentation"), _LABELS).outerjoin(
    SEGMENTATIONS, SEGMENTATIONS.c.work_id == READINGS.c.work_id
)


def keep_segmentation(connection: Connection, work: int, segmentation: StoredSegmentation | None) -> None:
    """Write the segmentation of a work's reading, in the transaction that writes the reading; None: there is none."""
    if segmentation is not None:
        row = {"work_id": work, "document": segmentation.document(), "labels": segmentation.labels}
        connection.execute(insert(SEGMENTATIONS).values(row))


def reading_of(connection: Connection, work: int) -> StoredReading | None:
    """Give the reading of a work with all that belongs to it, None when it has none yet."""
    row = connection.execute(_WHOLE.where(READINGS.c.work_id == work)).first()
    if row is None:
        return None
    found = None if row.labels is None else StoredSegmentation.parse(row.segmentation, row.labels)
    return StoredReading.parse(row.document, row.heatmap, found)
