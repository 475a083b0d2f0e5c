"""HTTP/1.1 with h11, one request a connection: the head first, the body when the door asks for it."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import h11

if TYPE_CHECKING:
    from collections.abc import Mapping

_READ = 1 << 16


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and a body; `body_sent`: whether the door wanted to have the request's body."""

    status: int
    body: bytes
    body_sent: bool

    def json(self) -> dict[str, object]:
        """Give the body as an object; ValueError when it is none."""
        found = json.loads(self.body)
        if not isinstance(found, dict):
            raise ValueError("the answer is no JSON object")
        return found


def ask(url: str, method: str, path: str, headers: Mapping[str, str], body: bytes = b"", *, timeout_s: float) -> Answer:
    """Send one request and give the answer. OSError and h11.ProtocolError when that fails.

    A body is announced (`Expect: 100-continue`, RFC 9110, 10.1.1): a door that refuses does so before it is sent.
    """
    place = urlsplit(url)
    fields = {"Host": place.netloc, "Connection": "close", **headers}
    if body:
        fields |= {"Content-Length": str(len(body)), "Expect": "100-continue"}
    connection = h11.Connection(h11.CLIENT)
    head = h11.Request(method=method, target=path, headers=list(fields.items()))
    with socket.create_connection((place.hostname, place.port or 80), timeout_s) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire.sendall(connection.send(head) or b"")
        body_sent = False
        status, found = 0, bytearray()
        if not body:
            wire.sendall(connection.send(h11.EndOfMessage()) or b"")
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(wire.recv(_READ))
            elif isinstance(event, h11.InformationalResponse):
                wire.sendall(connection.send(h11.Data(data=body)) or b"")
                wire.sendall(connection.send(h11.EndOfMessage()) or b"")
                body_sent = True
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                found += event.data
            elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
                return Answer(status, bytes(found), body_sent)
