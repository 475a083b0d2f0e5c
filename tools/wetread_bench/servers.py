"""Servers for tests and benchmarks: started on free ports of loopback, awaited, and ended whatever happens."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

START_S = 120.0  # of a machine that is busy
STOP_S = 0.5  # Orthanc takes 4 s to stop by itself, and its database survives a kill
# DCMTK sends small packets late unless told so: five sixths of the speed.
ENVIRONMENT = {"TCP_NODELAY": "1"}


class NotStarted(Exception):
    """The server did not come up; the message holds the end of its log."""


_GIVEN: set[int] = set()
_SHARES = 16


def free_port() -> int:
    """Return a TCP port of loopback that nobody listens on; none is given twice.

    It lies below those that the kernel picks for outgoing connections: none of them can take it before it is used.
    Processes that look beside each other, such as workers of the tests, get others as a rule.
    """
    first_of_kernel = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(min(16384, first_of_kernel // 2), first_of_kernel)  # noqa: S311 -- no secret
        if port in _GIVEN or port % _SHARES != os.getpid() % _SHARES:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _GIVEN.add(port)
            return port


@contextlib.contextmanager
def storescp(folder: Path, *, port: int = 0, arguments: Sequence[str] = ()) -> Iterator[int]:
    """Run DCMTK's storescp, which writes what it gets to `folder`; gives its port. `arguments`: more options of it."""
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    log_file = folder.with_name(f"{folder.name}.log")
    command = ["storescp", "--output-directory", str(folder), "--unique-filenames", *arguments, str(port)]
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | ENVIRONMENT
        )
    try:
        wait_until(process, lambda: listens(port), log_file)
        yield port
    finally:
        end(process)


def listens(port: int) -> bool:
    """Whether somebody listens on a port of loopback."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


def wait_until(process: subprocess.Popen[bytes], answers: Callable[[], bool], log: Path) -> None:
    """Wait until a server answers; NotStarted, with the end of its log, when it does not."""
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        if answers():
            return
        time.sleep(0.02)  # a server says nowhere that it is up: it is asked
    end(process)
    raise NotStarted(f"{process.args!s} did not come up: {log.read_text(errors='replace')[-2000:]}")


def end(process: subprocess.Popen[bytes] | None) -> None:
    """End a server: asked first, killed soon after."""
    if process is None:
        return
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
