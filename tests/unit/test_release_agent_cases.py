"""The cases of tests/triton/test_release_agent.py with a fake Triton; stores, registry and release agent are real.

A case is a list of steps. At its end no pipeline may have stopped answering.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pytest
from fake_triton import FakeServer
from tiny_release import PIPELINE, SIDE, TinySite, probability
from wetread_client.rollout import Actor, Arm, folder_store, steps
from wetread_release.agent.served import write_text
from wetread_release.device import cpu_device
from wetread_release.errors import ServeFailed
from wetread_release.places import Places
from wetread_release.promotion import Patience, promote, rollback
from wetread_release.publishing import publish
from wetread_release.release_site import Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from wetread_client.rollout import AgentReport
    from wetread_release.follow import Outcome

ACTOR = Actor("tester", "a test", "approver")
PATIENCE = Patience(timeout_s=120.0)
CANDIDATE = Arm.CANDIDATE.model(PIPELINE)
CLASSIFIER = f"{PIPELINE}_classifier"
GOLDEN_FILMS = 4


@pytest.fixture(autouse=True)
def _watchful_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_store, "POLL_S", 0.02)


class FakeSite:
    """A tiny site and its fake servers, which run from the start."""

    def __init__(self, folder: Path, names: tuple[str, ...]) -> None:
        self.tiny = TinySite(folder)
        self.stores = Site.open(Places(self.tiny.state), self.tiny.root)
        self._names, self._running = names, ExitStack()
        self.servers: list[FakeServer] = []
        self.outages: list[str] = []
        """Of servers that were stopped."""

    def start(self) -> None:
        self.servers = [self._running.enter_context(FakeServer(self.tiny, name)) for name in self._names]

    def stop(self) -> None:
        self._running.close()
        self.outages += [outage for server in self.servers for outage in server.triton.outages]
        self.servers = []

    @property
    def server(self) -> FakeServer:
        (server,) = self.servers
        return server

    @property
    def reports(self) -> tuple[AgentReport, ...]:
        return self.stores.rollouts.reports(PIPELINE)

    def await_truth(self, condition: Callable[[], bool], timeout_s: float = 120.0) -> bool:
        """Look after every change of a rollout or report; tell whether the condition came true."""
        deadline, stop = time.monotonic() + timeout_s, threading.Event()
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.stores.rollouts.changed(stop, 0.5)
        return True

    def publish(self, logit: float) -> Outcome:
        return publish(self.tiny.draft(logit), self.stores, ACTOR, PATIENCE, force="a test")

    def promote(self) -> Outcome:
        return promote(self.stores, PIPELINE, ACTOR, PATIENCE)

    def version(self, release: int) -> Path:
        """Return the classifier's version folder in the served copy of the only server."""
        return self.tiny.folder / "served" / "model_repository" / CLASSIFIER / str(release)

    def registered(self, release: int) -> Path:
        """Return the folder of the classifier's files in the registry."""
        return self.tiny.state / "releases" / PIPELINE / str(release) / "parts" / "classifier"


@pytest.fixture
def served_by(tmp_path: Path) -> Iterator[Callable[..., FakeSite]]:
    sites = []

    def start(*names: str) -> FakeSite:
        sites.append(FakeSite(tmp_path, names or ("served",)))
        sites[-1].start()
        return sites[-1]

    yield start
    for site in sites:
        site.stop()
        assert site.outages == []


@dataclass(frozen=True)
class Publish:
    """Publish a release of this logit on all running servers; `golden`: the logit that its gate had."""

    logit: float
    side: int = SIDE
    damaged: bool = False
    golden: float | None = None
    refused: str = ""

    def __call__(self, site: FakeSite) -> None:
        draft = site.tiny.draft(self.logit, side=self.side)
        if self.damaged:
            (draft / "parts" / "classifier" / "model.onnx").write_bytes(b"no model")
        if self.golden is not None:
            site.tiny.record_golden(draft, [self.golden] * GOLDEN_FILMS, cpu_device())
        force = "a test" if self.golden is None else ""
        _act(site, self.refused, lambda: publish(draft, site.stores, ACTOR, PATIENCE, force=force))


@dataclass(frozen=True)
class Promote:
    """Make the candidate stable on all running servers."""

    refused: str = ""

    def __call__(self, site: FakeSite) -> None:
        _act(site, self.refused, site.promote)


@dataclass(frozen=True)
class Rollback:
    """Go back on all running servers."""

    to: int | None = None
    refused: str = ""

    def __call__(self, site: FakeSite) -> None:
        _act(site, self.refused, lambda: rollback(site.stores, PIPELINE, ACTOR, PATIENCE, to=self.to))


def _act(site: FakeSite, refused: str, act: Callable[[], Outcome]) -> None:
    if refused:
        with pytest.raises(ServeFailed, match=refused):
            act()
    else:
        assert len(act().settled) == len(site.servers)


@dataclass(frozen=True)
class Serves:
    """Every server answers with this release and logit; without `candidate`, its candidate arm ends."""

    stable: tuple[int, float]
    candidate: tuple[int, float] | None = None

    def __call__(self, site: FakeSite) -> None:
        for server in site.servers:
            assert server.answer(PIPELINE) == _about(*self.stable)
            if self.candidate is not None:
                assert server.answer(CANDIDATE) == _about(*self.candidate)
            else:
                assert site.await_truth(partial(server.lacks, CANDIDATE))


def _about(release: int, logit: float) -> tuple[int, object]:
    return release, pytest.approx(probability(logit), abs=1e-6)


@dataclass(frozen=True)
class Reports:
    """The only server's agent reports this."""

    state: str
    stable: int
    failed_release: int
    message: str

    def __call__(self, site: FakeSite) -> None:
        assert site.await_truth(lambda: [report.state for report in site.reports] == [self.state])
        (report,) = site.reports
        assert (report.stable, report.failed_release) == (self.stable, self.failed_release)
        assert self.message in report.message


@dataclass(frozen=True)
class KeepsVersions:
    """The only server's classifier is left with these versions, on disk and loaded."""

    versions: frozenset[int]

    def __call__(self, site: FakeSite) -> None:
        served, triton = site.server.served, site.server.triton
        assert site.await_truth(lambda: {int(path.name) for path in served.versions(CLASSIFIER)} == self.versions)
        assert {version for version in range(9) if triton.is_ready(CLASSIFIER, version)} == self.versions


@dataclass(frozen=True)
class LoadedOnce:
    """The only server never loaded these versions of its classifier anew."""

    versions: tuple[int, ...]

    def __call__(self, site: FakeSite) -> None:
        loads = site.server.triton.loads
        assert [loads[CLASSIFIER, version] for version in self.versions] == [1] * len(self.versions)


@dataclass(frozen=True)
class HasModels:
    """The served copy of the only server holds these models."""

    names: frozenset[str]

    def __call__(self, site: FakeSite) -> None:
        assert self.names <= set(site.server.served.model_names())


@dataclass(frozen=True)
class ChangeInRegistry:
    """Put another model into a release that is signed."""

    release: int

    def __call__(self, site: FakeSite) -> None:
        other = site.tiny.draft(5.0) / "parts" / "classifier" / "model.onnx"
        shutil.copyfile(other, site.registered(self.release) / "model.onnx")


@dataclass(frozen=True)
class BlockWrites:
    """Let nobody write the stable ensemble of one server."""

    name: str

    def __call__(self, site: FakeSite) -> None:
        ensemble = site.tiny.folder / self.name / "ensembles" / PIPELINE
        shutil.rmtree(ensemble)
        ensemble.write_text("nobody can write a folder's files here")


def damage_release_2(site: FakeSite) -> None:
    """Damage its model wherever it lies."""
    for folder in (site.version(2), site.registered(2)):
        (folder / "model.onnx").write_bytes(b"damaged")


def lose_the_registry(site: FakeSite) -> None:
    (site.tiny.state / "releases").rename(site.tiny.state / "elsewhere")


def promote_unseen(site: FakeSite) -> None:
    """Promote while no server runs that could refuse."""
    rollouts = site.stores.rollouts
    offered = rollouts.read(PIPELINE)
    assert offered is not None
    rollouts.write(steps.promote(offered, ACTOR))


start, stop = FakeSite.start, FakeSite.stop
SHIPPED = (1, 0.0)

CASES: dict[str, list[Callable[[FakeSite], None]]] = {
    "a release is published beside, promoted and rolled back": [
        Serves(SHIPPED),
        Publish(1.0),
        Serves(SHIPPED, candidate=(2, 1.0)),
        Promote(),
        Serves((2, 1.0)),
        Rollback(),
        Serves(SHIPPED),
        LoadedOnce((1, 2)),
    ],
    "another input size gets a model of its own and a rollback crosses back": [
        Publish(2.0, side=2 * SIDE),
        Serves(SHIPPED, candidate=(2, 2.0)),
        Promote(),
        Serves((2, 2.0)),
        HasModels(frozenset({CLASSIFIER, f"{CLASSIFIER}_r2", f"{PIPELINE}_preprocess_r2"})),
        Rollback(),
        Serves(SHIPPED),
    ],
    "a release that does not load is withdrawn, and the way is free": [
        Publish(1.0, damaged=True, refused=r"release 2 of tiny could not be served.*does not load.*INVALID_PROTOBUF"),
        Serves(SHIPPED),
        Publish(3.0),
        Serves(SHIPPED, candidate=(3, 3.0)),
    ],
    "a release whose golden films differ is refused": [
        Publish(1.0, golden=1.2, refused=r"golden film 1: finding \w+ has probability 0.7311, the gate"),
        Serves(SHIPPED),
        Publish(1.0, golden=1.0),
        Serves(SHIPPED, candidate=(3, 1.0)),
    ],
    "a file changed after it was signed is refused at load": [
        Publish(1.0),
        Promote(),
        Rollback(),
        Publish(2.0),
        Promote(),
        KeepsVersions(frozenset({1, 3})),
        ChangeInRegistry(2),
        Rollback(to=2, refused=r"parts/classifier/model\.onnx was changed after the release was made"),
        Reports("failed", stable=3, failed_release=2, message="model.onnx"),
        Serves((3, 2.0)),
    ],
    "a server starts with the promoted release and falls back when that is broken": [
        Publish(1.0),
        Promote(),
        stop,
        start,
        Serves((2, 1.0)),
        stop,
        damage_release_2,
        start,
        Serves(SHIPPED),
        Reports("fallback", stable=1, failed_release=2, message="model.onnx"),
    ],
    "a promoted release that does not load any more falls back at the start": [
        Publish(1.0),
        Promote(),
        stop,
        Publish(4.0, damaged=True),
        promote_unseen,
        start,
        Serves((2, 1.0)),
        Reports("fallback", stable=2, failed_release=3, message="INVALID_PROTOBUF"),
    ],
    "a server starts while the registry is away": [
        Publish(1.0),
        Promote(),
        stop,
        lose_the_registry,
        start,
        Serves((2, 1.0)),
    ],
    "what nobody needs is removed, and nothing that an ensemble pins": [
        *(step for logit in (1.0, 2.0, 3.0) for step in (Publish(logit), Promote())),
        KeepsVersions(frozenset({3, 4})),  # stable, and what a rollback goes back to
        Serves((4, 3.0)),
        Rollback(),
        Serves((3, 2.0)),
        LoadedOnce((3, 4)),
    ],
}
CASES_OF_TWO: dict[str, list[Callable[[FakeSite], None]]] = {
    "two servers with copies of their own follow one rollout": [
        Publish(1.0),
        Serves(SHIPPED, candidate=(2, 1.0)),
        Promote(),
        Serves((2, 1.0)),
    ],
    "a promotion that one server cannot follow is undone on all": [
        Publish(1.0),
        BlockWrites("two"),
        Promote(refused="release 2 could not be promoted: two: .*Undone: release 1 is stable as before"),
        Serves(SHIPPED, candidate=(2, 1.0)),
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_what_one_server_does(case: str, served_by: Callable[..., FakeSite]) -> None:
    site = served_by()
    for step in CASES[case]:
        step(site)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES_OF_TWO)
def test_what_two_servers_do(case: str, served_by: Callable[..., FakeSite]) -> None:
    site = served_by("one", "two")
    for step in CASES_OF_TWO[case]:
        step(site)


@pytest.mark.slow
def test_a_hand_edit_of_the_served_copy_is_refused_and_mended_by_a_restart(served_by: Callable[..., FakeSite]) -> None:
    site = served_by()
    config = site.version(1).with_name("config.pbtxt")
    site.publish(1.0)
    site.promote()
    Serves((2, 1.0))(site)
    write_text(config, config.read_text().replace("count: 1", "count: 2"))  # in one rename: the agent may be reading
    Publish(2.0, refused="edited by hand")(site)
    Serves((2, 1.0))(site)
    site.stop()
    site.start()
    assert "count: 1" in config.read_text()
    site.publish(2.0)
    Serves((2, 1.0), candidate=(4, 2.0))(site)


def test_a_report_tells_what_is_served(served_by: Callable[..., FakeSite]) -> None:
    site = served_by()
    assert site.await_truth(lambda: bool(site.reports))  # before anybody has published
    (report,) = site.reports
    assert (report.revision, report.stable, report.target, report.url) == (0, 1, "cpu", site.server.url)
    site.publish(1.0)
    (report,) = site.reports
    assert (report.state, report.stable, report.candidate) == ("settled", 1, 2)
    site.stop()
    assert site.reports == ()
    assert json.loads((site.tiny.folder / "served" / "agent.json").read_text())[PIPELINE]["good"] == [1, 2]
