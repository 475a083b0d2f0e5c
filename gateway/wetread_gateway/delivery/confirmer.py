"""Asks a destination whether it holds what it has said Success for: by commitment, C-FIND, QIDO-RS, or not at all."""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from typing import TYPE_CHECKING

from sqlalchemy import select

from wetread_gateway.delivery import commitment, finish, queue
from wetread_gateway.delivery.breaker import Backoff
from wetread_gateway.delivery.outlet import NotOffered
from wetread_gateway.delivery.statuses import Remedy, of_commitment
from wetread_gateway.errors import TryAgain, Unreachable
from wetread_gateway.metrics import ALERTS
from wetread_gateway.priority import Priority
from wetread_gateway.state.tables import COMMITMENTS, TRANSACTIONS, DeliveryState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wetread_gateway.config.settings import Destination
    from wetread_gateway.context import Context
    from wetread_gateway.delivery.breaker import Breaker
    from wetread_gateway.delivery.dicom_out import DicomPeer
    from wetread_gateway.delivery.outlet import Inquiry, Reference
    from wetread_gateway.delivery.queue import Parcel
    from wetread_gateway.state.store import AnyRow

LOG = logging.getLogger(__name__)

GATHER_S = 1.0  # that a commitment request waits for more to ask for
BATCH = 256  # deliveries in one request
UNANSWERED = 3  # commitment requests without a report, after which it is asked otherwise too
UNNAMED = 3  # fruitless questions, after which it is sent again
IDLE_S = 2.0
ASK_BACKOFF = Backoff(1.0, 300.0)
# The worst thing that a report says of one of its instances counts for a delivery.
_WORST = (Remedy.GIVE_UP, Remedy.SEND, Remedy.ASK_OTHERWISE, Remedy.ASK)


class Confirmer:
    """Confirms the stored deliveries of a destination; for one thread.

    `dicom`: its association, None where it has none. `inquiries`: by name (`find`, `qido`), in the order of asking.
    """

    def __init__(
        self,
        context: Context,
        destination: Destination,
        dicom: DicomPeer | None,
        inquiries: Mapping[str, Inquiry],
        breaker: Breaker,
    ) -> None:
        self._context, self._destination = context, destination
        self._dicom, self._inquiries, self._breaker = dicom, inquiries, breaker
        self._asks_commitment = destination.verify == "commitment" and dicom is not None
        self._unanswered: Counter[int] = Counter()  # commitment requests, by delivery
        self._chance = random.Random()  # noqa: S311 -- spreads attempts, hides nothing

    def step(self) -> bool:
        """Take in the reports that have come, then ask for what is due; False when there was nothing to do."""
        is_reported = self._take_reports()
        store, name = self._context.store, self._destination.name
        found = queue.due(store, name, DeliveryState.STORED, BATCH, home=self._context.home)
        if not found or not self._is_gathered(found) or not self._breaker.allows():
            return is_reported
        try:
            self._ask(found)
        finally:
            self._breaker.not_tried()  # where it was told how it went, this changes nothing
        return True

    def wait(self, timeout_s: float) -> bool:
        """Wait for what the peer says unasked, on the association that is open; False when there is none to wait on."""
        if self._dicom is None or not self._dicom.is_open:
            return False
        self._dicom.serve(timeout_s)
        # A report may come as late as we wait for it, where we asked; then nothing is lost, it is asked for anew.
        self._dicom.close_idle(max(IDLE_S, self._destination.commitment_wait_s) if self._unanswered else IDLE_S)
        return True

    def close(self) -> None:
        """Close all connections."""
        if self._dicom is not None:
            self._dicom.close()
        for inquiry in self._inquiries.values():
            inquiry.close()

    def _is_gathered(self, found: Sequence[Parcel]) -> bool:
        if not self._asks_commitment or len(found) >= BATCH or found[0].priority == Priority.STAT:
            return True
        return time.time() - min(parcel.stored_at for parcel in found) >= GATHER_S

    def _ask(self, found: Sequence[Parcel]) -> None:
        """Ask for all, and tell the breaker how it went."""
        why = ""
        by_commitment = [one for one in found if self._asks_commitment and not self._is_silent(one)]
        try:
            if by_commitment:
                why = self._request_commitment(by_commitment)
            self._inquire_all([(one, why or self._why(one)) for one in found if why or one not in by_commitment])
        except Unreachable as error:
            self._breaker.failed(unreachable=True, after_s=error.after_s)
        except TryAgain as error:
            self._breaker.failed(after_s=error.after_s)
        else:
            self._breaker.succeeded()

    def _is_silent(self, parcel: Parcel) -> bool:
        return self._unanswered[parcel.id] >= UNANSWERED and bool(self._inquiries)

    def _why(self, parcel: Parcel) -> str:
        return "storage commitment is asked for in vain" if self._unanswered[parcel.id] else ""

    def _request_commitment(self, parcels: Sequence[Parcel]) -> str:
        """Ask for one report on all of them; gives why not, when it is not offered."""
        assert self._dicom is not None
        store, transaction_uid = self._context.store, commitment.new_transaction_uid()
        try:
            if not self._dicom.offers(commitment.PUSH_MODEL):
                return "storage commitment is not offered"
            with store.write() as connection:
                commitment.begin(connection, transaction_uid, self._destination.name, self._context.home)
                queue.asked(connection, parcels, transaction_uid, self._destination.commitment_wait_s)
            self._unanswered.update(parcel.id for parcel in parcels)
            self._dicom.request_commitment(transaction_uid, self._references(parcels))
        except NotOffered as error:
            with store.write() as connection:
                commitment.end(connection, transaction_uid)
            return str(error)
        except TryAgain as error:
            wait_s = max(error.after_s, ASK_BACKOFF.after(1, self._chance))
            queue.not_asked(store, parcels, str(error), wait_s)
            raise
        return ""

    def _inquire_all(self, parcels: Sequence[tuple[Parcel, str]]) -> None:
        """Ask for each, and write down together what is held: one fsync for all."""
        held: dict[tuple[str, str], list[Parcel]] = {}
        try:
            for parcel, why in parcels:
                if answer := self._inquire(parcel, why):
                    held.setdefault(answer, []).append(parcel)
        finally:
            for (way, why), confirmed in held.items():
                self._delivered(confirmed, way, why)

    def _inquire(self, parcel: Parcel, why: str) -> tuple[str, str] | None:
        """Ask by each way that there is, the first that is offered counts; else the peer's Success is all there is.

        Gives the way that named every object, and why it was not asked as configured; None when it is asked again.
        """
        references = self._references([parcel])
        for way, inquiry in self._inquiries.items():
            try:
                named = inquiry.named(references)
            except NotOffered as error:
                why = f"{why}; {error}" if why else str(error)
                continue
            except TryAgain as error:
                self._postpone(parcel, str(error), error.after_s)
                raise
            missing = set(parcel.objects) - named
            if missing:
                self._take_denial(parcel, way, missing)
            return None if missing else (way, why)
        return "status", why

    def _take_denial(self, parcel: Parcel, way: str, missing: set[str]) -> None:
        reason = f"it does not name {len(missing)} of {len(parcel.objects)} objects when asked by {way}"
        if (parcel.attempts + 1) % UNNAMED == 0:
            self._send_again(parcel, reason)
        else:
            self._postpone(parcel, reason)

    def _take_reports(self) -> bool:
        query = (
            select(COMMITMENTS)
            .join(TRANSACTIONS, TRANSACTIONS.c.transaction_uid == COMMITMENTS.c.transaction_uid)
            .where(TRANSACTIONS.c.destination == self._destination.name, TRANSACTIONS.c.home == self._context.home)
        )
        with self._context.store.read() as connection:
            reports = connection.execute(query).all()
        for report in reports:
            self._take_report(report)
            with self._context.store.write() as connection:
                commitment.end(connection, report.transaction_uid)
        return bool(reports)

    def _take_report(self, report: AnyRow) -> None:
        committed, failed = set(report.committed), dict(report.failed)
        name = self._destination.name
        # A late report, of a transaction that was asked anew since, is as good.
        named = [
            parcel
            for parcel in queue.awaiting(self._context.store, name, self._context.home)
            if set(parcel.objects) & (committed | failed.keys())
        ]
        self._delivered([parcel for parcel in named if set(parcel.objects) <= committed - failed.keys()], "commitment")
        for parcel in named:
            if reasons := [int(failed[uid]) for uid in parcel.objects if uid in failed]:
                self._mend(parcel, reasons)
        if not named:
            LOG.info("a commitment report names nothing that waits for one", extra={"destination": name})

    def _mend(self, parcel: Parcel, reasons: Sequence[int]) -> None:
        ALERTS.labels("not_committed").inc()
        remedies = {of_commitment(reason)[0]: reason for reason in reasons}
        remedy = next(remedy for remedy in _WORST if remedy in remedies)
        reason = remedies[remedy]
        said = f"it does not commit to an object: {of_commitment(reason)[1]} (0x{reason:04X})"
        if remedy is Remedy.GIVE_UP:
            finish.dead(self._context, [parcel], said)
        elif remedy is Remedy.SEND:
            self._send_again(parcel, said)
        else:
            if remedy is Remedy.ASK_OTHERWISE:
                self._unanswered[parcel.id] = UNANSWERED
            self._postpone(parcel, said)

    def _references(self, parcels: Sequence[Parcel]) -> list[Reference]:
        found = queue.objects_of(self._context.store, parcels)
        return [found[uid].reference for parcel in parcels for uid in parcel.objects if uid in found]

    def _delivered(self, parcels: Sequence[Parcel], confirmed_by: str, why: str = "") -> None:
        finish.delivered(self._context, parcels, confirmed_by, why)
        self._forget(parcels)

    def _send_again(self, parcel: Parcel, reason: str) -> None:
        wait_s = ASK_BACKOFF.after(parcel.attempts + 1, self._chance)
        queue.send_again(self._context.store, parcel, reason, wait_s)
        self._forget([parcel])

    def _postpone(self, parcel: Parcel, reason: str, after_s: float = 0.0) -> None:
        wait_s = max(after_s, ASK_BACKOFF.after(parcel.attempts + 1, self._chance))
        queue.postponed(self._context.store, parcel, DeliveryState.STORED, reason, wait_s)

    def _forget(self, parcels: Sequence[Parcel]) -> None:
        for parcel in parcels:
            del self._unanswered[parcel.id]
