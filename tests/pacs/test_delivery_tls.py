from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import threading
from typing import TYPE_CHECKING

import pytest
from certificates import Authority, Pem
from outbox import Outbox, await_true, configure, cut_pauses_short
from test_delivery_orthanc import ALL, dimse, door, stow
from wetread_bench.orthanc import DicomTls, Modality, Orthanc, missing
from wetread_bench.servers import free_port
from wetread_gateway.state.tables import DeliveryState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.pacs, pytest.mark.skipif(bool(missing()), reason=missing())]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_pauses_short(monkeypatch)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def ours(authority: Authority) -> Pem:
    return authority.issue("wetread")


@pytest.fixture(scope="module")
def orthanc_tls(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    pem = authority.issue("orthanc")
    tls = DicomTls(pem.certificate, pem.key, authority.file)
    with Orthanc(tmp_path_factory.mktemp("orthanc"), tls=tls) as running:
        yield running


@pytest.fixture
def https_port(authority: Authority, orthanc_tls: Orthanc) -> Iterator[int]:
    """A port on which TLS stands before Orthanc's web side: Debian's own HTTPS ends at the first connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem = authority.issue("web")
    context.load_cert_chain(pem.certificate, pem.key)

    class Relay(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            where = (orthanc_tls.host, orthanc_tls.http_port)
            with (
                contextlib.suppress(OSError),
                socket.create_connection(where) as web,
                context.wrap_socket(self.request, server_side=True) as caller,
            ):
                back = threading.Thread(target=copy, args=(web, caller))
                back.start()
                copy(caller, web)
                back.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while part := source.recv(65536):
            target.sendall(part)
        target.shutdown(socket.SHUT_WR)


def dicom_section(ours: Pem, authorities: Path, port: int = 0) -> str:
    files = {"certificate": ours.certificate, "key": ours.key, "authorities": authorities}
    lines = [f"port = {port or free_port()}", "[dicom.tls]", *(f'{name} = "{file}"' for name, file in files.items())]
    return "\n".join(lines)


def test_objects_travel_encrypted_and_so_does_the_report(orthanc_tls, authority, ours, tmp_path: Path) -> None:
    port = free_port()
    orthanc_tls.set_modality("wetread", Modality("WETREAD", port, tls=True))
    section = dicom_section(ours, authority.file, port)
    outbox = Outbox.open(configure(tmp_path, dimse(orthanc_tls, tls=True), dicom=section))
    with door(outbox), outbox.delivering():
        row = outbox.await_delivery(outbox.add_result("pacs", classes=ALL), DeliveryState.DELIVERED)
    assert row.confirmed_by == "commitment"


@pytest.mark.parametrize("fault", ["stranger's certificate", "stranger as the peer", "no TLS"])
def test_a_peer_that_is_not_trusted_or_does_not_trust_us_gets_nothing(
    orthanc_tls, authority, ours, tmp_path: Path, fault: str
) -> None:
    stranger = Authority(tmp_path, "stranger")
    section = dicom_section(
        stranger.issue("wetread") if fault == "stranger's certificate" else ours,
        stranger.file if fault == "stranger as the peer" else authority.file,
    )
    outbox = Outbox.open(configure(tmp_path, dimse(orthanc_tls, tls=fault != "no TLS"), dicom=section))
    with outbox.delivering():
        work = outbox.add_result("pacs")
        await_true(lambda: bool(outbox.delivery(work).reason))
        row = outbox.delivery(work)
    assert row.state == DeliveryState.WAITING
    assert ("certificate is not accepted" in row.reason) == (fault == "stranger as the peer")
    assert not orthanc_tls.find(row.objects[0])


# CPython leaves the socket of a handshake to the collector when the other side is gone before it begins.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning")
def test_stow_trusts_the_authorities_it_is_given_and_no_others(
    orthanc_tls, https_port: int, authority, tmp_path: Path
) -> None:
    web = stow(orthanc_tls) | {"url": f"https://127.0.0.1:{https_port}/dicom-web"}
    outbox = Outbox.open(configure(tmp_path, web, web | {"name": "trusted", "authorities": authority.file}))
    with outbox.delivering():
        work = outbox.add_result("pacs", "trusted")
        assert outbox.await_delivery(work, DeliveryState.DELIVERED, "trusted").confirmed_by == "qido"
        await_true(lambda: "certificate" in outbox.delivery(work).reason, lambda: outbox.delivery(work))
