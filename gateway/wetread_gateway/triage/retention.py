"""Lets go of what need not be kept: images after their results are out, rows after the window for duplicates.

What leaves, and when: the images and results of a study `pixels_h` after its last work has finished; ignored instances
and duplicates `pixels_h` after they came; what no rule wants, `unmatched_days` after. What somebody must look at stays
until he has: the dead letter and the quarantine. Rows go `metadata_days` after their files, the timeline too.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, exists, select, update

from wetread_gateway.audit import AuditEvent
from wetread_gateway.instance import study_key
from wetread_gateway.state.store import note
from wetread_gateway.state.tables import (
    COMMITMENTS,
    DELIVERIES,
    EVENTS,
    INSTANCES,
    OBJECTS,
    READINGS,
    SEGMENTATIONS,
    SERIES,
    SHADOW_READINGS,
    STUDIES,
    STUDY_ARMS,
    WORKS,
    DeliveryState,
    InstanceState,
    WorkState,
)
from wetread_gateway.triage.moving import follow
from wetread_gateway.triage.pixel_process import PixelProcess, PixelsUnknown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Row, Select
    from sqlalchemy.engine import Connection

    from wetread_gateway.context import Context

LOG = logging.getLogger(__name__)

EVERY_S = 60.0
FOLLOW_S = 5.0
"""Seconds between two looks for our files of works that other intakes have ended."""
STUDIES_AT_ONCE = 500
_OVER = (WorkState.FINISHED, WorkState.SUPERSEDED)
_READ = (InstanceState.SORTED, InstanceState.CORRECTED)
_OF_NO_USE = (InstanceState.IGNORED, InstanceState.DUPLICATE)


class Janitor:
    """Purges, a little at a time. `clock`: seconds since 1970."""

    def __init__(
        self, context: Context, clock: Callable[[], float] = time.time, pixels: PixelProcess | None = None
    ) -> None:
        self._context = context
        self._clock = clock
        self._pixels = pixels or PixelProcess()
        self._closed = threading.Event()

    def run(self) -> None:
        """Purge now and then until closed: on a thread of its own, since decoding for the digests takes its time."""
        purged_at = time.monotonic()
        while not self._closed.wait(FOLLOW_S):
            try:
                follow(self._context)
                if time.monotonic() - purged_at >= EVERY_S:
                    purged_at = time.monotonic()
                    self.purge()
            except Exception:  # this thread's outermost loop: whatever is wrong now, it tries again in a minute
                LOG.exception("purging failed")

    def close(self) -> None:
        """Stop."""
        self._closed.set()
        self._pixels.close()

    def purge(self) -> int:
        """Let go of what is due now; the number of files that left the spool."""
        settings, now = self._context.settings.retention, self._clock()
        pixels_until = now - settings.pixels_h * 3600
        left = self._purge_studies(pixels_until) + self._purge_useless(pixels_until, _OF_NO_USE)
        left += self._purge_useless(now - settings.unmatched_days * 86400, (InstanceState.UNMATCHED,))
        self._forget(now - settings.metadata_days * 86400)
        return left

    def _purge_studies(self, until: float) -> int:
        with self._context.store.read() as connection:
            here = exists().where(
                INSTANCES.c.study_uid == WORKS.c.study_uid,
                INSTANCES.c.home == self._context.home,
                INSTANCES.c.state.in_(_READ),
                INSTANCES.c.path != "",
            )
            over = (WORKS.c.state.in_(_OVER), WORKS.c.changed_at < until)
            query = select(WORKS.c.study_uid).distinct().where(*over, here)
            studies = connection.scalars(query.limit(STUDIES_AT_ONCE)).all()
        return sum(self._purge_study(study, until) for study in studies if not self._closed.is_set())

    def _purge_study(self, study_uid: str, until: float) -> int:
        """Purge the images of a study whose every work is over, and our results."""
        context = self._context
        with context.store.read() as connection:
            works = connection.execute(select(WORKS).where(WORKS.c.study_uid == study_uid)).all()
            here = (INSTANCES.c.study_uid == study_uid) & (INSTANCES.c.home == context.home)
            images = connection.execute(select(INSTANCES).where(here, INSTANCES.c.state.in_(_READ))).all()
            ours = (OBJECTS.c.study_uid == study_uid) & (OBJECTS.c.home == context.home)
            results = connection.scalars(select(OBJECTS.c.path).where(ours)).all()
            undelivered = connection.scalars(_undelivered().where(WORKS.c.study_uid == study_uid)).first()
        if undelivered is not None or any(work.state not in _OVER or work.changed_at >= until for work in works):
            return 0
        read = {source for work in works for source in work.sources}
        due = [image for image in images if image.id in read and image.path]
        digests = {image.id: self._digest(image) for image in due}
        context.audit.record(AuditEvent("operate", "ok", context.slot, study_uid, detail={"purged": len(due)}))
        with context.store.write() as connection:
            for image in due:
                values = {"path": "", "pixel_digest": digests[image.id]}
                if image.state == InstanceState.SORTED:
                    values["state"] = InstanceState.PURGED
                connection.execute(update(INSTANCES).where(INSTANCES.c.id == image.id).values(**values))
            note(connection, study_uid, "purge", "images and results left the spool", {"images": len(due)})
        for image in due:
            context.spool.remove(image.arrival, study_uid)
        for path in results:
            context.spool.remove(path, study_uid)
        return len(due)

    def _digest(self, image: Row[Any]) -> str:
        """Give what its twins are compared with from now on; nothing where it cannot be decoded."""
        try:
            return self._pixels.digest(self._context.spool.locate(image.path, image.study_uid))
        except (FileNotFoundError, PixelsUnknown) as error:
            reason = type(error).__name__
            LOG.warning("no digest of its pixels", extra={"study": study_key(image.study_uid), "reason": reason})
            return ""

    def _purge_useless(self, until: float, states: Sequence[InstanceState]) -> int:
        query = select(INSTANCES).where(
            INSTANCES.c.home == self._context.home,
            INSTANCES.c.state.in_(states),
            INSTANCES.c.received_at < until,
            INSTANCES.c.path != "",
        )
        with self._context.store.read() as connection:
            due = connection.execute(query.limit(STUDIES_AT_ONCE)).all()
        if not due:
            return 0
        with self._context.store.write() as connection:
            ids = [row.id for row in due]
            connection.execute(update(INSTANCES).where(INSTANCES.c.id.in_(ids)).values(path=""))
        for row in due:
            self._context.spool.remove(row.arrival, row.study_uid)
        return len(due)

    def _forget(self, until: float) -> None:
        """Delete the rows of studies of which nothing is left in the spool and nothing has happened since `until`."""
        recent = select(EVENTS.c.study_uid).where(EVENTS.c.at >= until)
        held = select(INSTANCES.c.study_uid).where(INSTANCES.c.path != "")
        waiting = select(WORKS.c.study_uid).where(WORKS.c.state.not_in(_OVER))
        query = select(STUDIES.c.study_uid).where(
            STUDIES.c.received_at < until,
            STUDIES.c.study_uid.not_in(recent),
            STUDIES.c.study_uid.not_in(held),
            STUDIES.c.study_uid.not_in(waiting),
            STUDIES.c.study_uid.not_in(_undelivered()),
        )
        with self._context.store.read() as connection:
            studies = connection.scalars(query.limit(STUDIES_AT_ONCE)).all()
        if not studies:
            return
        self._context.audit.record(AuditEvent("operate", "ok", self._context.slot, detail={"forgotten": len(studies)}))
        with self._context.store.write() as connection:
            _delete(connection, studies)
            connection.execute(delete(COMMITMENTS).where(COMMITMENTS.c.reported_at < until))


def _undelivered() -> Select[tuple[str]]:
    """Give the studies of which a delivery is in the dead letter."""
    dead = DELIVERIES.c.state == DeliveryState.DEAD
    return select(WORKS.c.study_uid).join(DELIVERIES, DELIVERIES.c.work_id == WORKS.c.id).where(dead)


def _delete(connection: Connection, studies: Sequence[str]) -> None:
    of_them = select(WORKS.c.id).where(WORKS.c.study_uid.in_(studies)).scalar_subquery()
    # A correction into another study refers to the work that it corrected.
    followers = update(WORKS).where(WORKS.c.predecessor.in_(of_them), WORKS.c.study_uid.not_in(studies))
    connection.execute(followers.values(predecessor=None))
    for table in (READINGS, SEGMENTATIONS, SHADOW_READINGS, OBJECTS, DELIVERIES):
        connection.execute(delete(table).where(table.c.work_id.in_(of_them)))
    connection.execute(update(WORKS).where(WORKS.c.study_uid.in_(studies)).values(predecessor=None))
    for table in (WORKS, INSTANCES, SERIES, EVENTS, STUDY_ARMS, STUDIES):
        connection.execute(delete(table).where(table.c.study_uid.in_(studies)))
