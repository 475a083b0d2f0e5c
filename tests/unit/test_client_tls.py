from __future__ import annotations

import shutil
import ssl
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import pytest
from client_stand_in import StandIn
from tritonclient.grpc import service_pb2, service_pb2_grpc
from wetread_client import Client, Retry, ServerError, Unavailable
from wetread_client.connect import connect

if TYPE_CHECKING:
    from pathlib import Path

NO_RETRY = Retry(times=0)


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate of 127.0.0.1, which is its own authority."""

    certificate: Path
    key: Path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Certificate:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    made = Certificate(folder / "cert.pem", folder / "key.pem")
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "1", "-subj", "/CN=wetread test", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", made.key, "-out", made.certificate], check=True, capture_output=True)
    return made


@pytest.fixture
def https(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    with StandIn(tls=context) as server:
        yield server


class Triton(service_pb2_grpc.GRPCInferenceServiceServicer):
    def ServerLive(self, request, context):  # noqa: N802 -- the service's own name
        return service_pb2.ServerLiveResponse(live=True)


@pytest.fixture
def grpcs(certificate):
    server = grpc.server(ThreadPoolExecutor(1))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Triton(), server)
    pair = (certificate.key.read_bytes(), certificate.certificate.read_bytes())
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()
    yield f"grpcs://127.0.0.1:{port}"
    server.stop(0).wait()


@pytest.mark.parametrize("way", ["http", "shm"])
def test_films_travel_encrypted_where_the_authority_is_trusted(https, certificate, way):
    film = bytes(range(256)) * 20_000
    with Client(https.url, transport=way, ca=certificate.certificate) as client:
        for _ in range(3):
            client.read(film)
    assert https.films == [film] * 3
    assert https.connections == 1


def test_a_server_that_nobody_vouches_for_is_an_error_to_wake_somebody(https):
    with Client(https.url, transport="http", retry=NO_RETRY) as client, pytest.raises(ServerError, match="not trusted"):
        client.read(b"film")
    assert not https.films


def test_grpc_is_encrypted_where_the_authority_is_trusted_and_not_used_otherwise(grpcs, certificate):
    trusting, distrusting = connect(grpcs, "grpc", certificate.certificate), connect(grpcs, "grpc")
    assert trusting.is_live(10.0)
    assert not distrusting.is_live(1.0)
    trusting.close()
    distrusting.close()


def test_plain_http_to_an_encrypted_server_is_unavailable(https):
    url = https.url.replace("https", "http")
    with Client(url, transport="http", retry=NO_RETRY) as client, pytest.raises(Unavailable):
        client.read(b"film")
