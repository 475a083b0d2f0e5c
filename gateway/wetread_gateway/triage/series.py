"""When a series of several images is whole, and what is made of it then: no half series is read in silence."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError

from wetread_gateway.audit import AuditEvent
from wetread_gateway.delivery.ask import count_series
from wetread_gateway.errors import BadInstance, SiblingAway, SourceMissing
from wetread_gateway.instance import study_key
from wetread_gateway.metrics import ALERTS
from wetread_gateway.rules import match
from wetread_gateway.siblings import Held
from wetread_gateway.state.homes import take_turn
from wetread_gateway.state.tables import EVENTS, INSTANCES, SERIES, InstanceState
from wetread_gateway.triage.arms import fix_arms
from wetread_gateway.triage.facts import instance_facts
from wetread_gateway.triage.others import Others
from wetread_gateway.triage.works import Made, NewWork, Source, Wanted, make, supersede, works_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Row
    from sqlalchemy.engine import Connection

    from wetread_gateway.config.settings import Dicom, Peer, Rule
    from wetread_gateway.context import Context
    from wetread_gateway.instance import InstanceFacts

LOG = logging.getLogger(__name__)
LOOK_S = 0.2
"""Seconds between two looks at the open series."""
_LAST = 1 << 31  # instances without a number come last


@dataclass(frozen=True, slots=True)
class _Whole:
    """How a series came to count as whole."""

    completeness: str
    said: str


class SeriesWatch:
    """Watches the open series. `count`: asks the source how many images a series has; it may take seconds."""

    def __init__(
        self,
        context: Context,
        clock: Callable[[], float] = time.time,
        count: Callable[[Peer, Dicom, str, str], int | None] = count_series,
    ) -> None:
        self._context = context
        self._clock = clock
        self._count = count
        self._asking: dict[tuple[str, str], Future[int | None]] = {}
        self._askers = ThreadPoolExecutor(2, thread_name_prefix="count")
        self._looked_at = 0.0

    def close(self) -> None:
        """Stop asking."""
        self._askers.shutdown(wait=False, cancel_futures=True)

    def check(self) -> bool:
        """Make works of the series that are whole; False when there are none. Call it when all that came is sorted."""
        now = self._clock()
        if 0 <= now - self._looked_at < LOOK_S:
            return False
        self._looked_at = now
        self._answers()
        others = Others(self._context.home, now)
        with self._context.store.read() as connection:
            rows = connection.execute(select(SERIES).where(SERIES.c.is_open)).all()
            if rows:
                others.look(connection)
            waiting = [(row, _images(connection, row)) for row in rows if others.leave_to_us(row)]
        done = False
        for row, images in waiting:
            whole = self._whole(row, len(images), now, others)
            if whole is not None:
                done |= self._try_to_close(row, images, whole, now)
        return done

    def _whole(self, row: Row[Any], have: int, now: float, others: Others) -> _Whole | None:
        """Tell whether a series is whole by now."""
        rules = self._context.settings.completeness
        silent = now - row.last_at
        if silent < rules.quiet_confirmed_s:
            return None
        if row.expected is not None and have >= row.expected:
            return _Whole("confirmed", f"all {row.expected} images are here, by the count of {row.expected_from}")
        if row.expected_from != "sender" and (row.asked_at is None or row.asked_at < row.last_at):
            self._ask(row, now)
        if (row.series_uid, row.patient_digest) in self._asking or silent < rules.quiet_s:
            return None
        if self._context.spool.open_associations(row.calling_ae) or others.may_have_more(row, rules.quiet_s):
            return None
        of = "an unknown number of" if row.expected is None else str(row.expected)
        return _Whole("unconfirmed", f"{have} of {of} images, and nothing came for {rules.quiet_s:g} s{others.said()}")

    def _ask(self, row: Row[Any], now: float) -> None:
        settings = self._context.settings
        peer = next(
            (peer for peer in settings.peer if peer.ae_title == row.calling_ae and peer.host and peer.port), None
        )
        key = (row.series_uid, row.patient_digest)
        if peer is None or key in self._asking:
            return
        with self._context.store.write() as connection:
            connection.execute(update(SERIES).where(_is(*key)).values(asked_at=now))
        self._asking[key] = self._askers.submit(self._count, peer, settings.dicom, row.study_uid, row.series_uid)

    def _answers(self) -> None:
        """Take the answers that have come."""
        for key, future in [one for one in self._asking.items() if one[1].done()]:
            del self._asking[key]
            error = future.exception()
            if error is not None:
                LOG.warning("a source could not be asked for a count", extra={"reason": type(error).__name__})
                continue
            if (count := future.result()) is not None:
                with self._context.store.write() as connection:
                    values = {"expected": count, "expected_from": "c-find"}
                    connection.execute(update(SERIES).where(_is(*key)).values(**values))

    def _try_to_close(self, row: Row[Any], images: Sequence[Row[Any]], whole: _Whole, now: float) -> bool:
        """Close it; False when that waits for another intake."""
        try:
            self._close(row, images, whole, now)
        except SiblingAway as error:  # all that is known of it lies there
            LOG.info("a series waits for an intake: %s", error, extra={"study": study_key(row.study_uid)})
            return False
        except IntegrityError:  # another intake has made the same work in this moment
            LOG.warning("a series is looked at again", extra={"study": study_key(row.study_uid)})
            return False
        return True

    def _close(self, row: Row[Any], images: Sequence[Row[Any]], whole: _Whole, now: float) -> None:
        """Make the work of a series and wait no more."""
        context = self._context
        rule, facts = self._rule(images)
        if images:
            detail = {"series": row.series_uid, "images": len(images), "completeness": whole.completeness}
            context.audit.record(AuditEvent("rule", "ok", context.slot, row.study_uid, row.series_uid, detail))
        made = Made()
        with context.store.write() as connection:
            if context.home:
                take_turn(connection)
            key = _is(row.series_uid, row.patient_digest) & (SERIES.c.last_at == row.last_at) & SERIES.c.is_open
            if connection.execute(update(SERIES).where(key).values(is_open=False)).rowcount == 0:
                return  # something has come meanwhile
            if not images:
                return
            if rule is None or facts is None or not rule.pipeline:
                _unmatch(connection, images, made)
            else:
                self._work(connection, row, images, whole, rule, facts, made, now)
            _tell(connection, made, now)
        ours = [image for image in images if image.home == context.home]
        for image in ours if rule is None or not rule.pipeline else ():
            context.spool.move(image.arrival, image.study_uid, "unmatched")
        if whole.completeness == "unconfirmed":
            LOG.warning("a series was not confirmed to be whole", extra={"study": study_key(row.study_uid)})
            ALERTS.labels("incomplete").inc()
        made.count()
        for stage in made.rings:
            context.ring(stage)

    def _work(
        self,
        connection: Connection,
        row: Row[Any],
        images: Sequence[Row[Any]],
        whole: _Whole,
        rule: Rule,
        facts: InstanceFacts,
        made: Made,
        now: float,
    ) -> None:
        follows = _follows(connection, row, images, now, made)
        of = (row.study_uid, rule.pipeline)
        work = NewWork(
            study_uid=row.study_uid,
            patient_digest=row.patient_digest,
            sources=tuple(Source(image.id, image.sop_uid, image.home) for image in images),
            wanted=Wanted.by(self._context.settings, rule, stat=any(image.stat for image in images)),
            arm=fix_arms(connection, self._context.rollouts, {of: facts})[of],
            completeness=whole.completeness,
            expected=row.expected,
            follows=follows,
        )
        make(connection, [work], now, made)
        detail = {"series": row.series_uid, "images": len(images), "expected": row.expected}
        made.events.append((row.study_uid, "complete", f"series {whole.completeness}: {whole.said}", detail))
        if whole.completeness == "unconfirmed":
            made.events.append((row.study_uid, "alert", "read without knowing whether the series is whole", detail))

    def _rule(self, images: Sequence[Row[Any]]) -> tuple[Rule | None, InstanceFacts | None]:
        """Give the rule for a series, as the settings are now, and the facts of its first image that is readable.

        Images that lie here come first. SiblingAway when those that could be read all lie at an intake that is away.
        """
        context, away = self._context, None
        for image in sorted(images, key=lambda one: one.home != context.home):
            try:
                with context.siblings.borrowed([Held(image.home, image.path, image.study_uid)]) as (path,):
                    facts = instance_facts(path)
                    return match(context.settings, facts, context.spool.arrival_of(path)).rule, facts
            except SiblingAway as error:
                away = error
            except (BadInstance, FileNotFoundError, SourceMissing):
                continue
        if away is not None:
            raise away
        return None, None


def _is(series_uid: str, patient_digest: str) -> Any:
    return (SERIES.c.series_uid == series_uid) & (SERIES.c.patient_digest == patient_digest)


def _images(connection: Connection, row: Row[Any]) -> list[Row[Any]]:
    """Give the instances of a series that count, in order; of one study and one patient."""
    query = select(INSTANCES).where(
        INSTANCES.c.study_uid == row.study_uid,
        INSTANCES.c.series_uid == row.series_uid,
        INSTANCES.c.patient_digest == row.patient_digest,
        INSTANCES.c.state == InstanceState.SORTED,
    )
    order = (func.coalesce(INSTANCES.c.instance_number, _LAST), INSTANCES.c.sop_uid)
    return list(connection.execute(query.order_by(*order)))


def _follows(
    connection: Connection, row: Row[Any], images: Sequence[Row[Any]], now: float, made: Made
) -> Row[Any] | None:
    """Give the work that the series' new reading follows: its last one, unless that was never begun."""
    follows = None
    for work in works_of(connection, row.study_uid, (image.id for image in images)):
        if work.sources == [image.id for image in images]:
            continue
        if supersede(connection, work, now, "more images of its series came before it was read"):
            made.events.append((row.study_uid, "complete", "not read: more of its series came", {"work": work.id}))
        else:
            follows = work
    return follows


def _unmatch(connection: Connection, images: Sequence[Row[Any]], made: Made) -> None:
    reason = "no rule matches when its series is whole"
    ids = [image.id for image in images]
    connection.execute(
        update(INSTANCES).where(INSTANCES.c.id.in_(ids)).values(state=InstanceState.UNMATCHED, reason=reason)
    )
    made.events.append((images[0].study_uid, "rule", f"kept in `unmatched`, not read: {reason}", {"images": len(ids)}))


def _tell(connection: Connection, made: Made, now: float) -> None:
    lines = [
        {"at": now, "study_uid": study, "stage": stage, "message": message[:1024], "detail": detail}
        for study, stage, message, detail in made.events
    ]
    if lines:
        connection.execute(insert(EVENTS), lines)
