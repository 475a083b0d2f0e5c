from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pydicom
import pytest
from receiver_rig import EXPLICIT, WAIT_S, associate, data, dataset_bytes, film, receiver, store_command
from waiting import wait_for

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
    part = dataset_bytes(film(tmp_path / "film.dcm", "1.2.80", 3_000_000))[:1_000_000]
    with socket.create_connection(("127.0.0.1", door.port), timeout=WAIT_S) as peer:
        peer.sendall(associate())
        assert peer.recv(4096)[:1] == b"\2"
        peer.sendall(data(3, store_command()))
        for at in range(0, len(part), 10_000):
            peer.sendall(data(0, part[at : at + 10_000]))
        assert wait_for(lambda: any(found.stat().st_size > 10_000 for found in set(door.left()) - before))
    assert wait_for(lambda: set(door.left()) == before)


def test_beyond_the_limit_only_stat_comes_in(tmp_path: Path) -> None:
    with receiver(tmp_path, "any_peer = true\nmax_associations = 1\nreserved_for_stat = 1") as door:
        path = film(tmp_path / "film.dcm", "1.2.81", 50_000)
        held = _associated(door.port)
        assert "Temporary Congestion" in door.send(path)
        assert "(Success)" in door.send(path, called="WETREAD_STAT")
        assert door.spool.open_associations("HELD") == 1
        held.close()
        assert wait_for(lambda: "(Success)" in door.send(path))
        assert wait_for(lambda: door.spool.open_associations("HELD") == 0)


def test_a_stop_ends_idle_associations_at_once(tmp_path: Path) -> None:
    with receiver(tmp_path, drain_s=600) as door:
        held = _associated(door.port)
        door.process.terminate()
        assert held.recv(100)[:1] == bytes([7])  # A-ABORT
        door.process.wait(WAIT_S)
        held.close()
    assert list((door.folder / "spool/associations").iterdir()) == []


def _associated(port: int) -> socket.socket:
    """An open association as HELD, by hand."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
    connection.sendall(associate(b"HELD"))
    assert connection.recv(4096)[:1] == b"\2"
    return connection
