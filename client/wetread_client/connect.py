"""Choose the way to a server: shared memory beside it, HTTP or gRPC from afar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from wetread_client.endpoint import Endpoint
from wetread_client.http import HttpTransport
from wetread_client.shared_memory import SharedMemoryTransport

if TYPE_CHECKING:
    from pathlib import Path

    from wetread_client.transport import ControlTransport, Transport

Way = Literal["auto", "shm", "http", "grpc"]


def connect(url: str, way: Way = "auto", ca: Path | None = None) -> Transport:
    """Make the transport for an address; nothing is sent yet.

    `auto`: shared memory on a loopback address (given up for the address's own protocol where the server does not
    share this machine's memory), else the address's own protocol.
    ValueError when the address is none, or its protocol is not the one asked for.
    """
    if way not in get_args(Way):
        raise ValueError(f"no such transport: {way!r} (one of {', '.join(get_args(Way))})")
    endpoint = Endpoint.parse(url)
    if way in ("http", "grpc") and (way == "grpc") != endpoint.is_grpc:
        raise ValueError(f"transport {way} does not go with the address {url}")
    wire = _wire(endpoint, ca)
    if way == "shm":
        return SharedMemoryTransport(wire)
    if way == "auto" and endpoint.is_loopback:
        return SharedMemoryTransport(wire, fall_back=True)
    return wire


def _wire(endpoint: Endpoint, ca: Path | None) -> ControlTransport:
    if not endpoint.is_grpc:
        return HttpTransport(endpoint, ca)
    from wetread_client.grpc import GrpcTransport  # noqa: PLC0415 -- tritonclient's gRPC takes 0.3 s to import

    return GrpcTransport(endpoint, ca)
