from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from outbox import Outbox, await_true, configure, cut_pauses_short, gathering
from pydicom.uid import Comprehensive3DSRStorage, SecondaryCaptureImageStorage
from scripted_pacs import Request, ScriptedPacs
from sqlalchemy import select
from wetread_gateway.delivery import confirmer
from wetread_gateway.delivery.commitment import record_report
from wetread_gateway.delivery.queue import retry
from wetread_gateway.priority import Priority
from wetread_gateway.state.tables import COMMITMENTS, TRANSACTIONS, DeliveryState, WorkState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow  # most of it waits for a peer that is late on purpose

TWO = (Comprehensive3DSRStorage, SecondaryCaptureImageStorage)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_pauses_short(monkeypatch)


@pytest.fixture
def pacs() -> Iterator[ScriptedPacs]:
    with ScriptedPacs() as running:
        yield running


@pytest.fixture
def open_outbox(tmp_path: Path) -> Callable[..., Outbox]:
    return lambda *destinations: Outbox.open(configure(tmp_path, *destinations))


def request_of(pacs: ScriptedPacs, number: int = 0) -> Request:
    await_true(lambda: len(pacs.requests) > number, lambda: pacs.requests)
    return pacs.requests[number]


def rows_left(outbox: Outbox) -> int:
    with outbox.context.store.read() as connection:
        return sum(len(connection.execute(select(table)).all()) for table in (TRANSACTIONS, COMMITMENTS))


@pytest.mark.parametrize("status", [0xA700, 0xA7FF, 0x0110, 0x0213])
def test_what_may_pass_is_sent_again(pacs, open_outbox, status: int) -> None:
    pacs.statuses = [status]
    outbox = open_outbox(pacs.destination(verify="find"))
    with outbox.delivering():
        work = outbox.add_result("pacs")
        row = outbox.await_delivery(work, DeliveryState.DELIVERED)
    assert row.attempts == 1
    assert any(f"0x{status:04X}" in line and "tried again" in line for line in outbox.timeline(work))


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0x0122, 0x0117])
def test_what_never_will_be_taken_goes_to_the_dead_letter_and_can_be_retried(pacs, open_outbox, status: int) -> None:
    pacs.statuses = [status]
    outbox = open_outbox(pacs.destination(verify="find"))
    with outbox.delivering():
        work = outbox.add_result("pacs", classes=TWO)
        row = outbox.await_delivery(work, DeliveryState.DEAD)
        assert f"0x{status:04X}" in row.reason
        assert pacs.stored == row.objects[1:]  # the other object is there all the same
        assert outbox.row(work).state == WorkState.FINISHED
        await_true(lambda: outbox.files(work)[0].startswith("dead/"), lambda: outbox.files(work))
        assert retry(outbox.context.store, row.id)
        assert not retry(outbox.context.store, row.id)
        outbox.await_delivery(work, DeliveryState.DELIVERED)
        await_true(lambda: outbox.files(work)[0].startswith("done/"), lambda: outbox.files(work))


def test_a_warning_counts_as_stored_and_is_asked_for(pacs, open_outbox) -> None:
    pacs.statuses = [0xB006]
    outbox = open_outbox(pacs.destination(verify="find"))
    with outbox.delivering():
        work = outbox.add_result("pacs")
        assert outbox.await_delivery(work, DeliveryState.DELIVERED).confirmed_by == "find"
    assert any("elements discarded" in line for line in outbox.timeline(work))


def test_an_aborted_association_is_opened_again(pacs, open_outbox) -> None:
    pacs.aborts = 1
    outbox = open_outbox(pacs.destination(verify="none"))
    with outbox.delivering():
        row = outbox.await_delivery(outbox.add_result("pacs"), DeliveryState.DELIVERED)
    assert row.attempts == 1


def test_an_association_that_the_peer_dropped_while_idle_is_no_failure(pacs, open_outbox) -> None:
    outbox = open_outbox(pacs.destination(verify="none", concurrency=1))
    with outbox.delivering():
        outbox.await_delivery(outbox.add_result("pacs"), DeliveryState.DELIVERED)
        for association in pacs.open_associations():
            association.abort()
        row = outbox.await_delivery(outbox.add_result("pacs"), DeliveryState.DELIVERED)
    assert row.attempts == 0


def test_a_class_that_the_peer_does_not_take_goes_to_the_dead_letter(tmp_path: Path) -> None:
    with ScriptedPacs(refused_classes=(Comprehensive3DSRStorage,)) as pacs:
        outbox = Outbox.open(configure(tmp_path, pacs.destination()))
        with outbox.delivering():
            row = outbox.await_delivery(outbox.add_result("pacs", classes=TWO), DeliveryState.DEAD)
    assert Comprehensive3DSRStorage in row.reason
    assert pacs.stored == row.objects[1:]


def test_a_report_on_the_same_association_counts(pacs, open_outbox, monkeypatch) -> None:
    outbox = open_outbox(pacs.destination())
    with outbox.delivering():
        with gathering(monkeypatch):
            works = [outbox.add_result("pacs", classes=TWO) for _ in range(3)]
            for work in works:
                outbox.await_delivery(work, DeliveryState.STORED)
            assert not pacs.requests
        request = request_of(pacs)
        assert pacs.send_on(request, pacs.report(request)) == 0x0000
        rows = [outbox.await_delivery(work, DeliveryState.DELIVERED) for work in works]
    assert {row.confirmed_by for row in rows} == {"commitment"}
    assert len(pacs.requests) == 1
    assert len(request.references) == 6
    assert rows_left(outbox) == 0


def test_a_late_report_of_a_request_that_was_made_anew_counts(pacs, open_outbox, monkeypatch) -> None:
    monkeypatch.setattr(confirmer, "UNANSWERED", 1000)  # however late the report is, no query is faster
    outbox = open_outbox(pacs.destination(commitment_wait_s=0.1))
    with outbox.delivering():
        work = outbox.add_result("pacs")
        first, second = request_of(pacs, 0), request_of(pacs, 1)
        assert first.transaction_uid != second.transaction_uid
        assert record_report(outbox.context.store, pacs.report(first), outbox.context.bells)
        assert outbox.await_delivery(work, DeliveryState.DELIVERED).confirmed_by == "commitment"
    # A transaction ends after what it confirmed is marked: once the stage has stopped, it is over.
    assert not record_report(outbox.context.store, pacs.report(first))  # once more: harmless


def test_a_report_for_nothing_or_for_an_unknown_transaction_changes_nothing(pacs, open_outbox) -> None:
    outbox = open_outbox(pacs.destination())
    with outbox.delivering():
        work = outbox.add_result("pacs")
        request = request_of(pacs)
        stray = pacs.report(request)
        stray.TransactionUID = "2.25.1"
        assert not record_report(outbox.context.store, stray, outbox.context.bells)
        empty = pacs.report(request, only=("2.25.2",))
        assert record_report(outbox.context.store, empty, outbox.context.bells)
        await_true(lambda: rows_left(outbox) == 0)
        assert outbox.delivery(work).state == DeliveryState.STORED


def test_an_instance_that_the_peer_does_not_have_is_sent_again(pacs, open_outbox, monkeypatch) -> None:
    outbox = open_outbox(pacs.destination())
    with outbox.delivering():
        with gathering(monkeypatch):
            lost, kept = outbox.add_result("pacs", classes=TWO), outbox.add_result("pacs")
            for work in (lost, kept):
                outbox.await_delivery(work, DeliveryState.STORED)
        request = request_of(pacs)
        uid = outbox.delivery(lost).objects[1]
        assert pacs.send_on(request, pacs.report(request, {uid: 0x0112})) == 0x0000
        outbox.await_delivery(kept, DeliveryState.DELIVERED)
        again = request_of(pacs, 1)
        assert {reference[1] for reference in again.references} == set(outbox.delivery(lost).objects)
        pacs.send_on(again, pacs.report(again))
        outbox.await_delivery(lost, DeliveryState.DELIVERED)
    assert pacs.stored.count(uid) == 2


def test_an_instance_whose_uid_is_another_objects_goes_to_the_dead_letter(pacs, open_outbox) -> None:
    outbox = open_outbox(pacs.destination())
    with outbox.delivering():
        work = outbox.add_result("pacs", classes=TWO)
        request = request_of(pacs)
        record_report(outbox.context.store, pacs.report(request, {outbox.delivery(work).objects[0]: 0x0119}))
        assert "0x0119" in outbox.await_delivery(work, DeliveryState.DEAD).reason


def test_a_class_that_is_not_committed_to_is_asked_by_query(pacs, open_outbox) -> None:
    outbox = open_outbox(pacs.destination())
    with outbox.delivering():
        work = outbox.add_result("pacs")
        request = request_of(pacs)
        pacs.send_on(request, pacs.report(request, {outbox.delivery(work).objects[0]: 0x0122}))
        assert outbox.await_delivery(work, DeliveryState.DELIVERED).confirmed_by == "find"


def test_a_peer_without_commitment_is_asked_by_query_and_the_timeline_says_so(tmp_path: Path) -> None:
    with ScriptedPacs(commitment=False) as pacs:
        outbox = Outbox.open(configure(tmp_path, pacs.destination()))
        with outbox.delivering():
            work = outbox.add_result("pacs", classes=TWO)
            assert outbox.await_delivery(work, DeliveryState.DELIVERED).confirmed_by == "find"
    assert "storage commitment is not offered" in outbox.timeline(work)[-2]


def test_what_a_query_does_not_name_is_asked_for_again_and_then_sent_again(pacs, open_outbox) -> None:
    outbox = open_outbox(pacs.destination(verify="find"))
    with outbox.delivering():
        work = outbox.add_result("pacs", classes=TWO)
        uid = outbox.delivery(work).objects[1]
        pacs.forgets.add(uid)
        await_true(lambda: pacs.stored.count(uid) == 2, lambda: outbox.delivery(work))
        assert outbox.delivery(work).state != DeliveryState.DELIVERED
        pacs.forgets.clear()
        outbox.await_delivery(work, DeliveryState.DELIVERED)


def test_stat_has_a_slot_of_its_own_while_the_others_are_stuck(pacs, open_outbox) -> None:
    pacs.held = threading.Event()
    outbox = open_outbox(pacs.destination(verify="none", concurrency=2))
    with outbox.delivering():
        stuck = [outbox.add_result("pacs") for _ in range(4)]
        await_true(lambda: pacs.waiting == 2, lambda: pacs.waiting)
        stat = outbox.add_result("pacs", priority=Priority.STAT)
        await_true(lambda: pacs.waiting == 3, lambda: pacs.waiting)
        assert {outbox.delivery(work).state for work in stuck} == {DeliveryState.WAITING}
        pacs.held.set()
        for work in (stat, *stuck):
            outbox.await_delivery(work, DeliveryState.DELIVERED)


def test_deliveries_of_a_destination_that_is_gone_wait_and_are_shown(pacs, open_outbox, tmp_path: Path) -> None:
    outbox = open_outbox(pacs.destination(name="other"))
    with outbox.delivering():
        work = outbox.add_result("pacs")
        await_true(lambda: "not in the configuration" in outbox.delivery(work).reason)
        assert outbox.delivery(work).state == DeliveryState.WAITING
        configure(tmp_path, pacs.destination(verify="none"))
        assert outbox.context.live.poll()
        outbox.await_delivery(work, DeliveryState.DELIVERED)


def test_what_is_too_old_is_given_up(open_outbox) -> None:
    gone = {"name": "pacs", "ae_title": "GONE", "host": "127.0.0.1", "port": 9, "give_up_after_h": 1.0}
    outbox = open_outbox(gone)
    old, young = outbox.add_result("pacs", age_s=3700.0), outbox.add_result("pacs", age_s=3500.0)
    with outbox.delivering():
        assert "1 h" in outbox.await_delivery(old, DeliveryState.DEAD).reason
        assert outbox.delivery(young).state == DeliveryState.WAITING
