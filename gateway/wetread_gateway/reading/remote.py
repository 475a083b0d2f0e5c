"""A reader over HTTP leases, beside a Triton elsewhere: `wetread gateway reader`."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import socket
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from prometheus_client import REGISTRY
from wetread_client.health import HealthDoor

from wetread_gateway import logs
from wetread_gateway.config.files import first_line
from wetread_gateway.config.settings import Triton
from wetread_gateway.reading.http_worklist import HttpWorklist
from wetread_gateway.reading.pipeline import Pipelines
from wetread_gateway.reading.reader import Reader
from wetread_gateway.reading.serving import ReaderHealth

if TYPE_CHECKING:
    from collections.abc import Sequence

_DEFAULTS = Triton()


def _door(url: str) -> str:
    """Take the address of a gateway's HTTP door."""
    found = urlsplit(url)
    if found.scheme not in ("http", "https") or not found.hostname:
        raise argparse.ArgumentTypeError(f"{url!r} is no address such as https://wetread-gateway:8080")
    return url


def _worklist(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> HttpWorklist:
    """Open the worklist; ends with a word on the option whose file is at fault."""
    certificate = (chosen.certificate, chosen.key or chosen.certificate) if chosen.certificate else None
    try:
        token = "" if chosen.token_file is None else first_line(chosen.token_file)
    except (OSError, UnicodeDecodeError) as error:
        parser.error(f"--token-file: {chosen.token_file} cannot be read ({type(error).__name__})")
    if chosen.token_file is not None and not token:
        parser.error(f"--token-file: {chosen.token_file} is empty: its first line is the token")
    try:
        return HttpWorklist(chosen.url, token, chosen.ca, certificate)
    except OSError as error:  # ssl.SSLError is one
        parser.error(f"--ca, --certificate or --key cannot be used: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wetread gateway reader", description="Read for gateways elsewhere, beside a Triton, until SIGTERM."
    )
    parser.add_argument(
        "--url", type=_door, required=True, action="append", help="a gateway's HTTP door; again for each intake"
    )
    parser.add_argument("--token-file", type=Path, help="file whose first line is the bearer token")
    parser.add_argument("--ca", type=Path, help="PEM file of the authorities to trust")
    parser.add_argument("--certificate", type=Path, help="PEM file of our certificate (with --key)")
    parser.add_argument("--key", type=Path, help="PEM file of our key")
    parser.add_argument("--triton", default=_DEFAULTS.url, help="address of the Triton that reads")
    parser.add_argument("--name", default="", help="this reader's name, stable over restarts and its alone")
    parser.add_argument("--concurrency", type=int, default=_DEFAULTS.concurrency, help="films read at once")
    parser.add_argument("--deadline", type=float, default=_DEFAULTS.deadline_s, help="seconds one film may take")
    parser.add_argument(
        "--series-deadline", type=float, default=_DEFAULTS.series_deadline_s, help="one series, likewise"
    )
    parser.add_argument("--lease", type=float, default=_DEFAULTS.lease_s, help="the gateway's triton.lease_s")
    parser.add_argument("--drain", type=float, default=60.0, help="seconds to end what was begun, after SIGTERM")
    parser.add_argument("--pipeline", action="append", default=[], help="must be served for /readyz; may be repeated")
    parser.add_argument("--health-port", type=int, default=0, help="port of /healthz, /readyz, /metrics; 0: none")
    # A kubelet and Prometheus ask from outside the pod; what they hear names no patient.
    parser.add_argument("--health-host", default="0.0.0.0", help="address of that port")  # noqa: S104
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Read until SIGTERM."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    worklist = _worklist(parser, chosen)
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
    with ExitStack() as stack:
        stack.callback(worklist.close)
        pipelines = stack.enter_context(Pipelines(lambda: settings.url))
        reader = Reader(worklist, pipelines, name, lambda: settings)
        if chosen.health_port:
            health = ReaderHealth(reader, worklist, chosen.triton, chosen.pipeline, stop)
            REGISTRY.register(health)
            stack.callback(REGISTRY.unregister, health)
            stack.enter_context(HealthDoor(chosen.health_host, chosen.health_port, health.routes()))
        if not reader.run(stop, chosen.drain):
            os._exit(0)  # a thread still waits for an answer; all was given back
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
