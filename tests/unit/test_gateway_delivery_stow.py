from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from outbox import result
from pydicom.uid import Comprehensive3DSRStorage
from wetread_gateway.config.settings import Destination
from wetread_gateway.delivery.outgoing import Outgoing
from wetread_gateway.delivery.outlet import NotOffered, Reference
from wetread_gateway.delivery.stow_out import StowPeer
from wetread_gateway.errors import Refused, TryAgain, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SR = str(Comprehensive3DSRStorage)
OBJECT = Outgoing("1.2.3", SR, "1.2", "1.2.840.10008.1.2.1", result("1.2.3", "1.2"))
REFERENCE = Reference("1.2.3", SR, "1.2")


def store_response(failed: int = 0, warned: int = 0) -> bytes:
    def item(tag: str, reason: int) -> dict[str, object]:
        return {"00081155": {"vr": "UI", "Value": ["1.2.3"]}, tag: {"vr": "US", "Value": [reason]}}

    content = {}
    if failed:
        content["00081198"] = {"vr": "SQ", "Value": [item("00081197", failed)]}
    if warned:
        content["00081199"] = {"vr": "SQ", "Value": [item("00081196", warned)]}
    return json.dumps(content).encode()


@pytest.fixture
def answering() -> Iterator[Callable[..., StowPeer]]:
    """Answers of a DICOMweb server as the standard has them, which Orthanc cannot be made to give."""
    script: dict[str, tuple[int, bytes, dict[str, str]]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            name = "/studies" if self.path.startswith("/studies?") else self.command
            status, body, headers = script.get(name, script[self.command])
            self.send_response(status)
            for key, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 -- the server calls it so

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    peers = []

    def answer(status: int, body: bytes = b"", studies: int | None = None, **headers: str) -> StowPeer:
        script["POST"] = script["GET"] = (status, body, {key.replace("_", "-"): text for key, text in headers.items()})
        if studies is not None:
            script["/studies"] = (studies, b"[]", {})
        url = f"http://127.0.0.1:{server.server_port}"
        peers.append(StowPeer(Destination("pacs", kind="stow", url=url, timeout_s=5.0)))
        return peers[-1]

    yield answer
    for peer in peers:
        peer.close()
    server.shutdown()
    thread.join()
    server.server_close()


def test_all_stored_and_stored_with_a_warning(answering) -> None:
    assert answering(200, store_response()).store([OBJECT]) == ()
    assert answering(202, store_response(warned=0xB007)).store([OBJECT]) == (
        "data set does not match SOP class (0xB007)",
    )


@pytest.mark.parametrize(
    ("status", "reason", "error"),
    [
        (409, 0xA700, TryAgain),
        (202, 0xA700, TryAgain),
        (202, 0x0110, TryAgain),
        (200, 0xC000, Refused),
        (409, 0xA900, Refused),
        (409, 0x0122, Refused),
    ],
)
def test_a_failure_reason_counts_more_than_the_http_status(answering, status: int, reason: int, error: type) -> None:
    with pytest.raises(error, match=f"0x{reason:04X}"):
        answering(status, store_response(failed=reason)).store([OBJECT])


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, Refused), (409, Refused), (415, Refused), (401, Unreachable), (404, Unreachable), (502, Unreachable)],
)
def test_a_status_without_a_word_counts_by_itself(answering, status: int, error: type) -> None:
    with pytest.raises(error, match=str(status)):
        answering(status, b"<html>no</html>").store([OBJECT])


@pytest.mark.parametrize(("text", "seconds"), [("7", 7.0), ("soon", 0.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0)])
def test_a_busy_server_says_when_to_come_back(answering, text: str, seconds: float) -> None:
    with pytest.raises(Unreachable) as caught:
        answering(503, Retry_After=text).store([OBJECT])
    assert caught.value.after_s == seconds


def test_qido_names_what_is_there(answering) -> None:
    there = json.dumps([{"00080018": {"vr": "UI", "Value": ["1.2.3"]}}]).encode()
    assert answering(200, there).named([REFERENCE]) == {"1.2.3"}
    assert answering(204).named([REFERENCE]) == frozenset()
    assert answering(404, studies=200).named([REFERENCE]) == frozenset()  # no such study


def test_a_server_without_qido_is_not_asked(answering) -> None:
    with pytest.raises(NotOffered):
        answering(404, studies=404).named([REFERENCE])
    with pytest.raises(NotOffered):
        answering(501).named([REFERENCE])


def test_nobody_there_is_unreachable() -> None:
    peer = StowPeer(Destination("pacs", kind="stow", url="http://127.0.0.1:9", timeout_s=1.0))
    with pytest.raises(Unreachable):
        peer.store([OBJECT])


def test_an_idle_connection_is_not_used_again_since_the_pacs_may_end_it(monkeypatch) -> None:
    connections, later_s = [], [0.0]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections are kept

        def do_POST(self) -> None:
            connections.append(self.client_address)
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + later_s[0])
    monkeypatch.setattr("httpcore._sync.http11.time", clock)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        peer = StowPeer(Destination("pacs", kind="stow", url=f"http://127.0.0.1:{server.server_port}"))
        peer._request("POST", "/studies", content=b"")
        later_s[0] = 0.9  # before the earliest end that is known
        peer._request("POST", "/studies", content=b"")
        peer.close()
        server.shutdown()
        thread.join()
    assert len(set(connections)) == 2
