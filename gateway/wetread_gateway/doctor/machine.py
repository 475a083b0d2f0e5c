"""This machine: ports, disk and clock."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import socket
import statistics
import tempfile
import time
from typing import TYPE_CHECKING

from wetread_gateway.doctor.check import Check

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wetread_gateway.config.settings import Settings

FILM_BYTES = 512 << 10
SLOW_SYNC_S = 0.05
YEARS = range(2025, 2100)
_PORT_REMEDIES: dict[int | None, str] = {
    errno.EADDRINUSE: "stop the program that holds it (`ss -ltnp` names it), or change port",
    errno.EACCES: "only root may listen below port 1024: change port, or allow this user",
    errno.EADDRNOTAVAIL: "host is no address of this machine (`ip addr` lists them): correct it",
}
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_TIMEX_BYTES = 512  # of struct timex, with room


def checks(settings: Settings, *, running: bool) -> Iterator[Check]:
    """Check the doors' ports, the disk of the state folder, and the clock. `running`: this gateway holds the ports."""
    yield _port("dicom port", settings.dicom.host, settings.dicom.port, running=running)
    if settings.http.port:
        yield _port("http port", settings.http.host, settings.http.port, running=running)
    yield from _disk(settings)
    yield _clock()


def is_running(settings: Settings) -> bool:
    """Whether a gateway works in this state folder now."""
    try:
        file = os.open(settings.gateway.state_dir / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _port(name: str, host: str, port: int, *, running: bool) -> Check:
    where = f"{host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except socket.gaierror as error:
        return Check(name, False, f"{host} is no address: {error.strerror}; correct host")
    except OSError as error:
        if error.errno == errno.EADDRINUSE and running:
            return Check(name, True, f"{where} is held by this gateway, which is running")
        remedy = _PORT_REMEDIES.get(error.errno, "correct host and port")
        return Check(name, False, f"{where} cannot be listened on: {error.strerror}; {remedy}")
    if running:
        return Check(name, False, f"the gateway is running, but nothing listens on {where}; look into its log")
    return Check(name, True, f"{where} is free")


def _disk(settings: Settings) -> Iterator[Check]:
    folder = settings.gateway.state_dir
    there = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    if not os.access(there, os.W_OK | os.X_OK):
        yield Check("disk", False, f"{there} is not writable for this user; chown it, or change state_dir")
        return
    free, watermark = shutil.disk_usage(there).free, settings.intake.watermark_free_bytes
    said = f"{_gigabytes(free)} free, nothing is taken below {_gigabytes(watermark)}"
    if free < watermark:
        yield Check("disk", False, f"{said}; make room, or lower watermark_free_bytes")
    else:
        enough = free > 2 * watermark
        yield Check("disk", True if enough else None, said if enough else f"{said}; make room before long")
    yield _sync(there)
    devices = {path.stat().st_dev for path in (folder, folder / "spool", folder / "audit") if path.is_dir()}
    if len(devices) > 1:
        yield Check("disk", False, f"{folder} spans several file systems: files move by renaming; put all on one")


def _sync(folder: Path) -> Check:
    """Write a film's bytes durably a few times, as a door does before Success."""
    try:
        taken = statistics.median(_write_s(folder) for _ in range(5))
    except OSError as error:
        return Check("disk write", False, f"{folder} takes no file: {error.strerror}")
    said = f"a film of 512 KB is durable after {taken * 1000:.1f} ms"
    if taken > SLOW_SYNC_S:
        return Check("disk write", None, f"{said}: senders wait for it; a local SSD takes a few milliseconds")
    return Check("disk write", True, said)


def _write_s(folder: Path) -> float:
    started = time.perf_counter()
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
        file.write(bytes(FILM_BYTES))
        file.flush()
        os.fsync(file.fileno())
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(held)
        finally:
            os.close(held)
        return time.perf_counter() - started


def _clock() -> Check:
    now = time.gmtime()
    said = time.strftime("%Y-%m-%d %H:%M:%S UTC", now)
    if now.tm_year not in YEARS:
        return Check("clock", False, f"it is not {said}; set the clock, or have chrony do it")
    read_only = ctypes.create_string_buffer(_TIMEX_BYTES)  # modes 0: nothing is set
    if ctypes.CDLL(None).adjtimex(read_only) == _TIME_ERROR:
        return Check("clock", None, f"{said}, not synchronised; run chrony, as reports and timelines carry its time")
    return Check("clock", True, f"{said}, synchronised")


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
