"""Releases swapped under plain Triton clients: callers that know nothing of ours lose no film, no answer is mixed."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from killed_triton import KilledTriton, deaths
from tiers import tried
from wetread_bench.swap_drafts import PIPELINE, Kind
from wetread_bench.swap_expected import Ledger
from wetread_bench.swap_figures import Request, errors, releases, strangers
from wetread_bench.swap_load import SwapLoad
from wetread_bench.swap_prepare import Prepared, prepare_drafts
from wetread_bench.swap_site import LoadLog, Operator
from wetread_embedded import EmbeddedTriton, ServerConfig
from wetread_models.synthetic import FilmModel
from wetread_release.checkout import SHIPPED_RELEASE, shipped_pipeline
from wetread_release.golden import film_model

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.triton, pytest.mark.slow]
CHECKOUT = Path(__file__).parents[2]
EVERY_KIND = (Kind.WEIGHTS, Kind.CORRUPT_ONNX, Kind.SETTINGS, Kind.WRONG_GOLDEN, Kind.CLASS_COUNT)
KINDS = tried(EVERY_KIND[:2], EVERY_KIND)
SIDE, FILMS = 512, 4
RATE = 2.0
"""Films a second and way: what is loaded beside must find some time on the cores."""
ENOUGH = 6
"""Answers of each release by each way, while it is stable."""


@dataclass
class Callers:
    """Plain clients that read by a timetable over one way each, and what they got."""

    loads: dict[str, SwapLoad]
    ledger: Ledger
    requests: list[Request]

    def wait_for(self, release: int) -> None:
        """Wait until every way has had enough answers of a release; a test's own time limit ends a vain wait."""
        seen = dict.fromkeys(self.loads, 0)
        pause = threading.Event()
        while min(seen.values()) < ENOUGH:
            for way in self.take():
                seen[way.way] += way.release == release
            failed = errors(self.requests)
            assert not failed, failed
            pause.wait(0.02)

    def take(self) -> list[Request]:
        """Give what came since the last call, and keep it."""
        new = [Request.of(row) for load in self.loads.values() for row in load.take()]
        self.requests += new
        return new


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Small synthetic films."""
    folder, model = tmp_path_factory.mktemp("films"), FilmModel.load(film_model(CHECKOUT))
    paths = [folder / f"{number}.dcm" for number in range(FILMS)]
    for number, path in enumerate(paths):
        path.write_bytes(model.dicom(number, "pneumonia" if number % 2 else "normal", SIDE, SIDE))
    return paths


@pytest.fixture(scope="module")
def prepared(films: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A draft of each kind, and what it must answer."""
    folder = tmp_path_factory.mktemp("drafts")
    contents = [film.read_bytes() for film in films]
    return prepare_drafts(shipped_pipeline(CHECKOUT, PIPELINE), KINDS, folder, contents, lambda _: None)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmbeddedTriton, Operator]]:
    """A server with a site of its own."""
    state, log = tmp_path_factory.mktemp("state"), LoadLog()
    config = ServerConfig.on_free_ports(root=CHECKOUT, store=state / "served", state=state, on_log=log)
    with KilledTriton(config) as server:
        yield server, Operator(state, CHECKOUT, log)


@pytest.fixture
def callers(site: tuple[EmbeddedTriton, Operator], films: list[Path], prepared: Prepared) -> Iterator[Callers]:
    """Two callers a way, under way until the test ends."""
    server, _ = site
    loads = {"plain_http": SwapLoad(), "plain_grpc": SwapLoad()}
    ledger = Ledger()
    ledger.enter(SHIPPED_RELEASE, prepared.shipped)
    for (way, load), url in zip(loads.items(), (server.http_url, server.grpc_url), strict=True):
        load.load([str(film) for film in films])
        load.aim([(way, url)])
        load.begin(threads=2, rate=RATE)
    yield Callers(loads, ledger, [])
    for load in loads.values():
        load.end()


def test_publish_promote_and_rollback_lose_no_request_of_plain_clients(
    site: tuple[EmbeddedTriton, Operator], callers: Callers, prepared: Prepared
) -> None:
    server, operator = site
    callers.wait_for(SHIPPED_RELEASE)
    good = []
    for draft in prepared.drafts:
        published = operator.publish(draft.folder)
        assert bool(published.error) == draft.kind.is_broken, (draft.kind, published.error)
        if draft.answers is None:
            continue
        good.append(published.release)
        callers.ledger.enter(published.release, draft.answers)
        assert operator.promote().release == published.release
        callers.wait_for(published.release)
        assert operator.rollback().release == SHIPPED_RELEASE
        callers.wait_for(SHIPPED_RELEASE)
    for load in callers.loads.values():
        callers.requests += [Request.of(row) for row in load.end()]
    assert errors(callers.requests) == {}
    assert strangers(callers.requests, callers.ledger) == []
    assert {int(release) for release in releases(callers.requests)} == {SHIPPED_RELEASE, *good}
    assert deaths(server) == []
