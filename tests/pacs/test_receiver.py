from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pydicom
import pytest
from receiver_rig import EXPLICIT, dataset_bytes, film, receiver
from wetread_gateway.dimse.wire import HEADER

pytestmark = [
    pytest.mark.pacs,
    pytest.mark.skipif(shutil.which("storescu") is None, reason="storescu is not installed (dcmtk)"),
]
# storescu's options that propose a transfer syntax as it is.
PROPOSALS = {
    "1.2.840.10008.1.2": ("-xi",),
    "1.2.840.10008.1.2.1": ("-xe",),
    "1.2.840.10008.1.2.2": ("-xb",),
    "1.2.840.10008.1.2.1.99": ("-xd",),
    "1.2.840.10008.1.2.4.50": ("-xy",),
    "1.2.840.10008.1.2.4.51": ("-xx",),
    "1.2.840.10008.1.2.4.57": ("-xs",),
    "1.2.840.10008.1.2.4.70": ("-xs",),
    "1.2.840.10008.1.2.4.80": ("-xt",),
    "1.2.840.10008.1.2.4.81": ("-xu",),
    "1.2.840.10008.1.2.4.90": ("-xv",),
    "1.2.840.10008.1.2.4.91": ("-xw",),
    "1.2.840.10008.1.2.5": ("-xr",),
}
# Not by `get_testdata_files`: that asks the internet first.
TEST_FILES = Path(pydicom.__file__).parent / "data" / "test_files"


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory):
    with receiver(tmp_path_factory.mktemp("door")) as running:
        yield running


def one_of_each_syntax() -> dict[str, Path]:
    data = Path(os.environ.get("WETREAD_DATA", "/nonexistent")) / "dicom"
    series = [path for folder in sorted(data.glob("*")) for path in sorted(folder.glob("*.dcm"))[:20]]
    files = [*series, *sorted(TEST_FILES.rglob("*.dcm"))]
    found: dict[str, Path] = {}
    for path in files:
        if len(found) == len(PROPOSALS) or path.stat().st_size > 9_000_000 or "truncated" in path.name.lower():
            continue
        try:
            dataset = pydicom.dcmread(path, stop_before_pixels=True)
        except (pydicom.errors.InvalidDicomError, OSError):
            continue
        meta = dataset.file_meta
        syntax = str(meta.get("TransferSyntaxUID", ""))
        if "SOPInstanceUID" in dataset and "Rows" in dataset and "PatientID" in dataset and "deflate" not in path.name:
            found.setdefault(syntax, path)
    return {syntax: found[syntax] for syntax in found if syntax in PROPOSALS}


def test_an_echo_is_answered_under_both_titles_and_no_other(door) -> None:
    assert door.echo()
    assert door.echo("WETREAD_STAT")
    assert not door.echo("SOMEBODY")


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, over its own odd test files
def test_every_transfer_syntax_arrives_as_it_was_sent(door) -> None:
    files = one_of_each_syntax()
    assert len(files) > 10
    for syntax, path in files.items():
        before = set(door.received())
        said = door.send(path, options=PROPOSALS[syntax])
        assert "Received Store Response (Success)" in said, f"{syntax} {path}\n{said}"
        (arrived,) = set(door.received()) - before
        assert pydicom.filereader.read_file_meta_info(arrived).TransferSyntaxUID == syntax
        original = pydicom.dcmread(path)
        assert pydicom.dcmread(arrived).PixelData == original.PixelData
        padded = 0xFFFCFFFC in original  # Data Set Trailing Padding (PS3.10, 7.2): storescu sends none
        if original.file_meta.TransferSyntaxUID == EXPLICIT and not padded:
            assert dataset_bytes(arrived)[-1000:] == dataset_bytes(path)[-1000:]


def test_the_dataset_is_equal_to_the_byte(door, tmp_path: Path) -> None:
    path = film(tmp_path / "film.dcm", "1.2.77", 3_000_001)
    before = set(door.received())
    assert "(Success)" in door.send(path)
    (arrived,) = set(door.received()) - before
    assert dataset_bytes(arrived) == dataset_bytes(path)
    arrival = door.spool.arrival_of(arrived)
    assert (arrival.calling_ae, arrival.called_ae, arrival.address) == ("STORESCU", "WETREAD", "127.0.0.1")
    assert not arrival.stat


def test_stat_is_sorted_first(door, tmp_path: Path) -> None:
    door.send(film(tmp_path / "routine.dcm", "1.2.78"))
    door.send(film(tmp_path / "stat.dcm", "1.2.79"), called="WETREAD_STAT")
    first = door.received()[0]
    assert pydicom.dcmread(first).SOPInstanceUID == "1.2.79"
    assert door.spool.arrival_of(first).stat


def test_a_peer_that_no_table_names_is_rejected(tmp_path: Path) -> None:
    with receiver(tmp_path, "", '[[peer]]\nae_title = "KNOWN"\n[[peer]]\nae_title = "TIED"\nhost = "10.9.9.9"') as door:
        assert door.echo(calling="KNOWN")
        assert not door.echo(calling="UNKNOWN")
        assert not door.echo(calling="TIED")


def test_a_transfer_cut_in_the_middle_leaves_nothing(door, tmp_path: Path) -> None:
    before = set(door.left_when_alone())
    path = film(tmp_path / "film.dcm", "1.2.80", 60_000_000)
    command = ["storescu", "-R", "-aec", "WETREAD", "127.0.0.1", str(door.port), str(path)]
    sender = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not any(found.stat().st_size > 10_000 for found in set(door.left()) - before):
        assert sender.poll() is None
        time.sleep(0.001)
    sender.kill()
    sender.wait()
    until = time.monotonic() + 10
    while set(door.left()) != before:
        assert time.monotonic() < until, door.left()
        time.sleep(0.01)


def test_beyond_the_limit_only_stat_comes_in(tmp_path: Path) -> None:
    with receiver(tmp_path, "any_peer = true\nmax_associations = 1\nreserved_for_stat = 1") as door:
        path = film(tmp_path / "film.dcm", "1.2.81", 50_000)
        held = _associated(door.port)
        assert "Temporary Congestion" in door.send(path)
        assert "(Success)" in door.send(path, called="WETREAD_STAT")
        assert door.spool.open_associations("HELD") == 1
        held.close()
        until = time.monotonic() + 10
        while "(Success)" not in door.send(path):
            assert time.monotonic() < until
        assert door.spool.open_associations("HELD") == 0


def test_a_stop_ends_idle_associations_at_once(tmp_path: Path) -> None:
    with receiver(tmp_path) as door:
        held = _associated(door.port)
        began = time.monotonic()
        door.process.terminate()
        assert held.recv(100)[:1] == bytes([7])  # A-ABORT
        door.process.wait(5)
        assert time.monotonic() - began < 3
        held.close()
    assert list((door.folder / "spool/associations").iterdir()) == []


def _associated(port: int) -> socket.socket:
    """An open association as HELD, by hand."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)

    def item(kind: int, body: bytes) -> bytes:
        return bytes((kind, 0)) + len(body).to_bytes(2, "big") + body

    syntaxes = item(0x30, b"1.2.840.10008.1.1") + item(0x40, b"1.2.840.10008.1.2")
    user = item(0x51, (16384).to_bytes(4, "big")) + item(0x52, b"1.2.3")
    body = b"\0\1\0\0" + b"WETREAD".ljust(16) + b"HELD".ljust(16) + bytes(32)
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, b"\1\0\0\0" + syntaxes) + item(0x50, user)
    connection.sendall(HEADER.pack(1, len(body)) + body)
    assert connection.recv(4096)[:1] == b"\2"
    return connection
