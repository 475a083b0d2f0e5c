from __future__ import annotations

import socket
import struct
import threading
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from outbox import await_true, result
from pydicom import dcmread
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE, evt
from pynetdicom.dsutils import decode as decode_dataset
from report_cases import Case, of_kind
from wetread_gateway.config.settings import Dicom, Peer
from wetread_gateway.delivery import command
from wetread_gateway.delivery.ask import count_series
from wetread_gateway.delivery.command import Element
from wetread_gateway.delivery.dicom_out import DicomPeer
from wetread_gateway.delivery.outgoing import read_outgoing
from wetread_gateway.delivery.request import Address
from wetread_gateway.errors import Refused, TryAgain, Unreachable
from wetread_gateway.results.order import ObjectKind
from wetread_gateway.results.reporter import Reporter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from wetread_gateway.delivery.outgoing import Outgoing

SR = str(Comprehensive3DSRStorage)


@pytest.fixture
def outgoing(tmp_path: Path) -> Outgoing:
    file = tmp_path / "sr.dcm"
    file.write_bytes(result("1.2.3", "1.2"))
    return read_outgoing(file, "1.2.3", SR, "1.2")


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[Address]:
    """Listen once, and let `serve` do what it likes with the caller."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def once() -> None:
            connection, _ = server.accept()
            with connection:
                serve(connection)

        thread = threading.Thread(target=once)
        thread.start()
        yield Address("PEER", "127.0.0.1", server.getsockname()[1], "WETREAD", timeout_s=0.5)
        thread.join()


@pytest.mark.slow
@given(st.integers(0, 0xFFFF), st.from_regex(r"[0-9.]{1,64}", fullmatch=True))
def test_a_command_set_is_read_as_it_was_written(status: int, uid: str) -> None:
    written: command.Command = {Element.STATUS: status, Element.AFFECTED_SOP_INSTANCE_UID: uid}
    assert command.decode(command.encode(written)) == written


def test_a_command_set_is_what_pydicom_reads() -> None:
    encoded = command.encode({Element.MESSAGE_ID: 7, Element.AFFECTED_SOP_CLASS_UID: SR})
    found = decode_dataset(BytesIO(encoded), True, True)
    assert (found.MessageID, found.AffectedSOPClassUID) == (7, SR)
    assert found.CommandGroupLength == len(encoded) - 12


@given(st.binary(max_size=64))
def test_any_bytes_are_a_command_set_or_a_value_error(data: bytes) -> None:
    try:
        command.decode(data)
    except ValueError:
        return


def test_a_file_is_sent_as_it_stands(outgoing: Outgoing) -> None:
    dataset = dcmread(BytesIO(outgoing.file))
    found = decode_dataset(BytesIO(bytes(outgoing.dataset)), False, True)
    assert found == dataset
    assert outgoing.transfer_syntax_uid == dataset.file_meta.TransferSyntaxUID


def test_what_is_no_dicom_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"x" * 500)
    with pytest.raises(Refused):
        read_outgoing(tmp_path / "junk", "1", SR, "1")


@pytest.mark.slow
def test_a_peer_that_takes_implicit_only_gets_it_re_encoded(outgoing: Outgoing) -> None:
    got = []
    ae = AE("PEER")
    ae.add_supported_context(SR, [ImplicitVRLittleEndian])
    handlers = [(evt.EVT_C_STORE, lambda event: got.append(event.dataset) or 0)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    peer = DicomPeer(Address("PEER", "127.0.0.1", server.server_address[1], "WETREAD"))
    try:
        assert peer.store([outgoing]) == ()
    finally:
        peer.close()
        server.shutdown()
    assert got[0].TextComments == dcmread(BytesIO(outgoing.file)).TextComments


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Outgoing:
    folder = tmp_path_factory.mktemp("capture")
    order, film = Case(order={"wanted": frozenset({ObjectKind.CAPTURE})}).make(folder)
    made = of_kind(Reporter().build(order, film), ObjectKind.CAPTURE)
    (folder / "capture.dcm").write_bytes(made.data)
    return read_outgoing(folder / "capture.dcm", made.sop_instance_uid, made.sop_class_uid, made.study_instance_uid)


@pytest.mark.slow
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_peer_that_takes_no_compressed_syntax_gets_a_capture_uncompressed(capture: Outgoing, syntax: str) -> None:
    got = []
    ae = AE("PEER")
    ae.add_supported_context(SecondaryCaptureImageStorage, [syntax])
    handlers = [(evt.EVT_C_STORE, lambda event: got.append((event.context, event.dataset)) or 0)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    peer = DicomPeer(Address("PEER", "127.0.0.1", server.server_address[1], "WETREAD"))
    try:
        assert peer.store([capture]) == ()
    finally:
        peer.close()
        server.shutdown()
    [(context, stored)] = got
    made = dcmread(BytesIO(capture.file))
    assert made.file_meta.TransferSyntaxUID == JPEGBaseline8Bit
    assert context.transfer_syntax == syntax
    assert stored.SOPInstanceUID == made.SOPInstanceUID
    assert (stored.PhotometricInterpretation, stored.PlanarConfiguration) == ("RGB", 0)
    pixels = np.frombuffer(stored.PixelData, np.uint8).reshape(stored.Rows, stored.Columns, 3)
    assert np.array_equal(pixels, made.pixel_array)
    assert stored.LossyImageCompression == "01"  # it stays said that it was compressed (PS3.3 C.7.6.1.1.5)


@pytest.mark.slow
def test_an_association_is_kept_until_it_has_been_idle(outgoing: Outgoing) -> None:
    said = []
    ae = AE("PEER")
    ae.add_supported_context(SR)
    handlers = [(evt.EVT_C_STORE, lambda _: 0)]
    handlers += [(event, lambda event: said.append(event.event.name)) for event in (evt.EVT_ACCEPTED, evt.EVT_RELEASED)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    peer = DicomPeer(Address("PEER", "127.0.0.1", server.server_address[1], "WETREAD"))
    try:
        for idle_s in (1000.0, 0.0, 0.0):
            assert peer.store([outgoing]) == ()
            peer.close_idle(idle_s)
        await_true(lambda: said.count("EVT_RELEASED") == 2, lambda: said)
    finally:
        peer.close()
        server.shutdown()
    assert said.count("EVT_ACCEPTED") == 2


@pytest.mark.slow
def test_a_called_ae_title_that_is_refused_says_so(outgoing: Outgoing) -> None:
    ae = AE("PEER")
    ae.require_called_aet = True
    ae.add_supported_context(SR)
    server = ae.start_server(("127.0.0.1", 0), block=False)
    peer = DicomPeer(Address("SOMEBODY", "127.0.0.1", server.server_address[1], "WETREAD"))
    try:
        with pytest.raises(Unreachable, match="called AE title not recognised"):
            peer.store([outgoing])
    finally:
        server.shutdown()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        struct.pack(">BxI", 2, 10) + bytes(10),
        struct.pack(">BxI", 2, 0xFFFFFFF0),
        struct.pack(">BxI", 3, 4) + bytes((0, 9, 9, 9)),
        struct.pack(">BxI", 7, 4) + bytes(4),
    ],
    ids=["closes", "HTTP", "bad accept", "too long", "odd rejection", "abort"],
)
def test_a_peer_that_speaks_no_dicom_is_unreachable(outgoing: Outgoing, answer: bytes) -> None:
    with (
        listening(lambda connection: connection.sendall(answer)) as address,
        pytest.raises(Unreachable),
    ):
        DicomPeer(address).store([outgoing])


@pytest.mark.slow
def test_a_peer_that_says_nothing_is_given_up_in_time(outgoing: Outgoing) -> None:
    over = threading.Event()
    with listening(lambda _: over.wait(5)) as address:
        with pytest.raises(TryAgain):
            DicomPeer(address).store([outgoing])
        over.set()


def test_nobody_there_is_unreachable(outgoing: Outgoing) -> None:
    with pytest.raises(Unreachable, match="no connection"):
        DicomPeer(Address("PEER", "127.0.0.1", 9, "WETREAD")).store([outgoing])


def test_a_source_that_does_not_answer_gives_no_count() -> None:
    assert count_series(Peer("PEER"), Dicom(), "1.2", "1.2.3") is None
    assert count_series(Peer("PEER", "127.0.0.1", 9), Dicom(), "1.2", "1.2.3") is None
