"""Broken and hostile requests: none is answered 500, others are served meanwhile, and memory stays bounded."""

import contextlib
import os
import random
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from tiers import tried
from web_door import BOUNDARY, RELATED, instance, open_door, related, settings_for, stow_head

ROUNDS = tried(60, 3000)


def rss_bytes() -> int:
    """Resident bytes of this process, the door's threads among it."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _truncated(body: bytes, chance: random.Random) -> bytes:
    return body[: chance.randrange(len(body))]


def _flipped(body: bytes, chance: random.Random) -> bytes:
    changed = bytearray(body)
    for _ in range(chance.randrange(1, 40)):
        changed[chance.randrange(min(len(changed), 3000))] = chance.randrange(256)
    return bytes(changed)


def _other_boundary(body: bytes, chance: random.Random) -> bytes:
    return body.replace(BOUNDARY.encode(), BOUNDARY.encode()[: chance.randrange(len(BOUNDARY))], 1)


def _huge_headers(_body: bytes, chance: random.Random) -> bytes:
    return f"--{BOUNDARY}\r\n".encode() + b"X: " + b"y" * chance.randrange(1, 200_000) + b"\r\n\r\n"


def _many_headers(_body: bytes, chance: random.Random) -> bytes:
    return f"--{BOUNDARY}\r\n".encode() + b"X: y\r\n" * chance.randrange(1, 10_000) + b"\r\n"


def _no_parts(_body: bytes, chance: random.Random) -> bytes:
    return chance.choice([b"", b"\r\n", b"--", f"--{BOUNDARY}--".encode(), f"--{BOUNDARY}\r\n".encode()])


def _many_parts(_body: bytes, chance: random.Random) -> bytes:
    return related(*[b""] * chance.randrange(1, 500))


def _wrong_lengths(body: bytes, chance: random.Random) -> bytes:
    changed = bytearray(body)
    at = changed.find(b"DICM") + 4 + chance.randrange(300)
    changed[at : at + 4] = b"\xff\xff\xff" + bytes([chance.randrange(256)])
    return bytes(changed)


def _noise(_body: bytes, chance: random.Random) -> bytes:
    return chance.randbytes(chance.randrange(100_000))


WAYS = (
    _truncated,
    _flipped,
    _other_boundary,
    _huge_headers,
    _many_headers,
    _no_parts,
    _many_parts,
    _wrong_lengths,
    _noise,
)


def raw(url: str, body: bytes, length: int) -> None:
    """Send a request whose Content-Length may lie, and leave."""
    host, port = url.removeprefix("http://").split(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=5) as client:
        client.sendall(stow_head(length) + body)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/studies", "/v1/read?wait_s=0"])
def test_fuzzed_bodies_are_problems_never_failures_and_others_are_served(tmp_path, path):
    chance = random.Random(9)
    good = related(*(instance(size=64)[1] for _ in range(2)))
    site = settings_for(tmp_path, patience_s=60.0)
    patient = replace(site.intake, overload_age_s=86400.0)  # nobody reads what is stored here
    with open_door(replace(site, intake=patient)) as door:
        slowest, stop = [], threading.Event()
        other = threading.Thread(target=_serve_meanwhile, args=(door, slowest, stop))
        other.start()
        _fuzz(door, path, good, chance, 50)  # what grows once grows here
        before = rss_bytes()
        statuses = _fuzz(door, path, good, chance, ROUNDS)
        stop.set()
        other.join()
        assert rss_bytes() - before < 64 << 20
        assert statuses <= {200, 202, 400, 409, 413, 422}, statuses
        assert slowest, "nobody was served meanwhile"
        assert max(slowest) < 30  # half of what anybody is waited for
        assert not list(door.context.spool.incoming.iterdir())


def _fuzz(door, path, good, chance, rounds) -> set[int]:
    statuses = set()
    for _ in range(rounds):
        body = chance.choice(WAYS)(good, chance)
        if chance.random() < 0.1:
            raw(door.url, body, chance.randrange(2 * len(body) + 1))
        statuses.add(door.client.post(path, content=body, headers=RELATED).status_code)
    return statuses


def _serve_meanwhile(door, slowest, stop) -> None:
    with httpx.Client(base_url=door.url, timeout=30) as client:
        while not stop.wait(0.05):
            started = time.monotonic()
            answer = client.post("/studies", content=related(instance(size=64)[1]), headers=RELATED)
            assert answer.status_code == 200
            slowest.append(time.monotonic() - started)


@pytest.mark.slow
def test_a_large_body_is_never_held_in_memory(tmp_path):
    def chunks():
        _, data = instance(size=64)
        yield related(data)[: -len(BOUNDARY) - 8]
        for _ in range(256):
            yield bytes(1 << 20)
        yield f"\r\n--{BOUNDARY}--\r\n".encode()

    with open_door(settings_for(tmp_path)) as door:
        door.stow(instance(size=64)[1])
        before, peak, stop = rss_bytes(), [0], threading.Event()

        def watch():
            while not stop.wait(0.01):
                peak[0] = max(peak[0], rss_bytes())

        watcher = threading.Thread(target=watch)
        watcher.start()
        answer = door.client.post("/studies", content=chunks(), headers=RELATED)
        stop.set()
        watcher.join()
        assert answer.status_code == 200
        assert door.received()[-1].stat().st_size > 256 << 20
        assert peak[0] - before < 32 << 20


@schemathesis.serializer("application/dicom", "application/octet-stream", "multipart/related")
def _as_bytes(_context, value):
    return value if isinstance(value, bytes) else str(value).encode()


@pytest.mark.slow
def test_no_request_that_the_description_allows_or_forbids_is_answered_with_a_failure(tmp_path):
    with open_door(settings_for(tmp_path, patience_s=5.0)) as door:  # a few requests promise more than they hold
        schema = schemathesis.openapi.from_url(f"{door.url}/openapi.json")
        operations = [result.ok() for result in schema.get_all_operations()]
        assert {operation.path for operation in operations} >= {"/studies", "/v1/read", "/v1/leases", "/metrics"}
        for operation in operations:
            for mode in schemathesis.GenerationMode:
                _ask(operation, mode, door.url)


def _ask(operation, mode, url) -> None:
    @seed(9)
    @settings(max_examples=tried(10, 200), deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case):
        if case.path == "/v1/read":
            case.query = {**(case.query or {}), "wait_s": 0}
        case.call_and_validate(base_url=url, checks=[not_a_server_error])

    with contextlib.suppress(Unsatisfiable):  # nothing can be wrong with a request that has no parameters
        ask()
