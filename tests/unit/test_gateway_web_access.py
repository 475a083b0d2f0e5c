"""Who gets in: loopback, TLS, certificates and tokens; and slow clients, who do not keep others out."""

import contextlib
import datetime as dt
import ipaddress
import json
import os
import select
import socket
import ssl
import threading
import time

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from waiting import WAIT_S, wait_for
from web_door import instance, make_context, open_door, related, settings_for, stow_head, with_http
from wetread_bench.servers import free_port
from wetread_gateway.config.settings import HttpTls
from wetread_gateway.errors import ConfigError
from wetread_gateway.web import stage
from wetread_gateway.web.access import Tokens
from wetread_gateway.web.guarded import GuardedProtocol

TOKEN = "a-token-that-nobody-guesses"


@pytest.fixture
def tokens(tmp_path):
    file = tmp_path / "tokens"
    file.write_text(f"# who may ask\nris {TOKEN}\n")
    return file


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def make_certificate(folder, name, issuer=None):
    """A certificate for `name`, by `issuer` (certificate, key) or itself; gives (certificate, key, file, key file)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    )
    certificate = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
    file, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, key, file, key_file


@pytest.fixture
def certificates(tmp_path):
    folder = tmp_path / "tls"
    folder.mkdir()
    authority = make_certificate(folder, "authority")
    return {
        "authority": authority,
        "server": make_certificate(folder, "server", authority),
        "modality": make_certificate(folder, "modality-7", authority),
        "stranger": make_certificate(folder, "stranger"),
    }


def client_tls(certificates, who=None, highest=None):
    context = ssl.create_default_context(cafile=certificates["authority"][2])
    if who:
        context.load_cert_chain(certificates[who][2], certificates[who][3])
    if highest:
        context.maximum_version = highest
    return context


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_a_door_to_the_network_needs_tls_and_a_way_to_know_who_comes(tmp_path, certificates, tokens, host):
    plain = settings_for(tmp_path, host=host, token_file=tokens)
    with pytest.raises(ConfigError, match="without TLS"):
        stage.open_door(make_context(plain))
    tls = HttpTls(certificates["server"][2], certificates["server"][3])
    with pytest.raises(ConfigError, match="everybody"):
        stage.check_door(with_http(plain, tls=tls, token_file=None).http)
    assert stage.check_door(with_http(plain, tls=tls).http).verify_mode == ssl.CERT_NONE


def test_a_client_certificate_is_demanded_and_names_the_actor(tmp_path, certificates):
    server, authority = certificates["server"], certificates["authority"]
    settings = settings_for(tmp_path, tls=HttpTls(server[2], server[3], authority[2]))
    with open_door(settings, verify=client_tls(certificates, "modality")) as door:
        assert door.stow(instance()[1]).status_code == 200
        assert json.loads(door.audited()[0])["actor"] == "modality-7"
        assert door.context.spool.arrival_of(door.received()[0]).calling_ae == "modality-7"
        for who in (None, "stranger"):
            with pytest.raises(httpx.TransportError), httpx.Client(verify=client_tls(certificates, who)) as stranger:
                stranger.get(f"{door.url}/readyz")
        old = client_tls(certificates, "modality")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(httpx.TransportError), httpx.Client(verify=old) as ancient:
            ancient.get(f"{door.url}/readyz")


def test_a_renewed_certificate_is_shown_to_the_next_client(tmp_path, certificates, tokens):
    server = certificates["server"]
    context = make_context(settings_for(tmp_path, token_file=tokens, tls=HttpTls(server[2], server[3])))
    door = stage.open_door(context)
    first = ssl.get_server_certificate(("127.0.0.1", door.port))
    make_certificate(server[2].parent, "server", certificates["authority"])
    door.renew()
    assert ssl.get_server_certificate(("127.0.0.1", door.port)) == server[2].read_text() != first
    server[2].write_text("half a file")
    door.renew()
    assert ssl.get_server_certificate(("127.0.0.1", door.port)) != first
    door.close(wait=True)
    context.store.close()
    context.audit.close()


def test_without_a_token_nothing_but_health_is_answered(tmp_path, tokens):
    with open_door(settings_for(tmp_path, token_file=tokens)) as door:
        assert [door.client.get(path).status_code for path in ("/healthz", "/readyz")] == [200, 200]
        paths = ("/metrics", "/openapi.json", "/v1/studies/1.2", "/nothing")
        for path in paths:
            for headers in ({}, bearer("wrong"), {"Authorization": f"Basic {TOKEN}"}):
                answer = door.client.get(path, headers=headers)
                assert answer.status_code == 401
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert door.client.get("/metrics", headers=bearer(TOKEN)).status_code == 200
        assert door.stow(instance()[1], **bearer(TOKEN)).status_code == 200
        events = [json.loads(line) for line in door.audited()]
        assert [event["actor"] for event in events if event["action"] == "intake"] == ["ris"]
        assert 1 <= len([event for event in events if event["action"] == "refuse"]) <= 5


def test_a_changed_token_file_counts_at_the_next_request(tmp_path, tokens):
    known = Tokens(tokens)
    assert known.name_of(TOKEN) == "ris"
    tokens.write_text("pacs another-token-of-some-length\n")
    assert (known.name_of(TOKEN), known.name_of("another-token-of-some-length")) == (None, "pacs")
    tokens.write_text("broken\n")
    os.utime(tokens, (1, 1))
    assert known.name_of("another-token-of-some-length") == "pacs"
    tokens.unlink()
    assert known.name_of("another-token-of-some-length") is None


@pytest.mark.parametrize("line", ["nameonly", "a b c", "na/me a-token-that-nobody-guesses", "short secret"])
def test_a_broken_token_file_names_its_line(tmp_path, line):
    file = tmp_path / "tokens"
    file.write_text(f"ris {TOKEN}\n{line}\n")
    with pytest.raises(ConfigError, match="tokens:2"):
        Tokens(file)


def connect(door):
    host, port = door.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=WAIT_S)


def is_closed(client):
    """Wait until the door ends the connection."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.slow
def test_a_client_that_never_ends_its_head_is_dropped(tmp_path):
    with open_door(settings_for(tmp_path, patience_s=0.5)) as door:
        for beginning in (b"", b"POST /studies HTTP/1.1\r\nHost: x\r\n"):
            with connect(door) as slow:
                with contextlib.suppress(ConnectionError):  # it came too late
                    slow.sendall(beginning)
                assert is_closed(slow)


@pytest.mark.slow
def test_a_client_of_one_byte_a_second_is_answered_408_and_hinders_nobody(tmp_path):
    with open_door(settings_for(tmp_path, patience_s=5.0)) as door:
        slow = [connect(door) for _ in range(40)]
        body = related(instance(size=200)[1])
        for number, one in enumerate(slow):
            one.sendall(stow_head(100_000) + body[: 1000 + number])
        assert door.stow(instance(size=300)[1]).status_code == 200
        assert not select.select(slow, [], [], 0)[0], "it waited for the slow ones"
        for one in slow:
            assert one.recv(100).startswith(b"HTTP/1.1 408")
            one.close()
        assert len(door.received()) == 1
        assert not list(door.context.spool.incoming.iterdir())


def test_more_connections_than_allowed_are_closed_and_those_open_go_on(tmp_path):
    with open_door(settings_for(tmp_path, max_connections=3)) as door:
        assert door.client.get("/healthz").status_code == 200  # one, kept open
        others = [connect(door) for _ in range(5)]
        for one in others[3:]:
            assert is_closed(one)
        assert door.client.get("/healthz").status_code == 200
        for one in others:
            one.close()


@pytest.mark.slow
def test_a_stopping_door_lets_requests_under_way_finish(tmp_path):
    context = make_context(settings_for(tmp_path))
    door = stage.open_door(context)
    body = related(instance(size=2000)[1])
    with socket.create_connection(("127.0.0.1", door.port), timeout=WAIT_S) as client:
        client.sendall(stow_head(len(body)) + body[: len(body) // 2])
        assert wait_for(lambda: list(context.spool.incoming.iterdir()))
        closing = threading.Thread(target=door.close, kwargs={"wait": True})
        closing.start()
        client.sendall(body[len(body) // 2 :])
        assert client.recv(100).startswith(b"HTTP/1.1 200")
    closing.join()
    context.store.close()
    context.audit.close()


@pytest.mark.slow
def test_a_changed_port_opens_a_new_door_without_a_restart(tmp_path):
    settings = settings_for(tmp_path)
    ports = [free_port(), free_port()]
    context = make_context(with_http(settings, port=ports[0]))
    running = threading.Thread(target=stage.run, args=(context,))
    running.start()
    try:
        assert answers(ports[0])
        context.live.current = with_http(settings, port=ports[1])
        assert answers(ports[1])
    finally:
        context.stop.set()
        running.join()
        context.store.close()
        context.audit.close()


def answers(port):
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
        except httpx.TransportError:
            time.sleep(0.05)
    return False


def test_an_answer_waits_for_no_acknowledgement(tmp_path, monkeypatch):
    context = make_context(settings_for(tmp_path))
    made, seen = GuardedProtocol.connection_made, []

    def look(protocol, transport):
        seen.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        made(protocol, transport)

    monkeypatch.setattr(GuardedProtocol, "connection_made", look)
    door = stage.open_door(context)
    assert httpx.get(f"http://127.0.0.1:{door.port}/healthz").is_success
    door.close(wait=True)
    context.store.close()
    assert seen == [1]
