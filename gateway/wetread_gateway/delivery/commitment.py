"""Storage commitment, asked of a destination for our own objects (PS3.4 annex J): request, report, transactions."""

from __future__ import annotations

import logging
import time
import uuid
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from pynetdicom.sop_class import StorageCommitmentPushModel
from sqlalchemy import delete, insert, select, update

from wetread_gateway.bell import ring
from wetread_gateway.errors import BadInstance
from wetread_gateway.state.tables import COMMITMENTS, TRANSACTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy.engine import Connection

    from wetread_gateway.delivery.outlet import Reference
    from wetread_gateway.state.store import StateStore

LOG = logging.getLogger(__name__)

PUSH_MODEL = str(StorageCommitmentPushModel)
PUSH_MODEL_INSTANCE = "1.2.840.10008.1.20.1.1"  # the well-known instance, PS3.4 J.3.5
REQUEST_ACTION = 1  # PS3.4 J.3.2
_UNNAMED_REASON = 0x0110  # processing failure: a failed instance without its reason


def new_transaction_uid() -> str:
    """Draw a Transaction UID (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid4().int}"


def request(transaction_uid: str, references: Sequence[Reference]) -> Dataset:
    """Make the Action Information of a request (PS3.4 table J.3-1)."""
    information = Dataset()
    information.TransactionUID = transaction_uid
    information.ReferencedSOPSequence = [_item(reference) for reference in references]
    return information


def begin(connection: Connection, transaction_uid: str, destination: str, home: str = "") -> None:
    """Make a transaction known before it is asked for: its report may be quicker than the answer."""
    values = {"transaction_uid": transaction_uid, "home": home, "destination": destination, "asked_at": time.time()}
    connection.execute(insert(TRANSACTIONS).values(values))


def end(connection: Connection, transaction_uid: str) -> None:
    """Forget a transaction and its report: what it said has been done."""
    for table in (COMMITMENTS, TRANSACTIONS):
        connection.execute(delete(table).where(table.c.transaction_uid == transaction_uid))


def forget_before(connection: Connection, moment: float) -> None:
    """Forget the transactions asked for before `moment` that no report came for."""
    old = select(TRANSACTIONS.c.transaction_uid).where(TRANSACTIONS.c.asked_at < moment)
    connection.execute(delete(COMMITMENTS).where(COMMITMENTS.c.transaction_uid.in_(old)))
    connection.execute(delete(TRANSACTIONS).where(TRANSACTIONS.c.asked_at < moment))


def record_report(store: StateStore, dataset: Dataset, bells: Path | None = None) -> bool:
    """Make a report durable (N-EVENT-REPORT, PS3.4 table J.3-2) and ring the delivery stage at `bells`.

    False for a transaction that is not ours, or is over: nothing comes of it. BadInstance when it names none.
    """
    try:
        transaction_uid, report = _read(dataset)
    except (ValueError, TypeError, AttributeError) as error:
        raise BadInstance(f"a commitment report that cannot be read ({type(error).__name__})") from error
    ours = select(TRANSACTIONS.c.destination).where(TRANSACTIONS.c.transaction_uid == transaction_uid)
    with store.write() as connection:
        known = connection.execute(ours.with_for_update()).scalar()
        if known is not None:
            is_here = COMMITMENTS.c.transaction_uid == transaction_uid
            if not connection.execute(update(COMMITMENTS).where(is_here).values(report)).rowcount:
                connection.execute(insert(COMMITMENTS).values(transaction_uid=transaction_uid, **report))
    if known is None:
        LOG.warning("a commitment report for a transaction that is unknown or over: nothing comes of it")
        return False
    if bells is not None:
        ring(bells, "deliver")
    return True


def _read(dataset: Dataset) -> tuple[str, dict[str, object]]:
    transaction_uid = str(dataset.get("TransactionUID", "") or "")
    if not transaction_uid:
        raise BadInstance("a commitment report without a Transaction UID")
    committed = {str(item.ReferencedSOPInstanceUID) for item in _items(dataset, "ReferencedSOPSequence")}
    failed = {
        str(item.ReferencedSOPInstanceUID): int(item.get("FailureReason") or _UNNAMED_REASON)
        for item in _items(dataset, "FailedSOPSequence")
    }
    report: dict[str, object] = {"committed": sorted(committed), "failed": sorted(map(list, failed.items()))}
    return transaction_uid, report | {"reported_at": time.time()}


def _item(reference: Reference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = reference.sop_class_uid
    item.ReferencedSOPInstanceUID = reference.sop_instance_uid
    return item


def _items(dataset: Dataset, name: str) -> list[Dataset]:
    return [item for item in dataset.get(name) or [] if "ReferencedSOPInstanceUID" in item]
