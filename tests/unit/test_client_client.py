from __future__ import annotations

import asyncio
import dataclasses
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from wetread_client import AsyncClient, Client, FakeTransport, Rejected, Retry, ServerError, Unavailable
from wetread_client.card import CardError, PipelineCard
from wetread_client.fake import fake_answer, fake_card

if TYPE_CHECKING:
    from pathlib import Path

FILM = b"film"
UNAVAILABLE = Unavailable("UNAVAILABLE", "queue full")


class FakeClock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def client_of(script, *, clock: FakeClock | None = None, **arguments) -> tuple[Client, FakeTransport]:
    transport = FakeTransport(script)
    retry = Retry(times=3, first_wait_s=1.0, random=lambda: 0.5)
    return Client(transport=transport, retry=retry, clock=clock or FakeClock(), **arguments), transport


def test_a_reading_carries_what_the_server_said_under_the_cards_labels():
    client, transport = client_of([fake_answer([0.75], release=7, novelty=1.5, warnings=["cropped"])])
    reading = client.read(FILM)
    (finding,) = reading.findings
    assert (finding.label, finding.probability, finding.positive) == ("finding", 0.75, True)
    assert finding.codes[0].value == "FINDING"
    assert (reading.pipeline, reading.release, reading.novelty) == ("chest_xray", 7, 1.5)
    assert reading.heatmap is not None
    assert (reading.heatmap.shape, reading.heatmap.dtype) == ((1, 224, 224), np.uint8)
    assert reading.notes.warnings == ("cropped",)
    assert reading.notes.geometry is not None
    assert reading.notes.geometry.rows == 224
    assert transport.requests[0].film == FILM


def test_only_the_outputs_and_parameters_that_are_wanted_travel():
    client, transport = client_of([fake_answer()])
    client.read(FILM)
    client.read(FILM, heatmap=False, declared_film=True, any_body_part=True)
    first, second = transport.requests
    assert {"HEATMAP", "CARD"} <= set(first.outputs)
    assert first.parameters == {}
    assert not {"HEATMAP", "CARD"} & set(second.outputs)
    assert second.parameters == {"declared_film": True, "any_body_part": True}


def test_the_card_is_asked_for_once_a_release():
    client, transport = client_of([fake_answer(release=1)])
    for _ in range(5):
        client.read(FILM)
    assert ["CARD" in request.outputs for request in transport.requests] == [True, False, False, False, False]
    assert client.card(1) is not None
    assert client.card(2) is None


def test_an_answer_of_a_new_release_is_never_labelled_with_the_old_table():
    old, new = fake_answer([0.1], release=1), fake_answer([0.9], release=2, card=fake_card(["effusion"]))
    client, transport = client_of([old, new, new, old])
    assert client.read(FILM).findings[0].label == "finding"
    reading = client.read(FILM)
    assert (reading.release, reading.findings[0].label) == (2, "effusion")
    assert ["CARD" in request.outputs for request in transport.requests] == [True, False, True]
    back = client.read(FILM)
    assert (back.release, back.findings[0].label) == (1, "finding")


def test_a_release_that_changes_between_answer_and_card_is_taken_whole_from_the_second_answer():
    first = fake_answer([0.1], release=1)
    second, third = fake_answer([0.2], release=2), fake_answer([0.3], release=3, card=fake_card(["effusion"]))
    client, _ = client_of([first, second, third])
    client.read(FILM)
    reading = client.read(FILM)
    assert (reading.release, reading.findings[0].label) == (3, "effusion")
    assert reading.findings[0].probability == pytest.approx(0.3)
    assert client.card(2) is None


def test_a_card_that_does_not_fit_its_answer_is_the_servers_error():
    client, _ = client_of([fake_answer([0.1, 0.2])])
    with pytest.raises(ServerError, match="2 probabilities for 1 findings"):
        client.read(FILM)


def test_unavailable_is_tried_again_with_growing_waits():
    clock = FakeClock()
    client, transport = client_of([UNAVAILABLE, UNAVAILABLE, fake_answer()], clock=clock)
    assert client.read(FILM).findings
    assert clock.slept == [1.0, 2.0]
    assert len(transport.requests) == 3


def test_retries_end():
    client, transport = client_of([UNAVAILABLE])
    with pytest.raises(Unavailable):
        client.read(FILM)
    assert len(transport.requests) == 4


@pytest.mark.parametrize("error", [Rejected("InvalidDicom", "x"), ServerError("INTERNAL", "x")])
def test_other_errors_are_not_tried_again(error):
    client, transport = client_of([error, fake_answer()])
    with pytest.raises(type(error)):
        client.read(FILM)
    assert len(transport.requests) == 1


def test_no_wait_passes_the_deadline_and_each_try_is_given_what_is_left():
    clock = FakeClock()
    client, transport = client_of([UNAVAILABLE], clock=clock)
    with pytest.raises(Unavailable):
        client.read(FILM, deadline_s=2.5)
    assert clock.slept == [1.0]  # the next wait of 2 s would end after the deadline
    assert [request.timeout_s for request in transport.requests] == pytest.approx([2.5, 1.5])


def test_waits_are_spread_and_bounded():
    low, high = Retry(random=lambda: 0.0), Retry(random=lambda: 1.0)
    assert [low.wait_s(n) for n in (1, 2, 3)] == [0.25, 0.5, 1.0]
    assert [high.wait_s(n) for n in (1, 2, 3)] == [0.75, 1.5, 3.0]
    assert high.wait_s(20) == 7.5


def test_an_error_names_the_file(tmp_path: Path):
    film = tmp_path / "film.dcm"
    film.write_bytes(b"x")
    client, _ = client_of([Rejected("InvalidDicom", "no preamble")])
    with pytest.raises(Rejected) as caught:
        client.read(film)
    assert caught.value.file == str(film)


def test_an_empty_file_is_rejected_without_asking():
    client, transport = client_of([fake_answer()])
    with pytest.raises(Rejected, match="empty"):
        client.read(b"")
    assert not transport.requests


def test_read_many_gives_a_result_for_each_file_and_errors_in_their_places(tmp_path: Path):
    good, bad, missing = (tmp_path / name for name in ("good.dcm", "bad.dcm", "missing.dcm"))
    good.write_bytes(b"good")
    bad.write_bytes(b"bad")

    def answer(request):
        if request.film == b"bad":
            raise Rejected("InvalidDicom", "bad")
        return fake_answer()

    client, _ = client_of([answer])
    results = {result.file: result for result in client.read_many([good, bad, missing], 2)}
    assert results[good].reading is not None
    assert isinstance(results[bad].error, Rejected)
    assert isinstance(results[missing].error, FileNotFoundError)


def test_read_many_takes_files_no_faster_than_it_reads_them(tmp_path: Path):
    film = tmp_path / "film.dcm"
    film.write_bytes(b"x")
    taken = 0

    def files():
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield film

    client, _ = client_of([fake_answer()])
    results = client.read_many(files(), 2)
    next(results)
    assert taken <= 4
    results.close()


def test_read_many_reads_as_many_at_once_as_it_is_told(tmp_path: Path):
    film = tmp_path / "film.dcm"
    film.write_bytes(b"x")
    together = threading.Barrier(3, timeout=10)

    def answer(_):
        together.wait()
        return fake_answer()

    client, _ = client_of([answer])
    assert all(result.reading for result in client.read_many([film] * 6, 3))


def test_the_context_manager_closes_the_transport():
    client, transport = client_of([fake_answer()])
    with client:
        pass
    assert transport.closed


def test_a_reading_cannot_be_changed():
    client, _ = client_of([fake_answer()])
    with pytest.raises(dataclasses.FrozenInstanceError):
        client.read(FILM).release = 2


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"no json", "not a pipeline card"),
        (b"[]", "not a pipeline card"),
        (b'{"schema": 2}', "schema 2"),
        (b'{"schema": 1}', "not whole"),
    ],
)
def test_a_card_that_cannot_be_read_says_why(document, reason):
    with pytest.raises(CardError, match=reason):
        PipelineCard.parse(document)
    client, _ = client_of([fake_answer(card=document)])
    with pytest.raises(ServerError, match=reason):
        client.read(FILM)


def test_a_card_has_every_field_typed():
    card = PipelineCard.parse(fake_card(["a", "b"]))
    assert [finding.label for finding in card.findings] == ["a", "b"]
    assert card.findings[0].codes[0].scheme == "99FAKE"
    assert card.intended_use.age_years == (1.0, 5.0)
    assert card.algorithm.manufacturer == "nobody"


def test_the_async_client_reads_side_by_side_and_closes(tmp_path: Path):
    film = tmp_path / "film.dcm"
    film.write_bytes(b"x")
    together = threading.Barrier(2, timeout=10)

    def answer(_):
        together.wait()
        return fake_answer()

    transport = FakeTransport([answer])

    async def read():
        async with AsyncClient(transport=transport, concurrency=2) as client:
            pair = await asyncio.gather(client.read(FILM), client.read(FILM))
            many = [result async for result in client.read_many([film] * 4)]
        return pair, many

    pair, many = asyncio.run(read())
    assert len(pair) == 2
    assert all(result.reading for result in many)
    assert transport.closed


def test_an_async_call_that_is_cancelled_returns_while_its_request_goes_on():
    asked, go_on = threading.Event(), threading.Event()

    def answer(_):
        asked.set()
        go_on.wait(10)
        return fake_answer()

    async def read():
        async with AsyncClient(transport=FakeTransport([answer])) as client:
            task = asyncio.create_task(client.read(FILM))
            await asyncio.to_thread(asked.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            go_on.set()

    asyncio.run(read())
    assert asked.is_set()


def test_leaving_an_async_iterator_early_ends_its_threads(tmp_path: Path):
    film = tmp_path / "film.dcm"
    film.write_bytes(b"x")

    async def read():
        async with AsyncClient(transport=FakeTransport([fake_answer()]), concurrency=2) as client:
            results = client.read_many([film] * 100)
            await anext(results)
            await results.aclose()

    asyncio.run(read())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("wetread-")]
