"""A reader over HTTP leases, beside a Triton elsewhere: `python -m wetread_gateway.reading.remote --url GATEWAY`."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from wetread_gateway import logs
from wetread_gateway.config.settings import Triton
from wetread_gateway.reading.http_worklist import HttpWorklist
from wetread_gateway.reading.pipeline import Pipelines
from wetread_gateway.reading.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Sequence

_DEFAULTS = Triton()


def main(arguments: Sequence[str] | None = None) -> int:
    """Read until SIGTERM."""
    parser = argparse.ArgumentParser(prog="wetread_gateway.reading.remote", description=__doc__)
    parser.add_argument("--url", required=True, help="the gateway's HTTP door")
    parser.add_argument("--token-file", type=Path, help="file whose first line is the bearer token")
    parser.add_argument("--ca", type=Path, help="PEM file of the authorities to trust")
    parser.add_argument("--certificate", type=Path, help="PEM file of our certificate (with --key)")
    parser.add_argument("--key", type=Path, help="PEM file of our key")
    parser.add_argument("--triton", default=_DEFAULTS.url, help="address of the Triton that reads")
    parser.add_argument("--name", default="", help="this reader's name, stable over restarts and its alone")
    parser.add_argument("--concurrency", type=int, default=_DEFAULTS.concurrency)
    parser.add_argument("--deadline", type=float, default=_DEFAULTS.deadline_s, help="seconds one film may take")
    parser.add_argument(
        "--series-deadline", type=float, default=_DEFAULTS.series_deadline_s, help="one series, likewise"
    )
    parser.add_argument("--lease", type=float, default=_DEFAULTS.lease_s, help="the gateway's triton.lease_s")
    chosen = parser.parse_args(arguments)
    # A name of its own each time is safe; with a stable one a reader that comes back takes its works up at once.
    name = chosen.name or f"{socket.gethostname()[:24]}-{os.getpid()}-{secrets.token_hex(4)}"
    logs.set_up(name)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    settings = Triton(
        url=chosen.triton,
        concurrency=chosen.concurrency,
        deadline_s=chosen.deadline,
        series_deadline_s=chosen.series_deadline,
        lease_s=chosen.lease,
    )
    token = chosen.token_file.read_text().split("\n")[0].strip() if chosen.token_file else ""
    certificate = (chosen.certificate, chosen.key or chosen.certificate) if chosen.certificate else None
    worklist = HttpWorklist(chosen.url, token, chosen.ca, certificate)
    try:
        with Pipelines(lambda: settings.url) as pipelines:
            Reader(worklist, pipelines, name, lambda: settings).run(stop)
    finally:
        worklist.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
