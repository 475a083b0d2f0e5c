"""Where a server is: the parts of a `grpc[s]://host:port` or `http[s]://host:port` address."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 8000, "https": 443, "grpc": 8001, "grpcs": 443}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server's address; `path` is a prefix that a proxy adds (`/triton`) or empty."""

    scheme: str
    host: str
    port: int
    path: str = ""

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """Read an address; ValueError names what is wrong with it."""
        parts = urlsplit(url)
        if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
            raise ValueError(f"not a server address: {url!r} (expected grpc[s]://host:port or http[s]://host:port)")
        if parts.username or parts.query or parts.fragment:
            raise ValueError(f"a server address has no user, query or fragment: {url!r}")
        path = parts.path.rstrip("/")
        if path and not parts.scheme.startswith("http"):
            raise ValueError(f"a gRPC address has no path: {url!r}")
        port = parts.port if parts.port is not None else DEFAULT_PORTS[parts.scheme]
        return cls(parts.scheme, parts.hostname, port, path)

    @property
    def is_grpc(self) -> bool:
        """Whether the address speaks gRPC."""
        return self.scheme.startswith("grpc")

    @property
    def is_encrypted(self) -> bool:
        """Whether the address wants TLS."""
        return self.scheme.endswith("s")

    @property
    def is_loopback(self) -> bool:
        """Whether the address is this machine's own, so that the server may share its memory."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def netloc(self) -> str:
        """`host:port`, an IPv6 host in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"
