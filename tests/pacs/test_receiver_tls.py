from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from receiver_rig import dataset_bytes, film, receiver

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.pacs,
    pytest.mark.skipif(shutil.which("storescu") is None, reason="storescu is not installed (dcmtk)"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]


@dataclass(frozen=True)
class Pair:
    certificate: Path
    key: Path


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def authority(folder: Path, name: str) -> Pair:
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", pair.key, "-out", pair.certificate,
            "-subj", f"/CN={name}", "-days", 2)  # fmt: skip
    return pair


def signed(folder: Path, name: str, by: Pair) -> Pair:
    pair, request = Pair(folder / f"{name}.pem", folder / f"{name}.key"), folder / f"{name}.csr"
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", pair.key, "-out", request, "-subj", "/CN=localhost")
    openssl("x509", "-req", "-in", request, "-CA", by.certificate, "-CAkey", by.key, "-CAcreateserial",
            "-out", pair.certificate, "-days", 2)  # fmt: skip
    return pair


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory):
    """A door with TLS, a modality's certificate and a stranger's."""
    folder = tmp_path_factory.mktemp("tls")
    ours, foreign = authority(folder, "hospital"), authority(folder, "foreign")
    door = signed(folder, "door", ours)
    door.key.chmod(0o600)
    tls = f'[dicom.tls]\ncertificate = "{door.certificate}"\nkey = "{door.key}"\nauthorities = "{ours.certificate}"'
    with receiver(folder, f"any_peer = true\nartim_s = 5.0\n{tls}") as running:
        yield running, ours, signed(folder, "modality", ours), signed(folder, "stranger", foreign)


def test_a_peer_with_a_certificate_of_ours_stores(hospital, tmp_path: Path) -> None:
    door, ours, modality, _ = hospital
    path = film(tmp_path / "film.dcm", "1.2.9", 1_000_001)
    said = door.send(path, options=("-R", "+tls", modality.key, modality.certificate, "+cf", ours.certificate))
    assert "(Success)" in said
    (arrived,) = door.received()
    assert dataset_bytes(arrived) == dataset_bytes(path)


def test_a_foreign_certificate_plain_dicom_and_old_tls_are_refused(hospital, tmp_path: Path) -> None:
    door, ours, modality, stranger = hospital
    path = film(tmp_path / "film.dcm", "1.2.10", 1000)
    before = len(door.received())
    assert "[exit 0]" not in door.send(
        path, options=("-R", "+tls", stranger.key, stranger.certificate, "+cf", ours.certificate)
    )
    assert "[exit 0]" not in door.send(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(ours.certificate)
    context.load_cert_chain(modality.certificate, modality.key)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA:ECDHE-RSA-AES128-SHA")  # no forward secrecy, or no AEAD
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", door.port)) as plain, pytest.raises(OSError, match=r"(?i)handshake"):
        context.wrap_socket(plain)
    assert len(door.received()) == before


def trickle(peer: socket.socket, data: bytes) -> None:
    """Send a byte every quarter second, until the door has had enough: ConnectionError."""
    peer.settimeout(0.25)
    for at in range(len(data)):
        peer.sendall(data[at : at + 1])
        try:
            if not peer.recv(1):
                raise ConnectionResetError
        except TimeoutError:
            continue


def test_a_stranger_that_never_ends_its_handshake_is_dropped(hospital) -> None:
    door = hospital[0]
    hello = bytes((22, 3, 1, 2, 0)) + bytes(400)  # the beginning of a TLS record of 512 bytes
    with socket.create_connection(("127.0.0.1", door.port)) as peer, pytest.raises(ConnectionError):
        trickle(peer, hello)
