"""Golden films against what was recorded elsewhere: on another kind of device, or with other code of the backends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from wetread_client import Client
from wetread_client.fake import FakeTransport, fake_answer
from wetread_client.rollout import Rollout
from wetread_release.agent.carry_out import CarryOut
from wetread_release.agent.check import GoldenCheck
from wetread_release.agent.golden_shelf import GoldenShelf
from wetread_release.agent.record import Record
from wetread_release.digest import file_digest
from wetread_release.errors import FellBack, ServeFailed
from wetread_release.golden import film_model
from wetread_release.manifest import Golden, GoldenRecord, Manifest
from wetread_release.wiring import Wiring

if TYPE_CHECKING:
    from pathlib import Path

    from wetread_client.fake import FakeRequest
    from wetread_client.transport import InferAnswer

PIPELINE = "probe"
HERE, ELSEWHERE = "cpu-avx2", "cpu-amx_int8"
RECORDED = 0.30


class Server:
    """Stands in for one Triton, its served copy and the registry; `answers`: the probability that a release gives."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.answers: dict[int, float] = {}
        self.serving: dict[str, int] = {}
        self.was_stable: list[int] = []
        self.films_read = 0
        model = root / "model_repository" / "probe_classifier" / "synthetic_films.npz"
        model.parent.mkdir(parents=True)
        model.write_bytes(b"draws films")

    def client(self, _url: str, ensemble: str, **_settings: object) -> Client:
        def answer(_request: FakeRequest) -> InferAnswer:
            self.films_read += 1
            release = self.serving[ensemble]
            return fake_answer((self.answers[release],), release=release)

        return Client(pipeline=ensemble, transport=FakeTransport([answer]))

    def check(self, device: str = HERE) -> GoldenCheck:
        return GoldenCheck("http://127.0.0.1:0", self.root, self.root / "golden", device)

    def manifest(self, pipeline: str, release: int, probability: float = RECORDED, device: str = HERE) -> Manifest:
        record = GoldenRecord("onnxruntime", device, ((probability,),), ((probability >= 0.5,),))
        golden = Golden((("normal", 1),), file_digest(film_model(self.root)), (record,))
        code = {"wetread_preprocess": "as the gate had it"}
        return Manifest(pipeline, release, Wiring((), (), ()), (), "", "onnxruntime", "fp32", code, {}, golden=golden)

    def install(self, *_: object) -> None:
        """All is there already."""

    def release_of(self, ensemble: str) -> int:
        return self.serving.get(ensemble, 0)

    def is_ready(self, ensemble: str, release: int) -> bool:
        return self.serving.get(ensemble) == release

    def load_beside(self, _manifest: Manifest) -> bool:
        return True

    def serve(self, ensemble: str, manifest: Manifest) -> float:
        self.serving[ensemble] = manifest.release
        if ensemble == PIPELINE:
            self.was_stable.append(manifest.release)
        return 0.0

    def drop(self, ensemble: str) -> None:
        self.serving.pop(ensemble, None)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server(tmp_path / "root")
    monkeypatch.setattr("wetread_release.agent.check.Client", made.client)
    monkeypatch.setattr(GoldenShelf, "films", lambda *_: [b"film"])
    return made


@pytest.mark.parametrize(
    ("recorded", "answered", "recorded_on", "agrees"),
    [
        (0.30, 0.3405, ELSEWHERE, True),
        (0.30, 0.2595, ELSEWHERE, True),
        (0.30, 0.3505, ELSEWHERE, False),
        (0.30, 0.2495, ELSEWHERE, False),
        (0.49, 0.52, ELSEWHERE, False),  # near enough, and decided otherwise
        (0.52, 0.49, ELSEWHERE, False),
        (0.30, 0.3405, HERE, False),  # on the gate's kind of device rounding explains a thousandth
        (0.30, 0.3005, HERE, True),
    ],
)
def test_on_another_kind_of_device_golden_films_agree_within_5_hundredths_and_decide_the_same(
    server: Server, recorded: float, answered: float, recorded_on: str, agrees: bool
) -> None:
    manifest = server.manifest(PIPELINE, 2, recorded, recorded_on)
    server.serve(PIPELINE, manifest)
    server.answers = {2: answered}
    if agrees:
        server.check(HERE)(PIPELINE, manifest)
    else:
        with pytest.raises(ServeFailed, match="golden film 1"):
            server.check(HERE)(PIPELINE, manifest)


class TestOtherCode:
    """The backends' code is not the code that a release passed the gate with."""

    @pytest.fixture(autouse=True)
    def install_code(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.code = "as the gate had it"
        monkeypatch.setattr("wetread_release.agent.carry_out.installed_code", lambda: {"wetread_preprocess": self.code})

    def agent_of(self, server: Server) -> CarryOut:
        """Start the part of an agent that carries rollouts out, with the code as it is now."""
        record = Record.load(server.root / "agent.json")
        return CarryOut(server, server, server, server, record, "cpu", server.check())  # type: ignore[arg-type]

    def updated(self, server: Server, answers: dict[int, float]) -> CarryOut:
        """Start anew, with other code that gives these answers."""
        self.code, server.answers = "another", answers
        return self.agent_of(server)

    def test_a_release_is_served_when_its_golden_films_answer_the_same(self, server: Server) -> None:
        server.answers = {2: RECORDED}
        self.agent_of(server).stable(Rollout(PIPELINE, 1, stable=2))
        before = server.films_read
        agent = self.updated(server, {2: RECORDED})
        agent.check_as_served(PIPELINE, 2)
        assert server.films_read > before
        assert server.serving[PIPELINE] == 2
        assert agent.is_good(PIPELINE, 2)

    def test_a_release_that_was_good_before_is_not_switched_to_when_they_differ(self, server: Server) -> None:
        server.answers = {1: RECORDED, 2: RECORDED}
        agent = self.agent_of(server)
        for release in (2, 1):
            agent.stable(Rollout(PIPELINE, 1, stable=release))
        agent = self.updated(server, {1: RECORDED, 2: 0.9})
        with pytest.raises(ServeFailed, match="golden film 1"):
            agent.stable(Rollout(PIPELINE, 2, stable=2))
        assert server.serving[PIPELINE] == 1
        assert server.was_stable == [2, 1]

    def test_a_release_that_a_start_serves_gives_way_to_the_last_good_one_when_they_differ(
        self, server: Server
    ) -> None:
        server.answers = {1: RECORDED, 2: RECORDED}
        agent = self.agent_of(server)
        for release in (1, 2):
            agent.stable(Rollout(PIPELINE, 1, stable=release))
        agent = self.updated(server, {1: RECORDED, 2: 0.9})
        with pytest.raises(FellBack, match="release 1 answers in its place"):
            agent.check_as_served(PIPELINE, 2)
        assert server.serving[PIPELINE] == 1

    def test_a_release_that_differs_is_not_served_at_all_when_no_other_is_good(self, server: Server) -> None:
        server.answers = {2: RECORDED}
        self.agent_of(server).stable(Rollout(PIPELINE, 1, stable=2))
        agent = self.updated(server, {2: 0.9})
        with pytest.raises(FellBack, match="is not served"):
            agent.check_as_served(PIPELINE, 2)
        assert PIPELINE not in server.serving
