"""HEATMAP and NOVELTY exist only where a release makes them; the client never asks for what is not there."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from wetread_client import Client, FakeTransport, Retry, ServerError, Unavailable
from wetread_client.card import PipelineCard
from wetread_client.choosing import Choice
from wetread_client.errors import NoSuchOutput, Status, translate
from wetread_client.fake import fake_answer, fake_card
from wetread_client.overlay import draw
from wetread_client.read_output import json_line
from wetread_client.read_run import Outcome, Plan
from wetread_client.sorting import Work
from wetread_client.transport import InferAnswer, InferRequest

FILM = b"film"
FULL = fake_answer([0.1], release=1)
LEAN = fake_answer([0.9], release=2, novelty=None, has_heatmap=False)
ALL = frozenset(FULL.outputs)


@dataclass
class Server:
    """A server whose release changes before its n-th call (`inferred` and `told` counted together)."""

    answers: list[InferAnswer]
    asked: list[tuple[str, ...]] = field(default_factory=list)
    told: list[int | None] = field(default_factory=list)
    mute: bool = False

    def _now(self) -> InferAnswer:
        return self.answers[min(len(self.asked) + len(self.told), len(self.answers) - 1)]

    def infer(self, request: InferRequest, timeout_s: float) -> InferAnswer:
        answer = self._now()
        self.asked.append(request.outputs)
        for name in request.outputs:
            if name not in answer.outputs:
                raise translate(
                    Status.INVALID_ARGUMENT, f"unexpected inference output '{name}' for model '{request.model}'"
                )
        return InferAnswer(answer.model_version, {name: answer.outputs[name] for name in request.outputs})

    def outputs(self, model: str, timeout_s: float, version: int | None = None) -> frozenset[str]:
        answer = self._now()
        self.told.append(version)
        if self.mute:
            raise ServerError("PERMISSION_DENIED", "no metadata here")
        if version is None:
            return frozenset(answer.outputs)
        return next(frozenset(a.outputs) for a in self.answers if a.model_version == version)

    def close(self) -> None: ...


def client_of(server) -> Client:
    return Client(transport=server, retry=Retry(times=0))


def test_a_release_without_heatmap_and_novelty_is_never_asked_for_them():
    server = Server([LEAN])
    client = client_of(server)
    for _ in range(2):
        reading = client.read(FILM)
    assert (reading.release, reading.novelty, reading.heatmap) == (2, None, None)
    assert not reading.is_unlike_training
    assert len(server.asked) == 2
    assert not any({"HEATMAP", "NOVELTY"} & set(outputs) for outputs in server.asked)


def test_a_release_with_a_heatmap_alone_gives_it():
    server = Server([fake_answer([0.9], novelty=None)])
    reading = client_of(server).read(FILM)
    assert reading.heatmap is not None
    assert reading.novelty is None


def test_a_full_release_costs_one_look_at_its_outputs():
    server = Server([FULL])
    client = client_of(server)
    for _ in range(3):
        assert client.read(FILM).heatmap is not None
    assert len(server.told) == 1
    assert len(server.asked) == 3


def test_no_film_is_lost_where_a_lean_release_takes_over_from_a_full_one():
    server = Server([FULL, FULL, LEAN])
    client = client_of(server)
    assert client.read(FILM).release == 1
    reading = client.read(FILM)
    assert (reading.release, reading.novelty) == (2, None)


def test_a_full_release_that_takes_over_from_a_lean_one_gives_its_heatmap_at_once():
    server = Server([LEAN, LEAN, LEAN, FULL])
    client = client_of(server)
    assert client.read(FILM).heatmap is None
    reading = client.read(FILM)
    assert reading.release == 1
    assert reading.heatmap is not None
    assert reading.novelty == 0.5


def test_releases_that_are_known_may_come_and_go():
    server = Server([LEAN, LEAN, LEAN, FULL, FULL, FULL, LEAN, LEAN, FULL])
    client = client_of(server)
    readings = [client.read(FILM) for _ in range(4)]
    assert all((reading.heatmap is not None) == (reading.release == 1) for reading in readings)
    assert {reading.release for reading in readings} == {1, 2}


@pytest.mark.parametrize("first", [LEAN, FULL])
def test_a_release_that_changes_between_its_outputs_and_its_answer_loses_nothing(first):
    second = FULL if first is LEAN else LEAN
    client = client_of(Server([first, second]))
    for _ in range(2):
        reading = client.read(FILM)
        assert reading.release == second.model_version
        assert (reading.heatmap is None) == (second is LEAN)


def test_a_heatmap_that_nobody_wants_is_not_asked_for():
    server = Server([FULL])
    client = client_of(server)
    assert client.read(FILM, heatmap=False).heatmap is None
    assert client.read(FILM).heatmap is not None
    assert "HEATMAP" not in server.asked[0]


def test_a_server_that_does_not_tell_its_outputs_is_asked_for_all():
    client = client_of(Server([FULL], mute=True))
    assert client.read(FILM).heatmap is not None


def test_a_server_that_contradicts_itself_ends_the_film_and_not_the_program():
    class Liar(Server):
        def outputs(self, model: str, timeout_s: float, version: int | None = None) -> frozenset[str]:
            return ALL

    server = Liar([LEAN])
    with pytest.raises(Unavailable, match="changed its release"):
        client_of(server).read(FILM)
    assert len(server.asked) == 5


def test_the_fake_refuses_what_its_answer_lacks_as_a_server_does():
    transport = FakeTransport([lambda _: LEAN], outputs=frozenset(LEAN.outputs))
    assert client_of(transport).read(FILM).heatmap is None
    with pytest.raises(NoSuchOutput, match="HEATMAP"):
        transport.infer(InferRequest("chest_xray", _payload(), ("HEATMAP",)), 1.0)


def _payload():
    from wetread_client.transport import BufferPayload  # noqa: PLC0415 -- next to its one use

    return BufferPayload(FILM)


@pytest.mark.parametrize("absent", [{}, {"novelty": None}])
def test_a_card_says_what_its_release_does_not_make(absent):
    document = json.loads(fake_card(has_heatmap=False, has_novelty=False)) | absent
    card = PipelineCard.parse(json.dumps(document).encode())
    assert card.novelty_percentile_99 is None
    assert card.findings[0].heatmap_scale is None


def test_lines_and_pictures_do_without():
    reading = client_of(Server([LEAN])).read(FILM)
    plan = Plan(Work((Path("film.dcm"),)), Choice("chest_xray", ""))
    assert json.loads(json_line(Outcome(plan, reading)))["novelty"] is None
    picture = draw(np.zeros((64, 64), np.uint8), reading)
    assert picture.width >= 64
