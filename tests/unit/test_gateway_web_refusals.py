"""A door that is overloaded says so before it reads: not a byte of a body, and the client hears it."""

from __future__ import annotations

import dataclasses
import socket
import threading
import time
from contextlib import closing

import httpx
import pytest
from sqlalchemy import delete, insert
from uvicorn.protocols.http.h11_impl import RequestResponseCycle
from web_door import Live, instance, make_context, open_door, settings_for, stow_head, waiting_work
from wetread_gateway.pressure import Backlog, Forecast, Watch
from wetread_gateway.state.tables import WORKS

LARGE = 8 << 20


@pytest.fixture
def door(tmp_path):
    with open_door(settings_for(tmp_path)) as opened:
        yield opened


@pytest.fixture
def overloaded(door):
    with door.context.store.write() as connection:
        connection.execute(insert(WORKS).values(waiting_work(60)))
    return door


@pytest.fixture
def reads(monkeypatch) -> list[int]:
    """The bytes that the application took of every message of a body."""
    taken: list[int] = []
    receive = RequestResponseCycle.receive

    async def counted(self):
        message = await receive(self)
        taken.append(len(message.get("body", b"")))
        return message

    monkeypatch.setattr(RequestResponseCycle, "receive", counted)
    return taken


def connected(door):
    url = httpx.URL(door.url)
    return closing(socket.create_connection((url.host, url.port), 10))


def all_of(wire) -> bytes:
    found = b""
    while data := wire.recv(1 << 16):
        found += data
    return found


@pytest.mark.slow
def test_a_refused_body_is_never_read(overloaded, reads):
    for path in ("/studies", "/v1/read"):
        answer = overloaded.client.post(path, content=bytes(LARGE), headers={"Content-Type": "application/dicom"})
        assert answer.status_code == 429
    assert reads == []
    assert overloaded.client.post("/v1/read", content=b"x", headers={"Wetread-Priority": "STAT"}).status_code == 415
    # what is taken is read: the count is one that counts
    assert overloaded.stow(instance()[1], **{"Wetread-Priority": "STAT"}).status_code == 200
    assert sum(reads) > 500


@pytest.mark.slow
def test_a_client_that_sends_eight_megabytes_before_it_listens_hears_the_refusal(overloaded):
    for _ in range(5):
        with connected(overloaded) as wire:
            wire.sendall(stow_head(LARGE))
            wire.sendall(bytes(LARGE))
            answer = all_of(wire)
        assert answer.startswith(b"HTTP/1.1 429")
        assert b"retry-after: " in answer.lower()


def test_a_client_that_announces_its_body_is_refused_before_it_sends(overloaded):
    with connected(overloaded) as wire:
        wire.sendall(stow_head(LARGE).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        answer = all_of(wire)
    assert answer.startswith(b"HTTP/1.1 429")
    assert b"100 Continue" not in answer


def send_for_ever(wire, head) -> None:
    wire.sendall(head)
    while True:
        wire.sendall(bytes(1 << 16))
        time.sleep(0.01)


@pytest.mark.slow
def test_a_refused_client_that_goes_on_for_ever_is_dropped(tmp_path):
    with open_door(settings_for(tmp_path, patience_s=3.0)) as door:
        with door.context.store.write() as connection:
            connection.execute(insert(WORKS).values(waiting_work(60)))
        with connected(door) as wire, pytest.raises((ConnectionResetError, BrokenPipeError)):
            send_for_ever(wire, stow_head(1 << 40))


@pytest.mark.slow
def test_refusals_are_counted_and_audited_once_a_second_at_most(overloaded):
    for _ in range(20):
        assert overloaded.stow(instance()[1]).status_code == 429
    refused = [line for line in overloaded.audited() if '"refuse"' in line]
    assert 1 <= len(refused) < 10


@pytest.mark.slow
def test_the_door_opens_again_when_the_queue_is_done(overloaded):
    assert overloaded.stow(instance()[1]).status_code == 429
    with overloaded.context.store.write() as connection:
        connection.execute(delete(WORKS))
    until = time.monotonic() + 120
    while (status := overloaded.stow(instance()[1]).status_code) == 429 and time.monotonic() < until:
        threading.Event().wait(0.05)
    assert status == 200


def looks(forecast: Forecast, *seen: tuple[float, int, int]) -> float | None:
    for now, films, made in seen:
        forecast.note(now, Backlog(0.0, films, made))
    return forecast.wait_s


def test_the_forecast_is_the_films_that_wait_over_those_read_a_second():
    # 30 come a second, 10 are read: after 3 s 60 wait, which takes 6 s
    assert looks(Forecast(), *((t, 20 * t, 30 * t) for t in (1, 2, 3))) == pytest.approx(6.0)


def test_there_is_no_forecast_from_a_queue_that_ran_empty_or_from_too_few_films():
    assert looks(Forecast(), (0, 5, 100), (1, 0, 200), (2, 5, 300)) is None
    assert looks(Forecast(), (0, 50, 100), (5, 50, 104)) is None
    assert looks(Forecast(), (0, 50, 100), (0.5, 50, 140)) is None


def test_films_are_refused_when_they_would_wait_too_long_though_none_has_yet(tmp_path):
    settings = settings_for(tmp_path)
    settings = dataclasses.replace(settings, intake=dataclasses.replace(settings.intake, overload_age_s=5.0))
    watch = Watch(make_context(settings, live=Live(settings)))
    looks(watch._forecast, *((t, 20 * t, 30 * t) for t in (1, 2)))
    assert not watch.overloaded
    assert watch.retry_after_s == 4
    looks(watch._forecast, (3, 60, 90))
    assert watch.overloaded
    assert watch.retry_after_s == 5
