"""A real receiving process for the tests, and DCMTK's senders."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from waiting import wait_for
from wetread_bench.servers import free_port
from wetread_gateway.dimse.command import encode
from wetread_gateway.dimse.wire import HEADER, PDV
from wetread_gateway.spool.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Iterator

DX = "1.2.840.10008.5.1.4.1.1.1.1"
EXPLICIT = "1.2.840.10008.1.2.1"
WAIT_S = 180.0  # of a machine that is busy


def film(path: Path, uid: str, size: int = 100_000) -> Path:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = EXPLICIT
    dataset.SOPClassUID, dataset.SOPInstanceUID = DX, uid
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.PatientID = "1.2.3", "1.2.4", "X"
    dataset.PixelData = os.urandom(size // 2 * 2)
    dataset["PixelData"].VR = "OW"
    dataset.save_as(path, enforce_file_format=True)
    return path


@dataclass
class Receiver:
    port: int
    process: subprocess.Popen
    folder: Path
    log: Path

    @property
    def spool(self) -> Spool:
        return Spool(self.folder / "spool")

    def received(self) -> list[Path]:
        return self.spool.arrivals(100_000)

    def left(self) -> list[Path]:
        """Every file of the spool, the notes of open associations too."""
        return [path for path in (self.folder / "spool").rglob("*") if path.is_file()]

    def left_when_alone(self) -> list[Path]:
        """Every file of the spool once no association is open: a sender has its answer before its note goes."""
        assert wait_for(lambda: not any(self.spool.associations.iterdir()))
        return self.left()

    def memory_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))

    def send(self, *files: Path | str, called: str = "WETREAD", options: tuple[str, ...] = ("-R",)) -> str:
        """Send with storescu and give all that it said; '[exit N]' at the end."""
        command = ["storescu", "-v", *options, "-aet", "STORESCU", "-aec", called, "127.0.0.1", str(self.port)]
        done = subprocess.run(
            [*command, *map(str, files)],
            env=os.environ | {"TCP_NODELAY": "1"},
            check=False,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
        )
        return f"{done.stdout}{done.stderr}[exit {done.returncode}]"

    def echo(self, called: str = "WETREAD", calling: str = "ECHOSCU") -> bool:
        command = ["echoscu", "-aet", calling, "-aec", called, "127.0.0.1", str(self.port)]
        return subprocess.run(command, check=False, capture_output=True, timeout=WAIT_S).returncode == 0


@contextmanager
def receiver(
    folder: Path,
    dicom: str = "any_peer = true",
    more: str = "",
    tracer: tuple[str, ...] = (),
    watermark_free_bytes: int = 1_000_000,
    drain_s: int = 3,
) -> Iterator[Receiver]:
    """Run `python -m wetread_gateway.process receiver` on a free port until the block ends.

    Nothing sorts what it receives, however old that grows: it must not take itself for overloaded.
    """
    port, state = free_port(), folder / "state"
    config, log = folder / "gateway.toml", folder / "receiver.log"
    config.write_text(
        f'[gateway]\nstate_dir = "{state}"\ndrain_s = {drain_s}\n[http]\nport = 0\n[dicom]\nport = {port}\n{dicom}\n'
        f"[intake]\nwatermark_free_bytes = {watermark_free_bytes}\noverload_age_s = 86400\n{more}\n"
    )
    command = [*tracer, sys.executable, "-m", "wetread_gateway.process", "receiver", "receiver-0"]
    with log.open("wb") as output:
        process = subprocess.Popen([*command, "--config", config], stdout=output, stderr=output)
    try:
        until = time.monotonic() + WAIT_S
        while b"is open on" not in log.read_bytes():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.02)  # its log is the only event there is
        yield Receiver(port, process, state, log)
    finally:
        process.terminate()
        try:
            process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def dataset_bytes(path: Path) -> bytes:
    """Give what stands behind the file meta information."""
    data = path.read_bytes()
    meta = pydicom.filereader.read_file_meta_info(path)
    return data[144 + meta.FileMetaInformationGroupLength :]


def item(kind: int, body: bytes) -> bytes:
    return bytes((kind, 0)) + len(body).to_bytes(2, "big") + body


def associate(calling: bytes = b"FUZZ") -> bytes:
    syntaxes = item(0x30, DX.encode()) + item(0x40, EXPLICIT.encode())
    user = item(0x51, (16384).to_bytes(4, "big")) + item(0x52, b"1.2.3")
    body = b"\0\1\0\0" + b"WETREAD".ljust(16) + calling.ljust(16) + bytes(32)
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, b"\1\0\0\0" + syntaxes) + item(0x50, user)
    return HEADER.pack(1, len(body)) + body


def data(control: int, piece: bytes, context: int = 1) -> bytes:
    return HEADER.pack(4, PDV.size + len(piece)) + PDV.pack(len(piece) + 2, context, control) + piece


def store_command(uid: bytes = b"1.2.3.4.") -> bytes:
    short = struct.Struct("<H").pack
    values = {0x0002: DX.encode() + b"\0", 0x0100: short(1), 0x0110: short(1), 0x0700: short(2), 0x0800: short(0)}
    return encode(values | {0x1000: uid})
