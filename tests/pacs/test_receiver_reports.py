from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role
from receiver_rig import receiver
from sqlalchemy import insert, select
from waiting import wait_for
from wetread_gateway.dimse.status import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE, VERIFICATION
from wetread_gateway.priority import Priority
from wetread_gateway.state.store import StateStore
from wetread_gateway.state.tables import COMMITMENTS, TRANSACTIONS, WORKS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from receiver_rig import Receiver

pytestmark = [
    pytest.mark.pacs,
    pytest.mark.skipif(shutil.which("echoscu") is None, reason="echoscu is not installed (dcmtk)"),
]


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Receiver]:
    with receiver(tmp_path) as running:
        yield running


@pytest.fixture
def store(door: Receiver) -> Iterator[StateStore]:
    opened = StateStore(door.folder)
    yield opened
    opened.close()


def report(transaction: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "2.25.7"
    dataset = Dataset()
    dataset.TransactionUID, dataset.ReferencedSOPSequence = transaction, [item]
    return dataset


def associated(door: Receiver, *, as_scp: bool):
    entity = AE("PACS")
    entity.add_requested_context(STORAGE_COMMITMENT)
    entity.add_requested_context(VERIFICATION)
    roles = [build_role(STORAGE_COMMITMENT, scp_role=True)] if as_scp else []
    association = entity.associate("127.0.0.1", door.port, ae_title="WETREAD", ext_neg=roles)
    assert association.is_established
    return association


def test_a_commitment_report_is_durable_when_it_is_answered(door: Receiver, store: StateStore) -> None:
    with store.write() as connection:
        asked = {"transaction_uid": "1.2.3.4", "destination": "pacs", "asked_at": time.time()}
        connection.execute(insert(TRANSACTIONS).values(**asked))
    association = associated(door, as_scp=True)
    status, _ = association.send_n_event_report(report("1.2.3.4"), 1, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE)
    assert status.Status == 0x0000
    status, _ = association.send_n_event_report(report("1.2.3.4"), 9, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE)
    assert status.Status == 0x0113
    status, _ = association.send_n_event_report(report(""), 1, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE)
    assert status.Status == 0x0110
    association.release()
    with store.read() as connection:
        (row,) = connection.execute(select(COMMITMENTS)).mappings().all()
    assert (row["transaction_uid"], row["committed"], row["failed"]) == ("1.2.3.4", ["2.25.7"], [])


def test_nobody_can_ask_us_for_commitment(door: Receiver) -> None:
    association = associated(door, as_scp=False)
    assert [str(context.abstract_syntax) for context in association.accepted_contexts] == [VERIFICATION]
    association.release()


def test_behind_by_age_the_door_takes_stat_alone(door: Receiver, store: StateStore) -> None:
    row = {
        "kind": "read",
        "state": "waiting",
        "study_uid": "1.2.3",
        "patient_digest": "",
        "sources": [],
        "sources_digest": "0",
        "number": 1,
        "pipeline": "chest_xray",
        "arm": "stable",
        "rule": "",
        "priority": int(Priority.ROUTINE),
        "destinations": [],
        "options": {},
        "completeness": "single",
        "created_at": time.time() - 2 * 86400,  # over what the rig takes for overloaded
        "changed_at": time.time(),
    }
    assert door.echo()
    with store.write() as connection:
        connection.execute(insert(WORKS).values(**row))
    assert wait_for(lambda: not door.echo())
    assert door.echo("WETREAD_STAT")
    with store.write() as connection:
        connection.execute(WORKS.update().values(state="read"))
    assert wait_for(door.echo)
