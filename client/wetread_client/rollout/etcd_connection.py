"""Calls to etcd's JSON gateway: the next member where one is away, one connection a thread."""

from __future__ import annotations

import base64
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from wetread_client.rollout.document import RolloutError
from wetread_client.rollout.store import StoreAway

if TYPE_CHECKING:
    from etcd3gw.client import Etcd3Client

TIMEOUT_S = 3.0
"""Of one call to one member."""
DEFAULT_PORT = 2379


@dataclass(frozen=True, slots=True)
class EtcdAddress:
    """What etcd://HOST:PORT[,HOST:PORT...]/PREFIX says; etcds:// is TLS, with ?ca=FILE&cert=FILE&key=FILE."""

    members: tuple[tuple[str, int], ...]
    prefix: str
    tls: bool = False
    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    @classmethod
    def parse(cls, url: str) -> EtcdAddress:
        """Read an address; RolloutError when it is none."""
        parts = urlsplit(url)
        try:
            members = tuple(_member(each) for each in parts.netloc.split(","))
        except ValueError as error:
            raise RolloutError(f"{url}: {error}; a store in etcd is etcd://host:port/prefix") from error
        files = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if unknown := files.keys() - {"ca", "cert", "key"}:
            raise RolloutError(f"{url}: there is no option {', '.join(sorted(unknown))}; there are ca, cert and key")
        return cls(members, parts.path.strip("/") or "wetread", parts.scheme == "etcds", **files)

    @property
    def where(self) -> str:
        """Give the address without files, for messages."""
        members = ",".join(f"{host}:{port}" for host, port in self.members)
        return f"etcd{'s' if self.tls else ''}://{members}/{self.prefix}"


class EtcdConnection:
    """Sends a call to one member after another until one answers."""

    def __init__(self, address: EtcdAddress) -> None:
        try:
            import etcd3gw  # noqa: F401, PLC0415 -- said here and not at the first call
        except ImportError as error:
            raise RolloutError("rollouts in etcd need the package etcd3gw: pip install 'wetread[release]'") from error
        self._address = address
        self._thread = threading.local()
        self._first = 0
        """The member that answered last."""

    def call(self, path: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Post to the gateway (`/kv/range`) and give its answer; StoreAway when no member answers.

        A call may have been carried out though its answer was lost, and then goes to the next member as well.
        """
        from etcd3gw.exceptions import Etcd3Exception  # noqa: PLC0415 -- as above
        from requests import RequestException  # noqa: PLC0415 -- what etcd3gw is made of

        reasons = []
        clients = self._clients()
        first = self._first
        for turn in range(len(clients)):
            number = (first + turn) % len(clients)
            client = clients[number]
            try:
                answer: dict[str, Any] = client.post(client.get_url(path), json=payload)
            except (Etcd3Exception, RequestException) as error:
                detail = getattr(error, "detail_text", None) or error
                reasons.append(f"{client.host}:{client.port}: {detail}".strip())
            else:
                self._first = number
                self._thread.repeated = bool(reasons)
                return answer
        raise StoreAway(f"{self._address.where} cannot be reached: {'; '.join(reasons)}")

    @property
    def repeated(self) -> bool:
        """Say whether this thread's last call went to several members, of which more than one may have obeyed."""
        return bool(getattr(self._thread, "repeated", False))

    def _clients(self) -> tuple[Etcd3Client, ...]:
        """Give this thread's clients: a requests session is not for several threads."""
        if not hasattr(self._thread, "clients"):
            self._thread.clients = tuple(self._client(host, port) for host, port in self._address.members)
        clients: tuple[Etcd3Client, ...] = self._thread.clients
        return clients

    def _client(self, host: str, port: int) -> Etcd3Client:
        from etcd3gw.client import Etcd3Client  # noqa: PLC0415 -- as above
        from requests import Session  # noqa: PLC0415

        session = Session()
        session.trust_env = False  # a site's proxy for the outside world has no part in this
        if self._address.ca:
            session.verify = self._address.ca
        if self._address.cert and self._address.key:
            session.cert = (self._address.cert, self._address.key)
        protocol = "https" if self._address.tls else "http"
        return Etcd3Client(host, port, protocol=protocol, timeout=TIMEOUT_S, session=session)


def encoded(text: str | bytes) -> str:
    """Give bytes as the gateway wants them."""
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def decoded(text: str) -> bytes:
    """Give the bytes that the gateway meant."""
    return base64.b64decode(text)


def span(prefix: str) -> dict[str, str]:
    """Give the range of all keys that begin with `prefix`, which ends with a `/`."""
    return {"key": encoded(prefix), "range_end": encoded(prefix[:-1] + chr(ord("/") + 1))}


def _member(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("it names no host")
    return parts.hostname, parts.port or DEFAULT_PORT
