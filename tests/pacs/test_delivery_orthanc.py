from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from outbox import Outbox, await_true, configure, cut_pauses_short, gathering, result
from pydicom import dcmread
from pydicom.uid import (
    Comprehensive3DSRStorage,
    CTImageStorage,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
)
from wetread_bench.orthanc import Modality, Orthanc, missing
from wetread_bench.servers import free_port, storescp
from wetread_gateway.config.settings import Dicom, Peer
from wetread_gateway.delivery.ask import count_series
from wetread_gateway.dimse import stage as dicom_door
from wetread_gateway.priority import Priority
from wetread_gateway.state.tables import DeliveryState, WorkState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.pacs,
    pytest.mark.skipif(bool(missing("Orthanc", "storescp")), reason=missing("Orthanc", "storescp")),
]

ALL = (Comprehensive3DSRStorage, SecondaryCaptureImageStorage, KeyObjectSelectionDocumentStorage)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_pauses_short(monkeypatch)


def dimse(orthanc: Orthanc, **more: object) -> dict[str, object]:
    where = {"name": "pacs", "ae_title": orthanc.ae_title, "host": orthanc.host, "port": orthanc.dicom_port}
    return where | more


def stow(orthanc: Orthanc, **more: object) -> dict[str, object]:
    return {"name": "pacs", "kind": "stow", "url": orthanc.dicomweb_url, "verify": "qido"} | more


@contextmanager
def door(outbox: Outbox) -> Iterator[None]:
    """The DICOM door, to which Orthanc brings its reports."""
    context = replace(outbox.context, slot="receiver-0", stop=threading.Event())
    thread = threading.Thread(target=dicom_door.run, args=(context,))
    thread.start()
    try:
        yield
    finally:
        context.stop.set()
        thread.join()


def test_objects_are_stored_and_committed_to_and_the_work_is_finished(orthanc, tmp_path: Path, monkeypatch) -> None:
    port = free_port()
    orthanc.set_modality("wetread", Modality("WETREAD", port))
    outbox = Outbox.open(configure(tmp_path, dimse(orthanc), dicom=f"port = {port}"))
    with door(outbox), outbox.delivering():
        with gathering(monkeypatch):
            works = [outbox.add_result("pacs", classes=ALL) for _ in range(3)]
            for work in works:
                outbox.await_delivery(work, DeliveryState.STORED)
        rows = [outbox.await_delivery(work, DeliveryState.DELIVERED) for work in works]
    assert {row.confirmed_by for row in rows} == {"commitment"}
    assert len({row.transaction_uid for row in rows}) == 1  # gathered into one request
    assert all(len(orthanc.find(uid)) == 1 for row in rows for uid in row.objects)
    assert {outbox.row(work).state for work in works} == {WorkState.FINISHED}
    assert all(any(path.startswith("done/") for path in outbox.files(work)) for work in works)


def test_commitment_that_is_never_reported_is_asked_anew_and_then_asked_by_query(orthanc, tmp_path: Path) -> None:
    orthanc.set_modality("wetread", Modality("WETREAD", free_port()))  # nobody listens there
    outbox = Outbox.open(configure(tmp_path, dimse(orthanc, commitment_wait_s=0.3)))
    with outbox.delivering():
        work = outbox.add_result("pacs", classes=ALL)
        first = outbox.await_delivery(work, DeliveryState.STORED)
        await_true(lambda: outbox.delivery(work).transaction_uid not in ("", first.transaction_uid))
        row = outbox.await_delivery(work, DeliveryState.DELIVERED)
    assert row.confirmed_by == "find"
    assert "asked for in vain" in outbox.timeline(work)[-2]


@pytest.mark.parametrize("verify", ["find", "none"])
def test_a_destination_is_asked_as_the_configuration_says(orthanc, tmp_path: Path, verify: str) -> None:
    outbox = Outbox.open(configure(tmp_path, dimse(orthanc, verify=verify)))
    with outbox.delivering():
        row = outbox.await_delivery(outbox.add_result("pacs", classes=ALL), DeliveryState.DELIVERED)
    assert row.confirmed_by == {"find": "find", "none": "status"}[verify]


def test_stow_stores_and_qido_names_every_object(orthanc, tmp_path: Path) -> None:
    outbox = Outbox.open(configure(tmp_path, stow(orthanc)))
    with outbox.delivering():
        row = outbox.await_delivery(outbox.add_result("pacs", classes=ALL), DeliveryState.DELIVERED)
    assert row.confirmed_by == "qido"
    assert all(orthanc.find(uid) for uid in row.objects)


def test_a_source_says_how_many_images_its_series_has(orthanc) -> None:
    for number in range(3):
        file = result(f"1.2.826.0.1.{number}", "1.2.826.0.2", CTImageStorage)
        dataset = dcmread(BytesIO(file))
        dataset.SeriesInstanceUID = "1.2.826.0.3"
        buffer = BytesIO()
        dataset.save_as(buffer)
        orthanc.post("/instances", buffer.getvalue())
    source = Peer(orthanc.ae_title, orthanc.host, orthanc.dicom_port)
    assert count_series(source, Dicom(), "1.2.826.0.2", "1.2.826.0.3") == 3
    assert count_series(source, Dicom(), "1.2.826.0.2", "1.2.826.0.4") is None


def test_a_bearer_token_is_shown_and_a_wrong_one_is_no_objects_fault(tmp_path: Path) -> None:
    lua = """function IncomingHttpRequestFilter(method, uri, ip, username, headers)
      return string.find(uri, '/dicom%-web') == nil or headers['authorization'] == 'Bearer right'
    end"""
    token = tmp_path / "token"
    token.write_text("wrong\n")
    with Orthanc(tmp_path / "pacs", lua=lua) as orthanc:
        outbox = Outbox.open(configure(tmp_path, stow(orthanc, token_file=token)))
        with outbox.delivering():
            work = outbox.add_result("pacs")
            await_true(lambda: "credentials" in outbox.delivery(work).reason, lambda: outbox.delivery(work))
            assert outbox.delivery(work).state == DeliveryState.WAITING
            token.write_text("right\n")
            assert outbox.await_delivery(work, DeliveryState.DELIVERED).confirmed_by == "qido"


def test_what_a_dead_pacs_did_not_take_arrives_when_it_is_back(tmp_path: Path) -> None:
    with Orthanc(tmp_path / "pacs") as orthanc:
        outbox = Outbox.open(configure(tmp_path, dimse(orthanc, verify="find")))
        with outbox.delivering():
            before = outbox.add_result("pacs")
            outbox.await_delivery(before, DeliveryState.DELIVERED)
            orthanc.kill()
            works = [outbox.add_result("pacs") for _ in range(5)]
            await_true(lambda: any("no connection" in outbox.delivery(work).reason for work in works))
            orthanc.start()
            rows = [outbox.await_delivery(work, DeliveryState.DELIVERED) for work in works]
        assert sorted(orthanc.sop_instance_uids()) == sorted(
            uid for row in (outbox.delivery(before), *rows) for uid in row.objects
        )


def test_a_dead_destination_delays_no_other(orthanc, tmp_path: Path) -> None:
    # It takes connections and never says a word, for longer than is waited for the other.
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        dead = dimse(orthanc, name="dead", port=silent.getsockname()[1], timeout_s=600.0)
        outbox = Outbox.open(configure(tmp_path, dead, dimse(orthanc, verify="none")))
        with outbox.delivering():
            works = [outbox.add_result("dead", "pacs") for _ in range(20)]
            try:
                for work in works:
                    outbox.await_delivery(work, DeliveryState.DELIVERED)
            finally:
                silent.close()
        assert {outbox.delivery(work, "dead").state for work in works} == {DeliveryState.WAITING}
        assert {outbox.row(work).state for work in works} == {WorkState.REPORTED}


def test_storescp_offers_nothing_to_ask_and_its_success_counts(tmp_path: Path) -> None:
    with storescp(tmp_path / "in") as port:
        where = {"name": "pacs", "ae_title": "ANY", "host": "127.0.0.1", "port": port}
        outbox = Outbox.open(configure(tmp_path, where))
        with outbox.delivering():
            work = outbox.add_result("pacs", classes=ALL, priority=Priority.STAT)
            row = outbox.await_delivery(work, DeliveryState.DELIVERED)
    assert row.confirmed_by == "status"
    assert "commitment is not offered" in outbox.timeline(work)[-2]
    assert len(list((tmp_path / "in").iterdir())) == len(ALL)
