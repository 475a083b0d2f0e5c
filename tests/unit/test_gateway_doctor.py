"""What `wetread doctor --config FILE` finds, and that it says how to mend it."""

import contextlib
import fcntl
import os
import re
import socket
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pynetdicom import AE
from rollout_docs import roll
from sqlalchemy import insert
from wetread_bench.servers import free_port
from wetread_client.cli import main
from wetread_gateway.config.settings import (
    Destination,
    Dicom,
    Gateway,
    Http,
    HttpTls,
    Intake,
    Match,
    Rule,
    Settings,
    Tls,
    Triton,
)
from wetread_gateway.doctor import certificates, check_file, checks, machine, network, work
from wetread_gateway.doctor.network import CAPTURE, REPORTS, SEGMENTATION
from wetread_gateway.state.store import StateStore
from wetread_gateway.state.tables import INSTANCES

VERIFICATION, COMMITMENT = "1.2.840.10008.1.1", "1.2.840.10008.1.20.1"
DAY = timedelta(days=1)


@pytest.fixture
def settings(tmp_path) -> Settings:
    (tmp_path / "state").mkdir()
    return Settings(
        Gateway(tmp_path / "state"),
        dicom=Dicom(port=free_port(), any_peer=True),
        http=Http(port=free_port()),
        intake=Intake(watermark_free_bytes=0),
        triton=Triton(url=f"http://127.0.0.1:{free_port()}"),
    )


def found(checks, name) -> list[tuple[bool | None, str]]:
    return [(fine, detail) for called, fine, detail in checks if called == name]


def identity(folder: Path, *, until=365 * DAY, since=-DAY, password=None) -> tuple[Path, Path]:
    """A certificate of its own making, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now + since).not_valid_after(now + until).sign(key, hashes.SHA256())
    folder.mkdir(exist_ok=True)
    certificate, key_file = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    hidden = BestAvailableEncryption(password) if password else NoEncryption()
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden))
    key_file.chmod(0o600)
    return certificate, key_file


class TestCertificates:
    def checks(self, settings, certificate, key) -> list[tuple[bool | None, str]]:
        tls = Tls(certificate, key, certificate)
        return found(
            certificates.checks(replace(settings, dicom=replace(settings.dicom, tls=tls))), "dicom.tls certificate"
        )

    def test_a_good_one(self, settings, tmp_path):
        assert [fine for fine, _ in self.checks(settings, *identity(tmp_path / "a"))] == [True, True]

    @pytest.mark.parametrize(
        ("dates", "fine", "told"),
        [
            ({"since": -9 * DAY, "until": -DAY}, False, "expired on"),
            ({"until": 5 * DAY}, None, "expires on"),
            ({"since": DAY}, False, "is not good yet"),
        ],
    )
    def test_one_that_is_not_in_its_time(self, settings, tmp_path, dates, fine, told):
        first = self.checks(settings, *identity(tmp_path / "a", **dates))[0]
        assert first[0] is fine
        assert told in first[1]

    def test_a_key_of_another(self, settings, tmp_path):
        certificate, _ = identity(tmp_path / "a")
        _, key = identity(tmp_path / "b")
        assert any(
            fine is False and "is not the key of" in said for fine, said in self.checks(settings, certificate, key)
        )

    def test_a_key_that_everybody_can_read(self, settings, tmp_path):
        certificate, key = identity(tmp_path / "a")
        key.chmod(0o644)
        assert (False, f"everybody on this machine can read {key}: chmod 600 {key}") in self.checks(
            settings, certificate, key
        )

    def test_a_key_with_a_password(self, settings, tmp_path):
        said = self.checks(settings, *identity(tmp_path / "a", password=b"x"))
        assert any(fine is False and "has a password" in detail for fine, detail in said)

    def test_files_that_are_none(self, settings, tmp_path):
        certificate, key = identity(tmp_path / "a")
        said = self.checks(settings, key, certificate)
        assert [fine for fine, _ in said] == [False, False]
        assert "holds no certificate" in said[0][1]
        assert "is no private key" in said[1][1]

    def test_those_of_the_http_door_and_its_tokens(self, settings, tmp_path):
        tokens = tmp_path / "tokens"
        tokens.write_text("pacs short\n")
        http = replace(settings.http, tls=HttpTls(*identity(tmp_path / "a")), token_file=tokens)
        said = list(certificates.checks(replace(settings, http=http)))
        assert [fine for fine, _ in found(said, "http.tls certificate")] == [True, True]
        ((fine, told),) = found(said, "http tokens")
        assert fine is False
        assert "shorter than" in told


class TestMachine:
    def test_free_ports(self, settings):
        said = list(machine.checks(settings, running=False))
        assert found(said, "dicom port") == [(True, f"127.0.0.1:{settings.dicom.port} is free")]
        assert found(said, "http port")[0][0] is True

    def test_a_port_of_another_program_and_of_ours(self, settings):
        with socket.create_server(("127.0.0.1", settings.dicom.port)):
            ((fine, told),) = found(machine.checks(settings, running=False), "dicom port")
            assert fine is False
            assert "stop the program that holds it" in told
            assert found(machine.checks(settings, running=True), "dicom port")[0][0] is True

    def test_a_gateway_that_runs_without_listening(self, settings):
        assert found(machine.checks(settings, running=True), "dicom port")[0][0] is False

    @pytest.mark.parametrize(
        ("host", "told"), [("192.0.2.1", "no address of this machine"), ("no.invalid", "no address")]
    )
    def test_an_address_that_is_not_ours(self, settings, host, told):
        other = replace(settings, dicom=replace(settings.dicom, host=host))
        ((fine, said),) = found(machine.checks(other, running=False), "dicom port")
        assert fine is False
        assert told in said

    def test_a_gateway_is_known_by_its_lock(self, settings):
        assert not machine.is_running(settings)
        file = os.open(settings.gateway.state_dir / "lock", os.O_RDWR | os.O_CREAT)
        assert not machine.is_running(settings)
        fcntl.flock(file, fcntl.LOCK_EX)
        assert machine.is_running(settings)
        os.close(file)

    def test_the_disk_is_measured_and_left_as_it_was(self, settings):
        said = list(machine.checks(settings, running=False))
        assert found(said, "disk")[0][0] is True
        assert "a film of 512 KB is durable after" in found(said, "disk write")[0][1]
        assert not list(settings.gateway.state_dir.iterdir())

    def test_a_disk_below_its_watermark(self, settings):
        full = replace(settings, intake=Intake(watermark_free_bytes=1 << 50))
        assert found(machine.checks(full, running=False), "disk")[0][0] is False

    def test_a_state_folder_that_is_still_to_be_made(self, settings, tmp_path):
        new = replace(settings, gateway=Gateway(tmp_path / "new" / "state"))
        assert found(machine.checks(new, running=False), "disk")[0][0] is True
        assert not (tmp_path / "new").exists()

    def test_a_clock_of_another_age(self, settings, monkeypatch):
        monkeypatch.setattr(machine.time, "gmtime", lambda: time.struct_time((1970, 1, 1, 0, 0, 0, 3, 1, 0)))
        ((fine, told),) = found(machine.checks(settings, running=False), "clock")
        assert fine is False
        assert "set the clock" in told


@contextlib.contextmanager
def pacs(*classes, require_calling=()):
    """A PACS that knows C-ECHO and the given classes."""
    ae = AE("PACS")
    ae.require_called_aet = True
    ae.require_calling_aet = list(require_calling)
    for uid in (VERIFICATION, *classes):
        ae.add_supported_context(uid)
    server = ae.start_server(("127.0.0.1", 0), block=False)
    try:
        yield Destination("pacs", ae_title="PACS", host="127.0.0.1", port=server.server_address[1])
    finally:
        server.shutdown()


@contextlib.contextmanager
def web(status):
    """A web server that answers everything with `status`, and what it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["Authorization"]))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/dicom-web", asked
        server.shutdown()
        thread.join()


class TestNetwork:
    def checks(self, settings, destination) -> list[tuple[bool | None, str]]:
        return found(network.checks(replace(settings, destination=(destination,))), "destination pacs")

    @pytest.mark.slow
    def test_a_pacs_that_takes_all(self, settings):
        with pacs(CAPTURE, REPORTS["comprehensive3d"], SEGMENTATION, COMMITMENT) as destination:
            ((fine, said),) = self.checks(settings, destination)
        assert fine is True
        assert "answers C-ECHO after" in said

    @pytest.mark.slow
    def test_what_a_pacs_does_not_take_is_told_with_the_setting(self, settings):
        with pacs() as destination:
            said = self.checks(settings, destination)
        assert [fine for fine, _ in said] == [True, None, None, None, None]
        told = " ".join(detail for _, detail in said)
        assert all(
            setting in told for setting in ("capture = false", "seg = false", 'sr = "comprehensive"', 'verify = "find"')
        )

    @pytest.mark.slow
    def test_a_pacs_that_does_not_know_us(self, settings):
        with pacs(require_calling=["ELSE"]) as destination:
            ((fine, said),) = self.checks(settings, destination)
        assert fine is False
        assert "calling AE title not recognised; tell it of us: AE title WETREAD" in said

    @pytest.mark.slow
    def test_a_title_that_is_not_the_pacs(self, settings):
        with pacs() as destination:
            ((fine, said),) = self.checks(settings, replace(destination, ae_title="OTHER"))
        assert fine is False
        assert "correct its ae_title" in said

    def test_nobody_there(self, settings):
        ((fine, said),) = self.checks(settings, Destination("pacs", ae_title="P", host="127.0.0.1", port=free_port()))
        assert fine is False
        assert "Connection refused; is it running" in said

    def test_a_dicomweb_root_with_nobody_there(self, settings):
        url = f"http://127.0.0.1:{free_port()}/dicom-web"
        ((fine, said),) = self.checks(settings, Destination("pacs", "stow", url=url, verify="qido"))
        assert fine is False
        assert "is the url right" in said

    @pytest.mark.parametrize(
        ("status", "fine", "told"),
        [(200, True, "answers QIDO-RS"), (401, False, "look at token_file"), (404, False, "is it the DICOMweb root")],
    )
    def test_a_dicomweb_root_by_its_answer(self, settings, tmp_path, status, fine, told):
        token = tmp_path / "token"
        token.write_text("secret\n")
        with web(status) as (url, asked):
            destination = Destination("pacs", "stow", url=url, verify="qido", token_file=token)
            ((found_fine, said),) = self.checks(settings, destination)
        assert found_fine is fine
        assert told in said
        assert asked == [("/dicom-web/studies?limit=1", "Bearer secret")]

    def test_a_triton_that_is_not_there(self, settings):
        ((fine, said),) = found(network.checks(settings), "triton")
        assert fine is False
        assert "start it (`wetread serve`)" in said

    def test_rollouts_are_looked_for_where_the_settings_say(self, settings, tmp_path):
        assert not found(network.checks(settings), "rollouts")
        folder = tmp_path / "rollout"
        triton = replace(settings.triton, rollouts=str(folder))
        where = replace(settings, triton=triton, rule=(Rule("r", "chest_xray"),))
        ((fine, said),) = found(network.checks(where), "rollouts")
        assert (fine, "none of chest_xray" in said) == (None, True)
        roll(folder)
        assert found(network.checks(where), "rollouts") == [(True, f"{folder} can be read")]
        away = replace(where, triton=replace(where.triton, rollouts="etcd://127.0.0.1:1/wetread"))
        ((fine, said),) = found(network.checks(away), "rollouts")
        assert fine is False
        assert "correct triton.rollouts" in said


class TestWork:
    def checks(self, settings, *, running=False):
        return list(work.checks(settings, running=running))

    def test_a_gateway_that_never_ran_is_fine_and_nothing_is_made_for_it(self, settings):
        assert [fine for _, fine, _ in self.checks(settings)] == [True]
        assert not list(settings.gateway.state_dir.iterdir())

    def test_the_store_commits_and_nothing_waits(self, settings):
        StateStore(settings.gateway.state_dir).close()
        said = self.checks(settings)
        assert "SQLite commits after" in found(said, "state store")[0][1]
        assert found(said, "spool") == [(True, "nothing waits to be sorted")]

    def test_a_store_that_is_none(self, settings):
        (settings.gateway.state_dir / "state.sqlite").write_bytes(b"no database, but long enough to be looked at" * 99)
        ((fine, _),) = found(self.checks(settings), "state store")
        assert fine is False

    def test_what_waits_in_the_spool(self, settings):
        StateStore(settings.gateway.state_dir).close()
        received = settings.gateway.state_dir / "spool" / "received"
        received.mkdir(parents=True)
        old = time.time_ns() - 100 * 10**9
        (received / f"1-{old:020d}-receiver-0-1.dcm").touch()
        assert found(self.checks(settings), "spool")[0][0] is None
        ((fine, said),) = found(self.checks(settings, running=True), "spool")
        assert fine is False
        assert re.search(r"1 instances wait to be sorted, the oldest for 1\d\d s", said)

    def test_what_was_quarantined(self, settings):
        store = StateStore(settings.gateway.state_dir)
        texts = [c.name for c in INSTANCES.c if c.type.python_type is str and not c.nullable]
        row = dict.fromkeys(texts, "x") | {"state": "quarantined", "stat": False, "received_at": 0.0}
        with store.write() as connection:
            connection.execute(insert(INSTANCES).values(row))
        store.close()
        ((fine, said),) = found(self.checks(settings), "quarantine")
        assert fine is None
        assert said.startswith("1 instances contradict")


class TestTheWhole:
    def test_shadowed_rules_are_told(self, settings):
        rules = (Rule("all"), Rule("never", match=Match(modality=("DX",))))
        assert any(
            "rule 'never' never fires" in told for _, told in found(checks(replace(settings, rule=rules)), "rules")
        )

    def test_a_broken_configuration_is_all_that_is_told(self, tmp_path):
        file = tmp_path / "gateway.toml"
        file.write_text("[gateway]\n")
        said = check_file(file)
        assert {(name, fine) for name, fine, _ in said} == {("config", False)}
        assert any(f"{file}:1: state_dir is missing" in detail for _, _, detail in said)

    @pytest.mark.slow
    def test_it_is_part_of_wetread_doctor(self, tmp_path, capsys):
        file = tmp_path / "gateway.toml"
        file.write_text("[gatewy]\n")
        with pytest.raises(SystemExit) as ended:
            main(["doctor", "--config", str(file)])
        assert ended.value.code == 1
        assert "gatewy" in capsys.readouterr().out
