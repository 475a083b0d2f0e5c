"""The release agent on real servers: what is wanted is served, what is wrong is refused, nothing stops answering."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from killed_triton import KilledTriton, deaths
from tiny_release import PIPELINE, SIDE, TinySite, probability
from waiting import wait_for
from wetread_client import Client
from wetread_client.rollout import Actor, steps
from wetread_release.device import cpu_device
from wetread_release.errors import ServeFailed
from wetread_release.places import Places
from wetread_release.progress_line import patience
from wetread_release.promotion import promote, rollback
from wetread_release.publishing import publish
from wetread_release.release_site import Site

if TYPE_CHECKING:
    from wetread_embedded import EmbeddedTriton

pytestmark = pytest.mark.triton

ACTOR = Actor("tester", "a test", "approver")


@pytest.fixture
def tiny_site(tmp_path):
    return TinySite(tmp_path)


def open_site(tiny: TinySite) -> Site:
    return Site.open(Places(tiny.state), tiny.root)


def offer(tiny: TinySite, draft, force="a test", *, has_agent: bool = True):
    assert not has_agent or wait_for(open_site(tiny).rollouts.all_reports)  # only who has reported is waited for
    with patience(240.0) as wait:
        return publish(draft, open_site(tiny), ACTOR, wait, force=force)


def take(act, tiny: TinySite):
    with patience(240.0) as wait:
        return act(open_site(tiny), PIPELINE, ACTOR, wait)


def ask(server: EmbeddedTriton, tiny: TinySite, model: str = PIPELINE) -> tuple[int, float]:
    """The release that answers, and the probability of its finding."""
    with Client(server.http_url, model) as client:
        reading = client.read(tiny.film)
    return reading.release, reading.findings[0].probability


def about(release: int, logit: float):
    return release, pytest.approx(probability(logit), abs=1e-6)


def test_a_release_is_published_beside_promoted_and_rolled_back(tiny_site):
    with KilledTriton(tiny_site.config()) as server:
        assert ask(server, tiny_site) == about(1, 0.0)
        offer(tiny_site, tiny_site.draft(1.0))
        assert ask(server, tiny_site) == about(1, 0.0)
        assert ask(server, tiny_site, "tiny_candidate") == about(2, 1.0)
        take(promote, tiny_site)
        assert ask(server, tiny_site) == about(2, 1.0)
        take(rollback, tiny_site)
        assert ask(server, tiny_site) == about(1, 0.0)
        assert deaths(server) == []


@pytest.mark.full
def test_another_input_size_gets_a_model_of_its_own_and_a_rollback_crosses_back(tiny_site):
    with KilledTriton(tiny_site.config()) as server:
        offer(tiny_site, tiny_site.draft(2.0, side=2 * SIDE))
        take(promote, tiny_site)
        assert ask(server, tiny_site) == about(2, 2.0)
        models = {path.name for path in (tiny_site.folder / "served" / "model_repository").iterdir()}
        assert {"tiny_classifier", "tiny_classifier_r2", "tiny_preprocess_r2"} <= models
        take(rollback, tiny_site)
        assert ask(server, tiny_site) == about(1, 0.0)


def test_a_release_that_does_not_load_is_withdrawn_and_the_stable_one_answers_on(tiny_site):
    with KilledTriton(tiny_site.config()) as server:
        draft = tiny_site.draft(1.0)
        (draft / "parts" / "classifier" / "model.onnx").write_bytes(b"no model")
        with pytest.raises(ServeFailed, match=r"release 2 of tiny could not be served.*does not load"):
            offer(tiny_site, draft)
        assert ask(server, tiny_site) == about(1, 0.0)
        offer(tiny_site, tiny_site.draft(3.0))  # and the way is free
        assert ask(server, tiny_site, "tiny_candidate") == about(3, 3.0)


@pytest.mark.full
def test_a_release_whose_golden_films_differ_is_refused(tiny_site):
    with KilledTriton(tiny_site.config()) as server:
        draft = tiny_site.draft(1.0)
        tiny_site.record_golden(draft, [1.2] * 4, cpu_device())
        with pytest.raises(ServeFailed, match=r"golden film 1: finding \w+ has probability 0.7311, the gate"):
            offer(tiny_site, draft, force="")
        assert ask(server, tiny_site) == about(1, 0.0)
        right = tiny_site.draft(1.0, name="right")
        tiny_site.record_golden(right, [1.0] * 4, cpu_device())
        offer(tiny_site, right, force="")
        assert ask(server, tiny_site, "tiny_candidate") == about(3, 1.0)


@pytest.mark.full
def test_a_file_changed_after_it_was_signed_is_refused_at_load(tiny_site):
    with KilledTriton(tiny_site.config()) as server:
        site = open_site(tiny_site)
        offer(tiny_site, tiny_site.draft(1.0))
        take(promote, tiny_site)
        take(rollback, tiny_site)
        offer(tiny_site, tiny_site.draft(2.0))
        take(promote, tiny_site)
        changed = tiny_site.state / "releases" / PIPELINE / "2" / "parts" / "classifier" / "model.onnx"
        shutil.copyfile(tiny_site.draft(5.0) / "parts" / "classifier" / "model.onnx", changed)
        served = tiny_site.folder / "served" / "model_repository" / "tiny_classifier"
        assert wait_for(lambda: not (served / "2").exists())  # nobody needs it; going back to it means fetching it
        rollout = steps.rollback(site.rollouts.read(PIPELINE), ACTOR, to=2)
        site.rollouts.write(rollout)
        assert wait_for(lambda: any(r.failed_release == 2 for r in site.rollouts.reports(PIPELINE)))
        [report] = site.rollouts.reports(PIPELINE)
        assert "model.onnx" in report.message
        assert ask(server, tiny_site) == about(3, 2.0)


def test_a_server_starts_with_the_promoted_release_and_falls_back_when_that_is_broken(tiny_site):
    with KilledTriton(tiny_site.config()) as server:
        offer(tiny_site, tiny_site.draft(1.0))
        take(promote, tiny_site)
    with KilledTriton(tiny_site.config()) as server:
        assert ask(server, tiny_site) == about(2, 1.0)
    for place in (tiny_site.folder / "served" / "model_repository" / "tiny_classifier" / "2", tiny_site.state):
        for file in place.glob("**/model.onnx"):
            if "/1/" not in str(file):
                file.write_bytes(b"damaged")
    with KilledTriton(tiny_site.config()) as server:
        assert ask(server, tiny_site) == about(1, 0.0)
        site = open_site(tiny_site)
        assert wait_for(lambda: [r.state for r in site.rollouts.reports(PIPELINE)] == ["fallback"])
        [report] = site.rollouts.reports(PIPELINE)
        assert (report.stable, report.failed_release) == (1, 2)
        assert "model.onnx" in report.message


@pytest.mark.full
def test_a_promoted_release_that_does_not_load_any_more_falls_back_at_the_start(tiny_site):
    with KilledTriton(tiny_site.config()):
        offer(tiny_site, tiny_site.draft(1.0))
        take(promote, tiny_site)
    site = open_site(tiny_site)
    draft = tiny_site.draft(4.0)
    (draft / "parts" / "classifier" / "model.onnx").write_bytes(b"no model")
    offer(tiny_site, draft, has_agent=False)  # no server runs that could refuse it
    site.rollouts.write(steps.promote(site.rollouts.read(PIPELINE), ACTOR))
    with KilledTriton(tiny_site.config()) as server:
        assert ask(server, tiny_site) == about(2, 1.0)
        assert wait_for(lambda: [r.state for r in site.rollouts.reports(PIPELINE)] == ["fallback"])
        assert "does not" in site.rollouts.reports(PIPELINE)[0].message or "INVALID_PROTOBUF" in str(
            site.rollouts.reports(PIPELINE)[0].message
        )


@pytest.mark.full
def test_a_server_starts_while_the_registry_is_away(tiny_site):
    with KilledTriton(tiny_site.config()):
        offer(tiny_site, tiny_site.draft(1.0))
        take(promote, tiny_site)
    (tiny_site.state / "releases").rename(tiny_site.state / "elsewhere")
    with KilledTriton(tiny_site.config()) as server:
        assert ask(server, tiny_site) == about(2, 1.0)


@pytest.mark.full
def test_two_servers_with_copies_of_their_own_follow_one_rollout(tiny_site):
    with ExitStack() as stack:
        servers = [stack.enter_context(KilledTriton(tiny_site.config(name))) for name in ("one", "two")]
        outcome = offer(tiny_site, tiny_site.draft(1.0))
        assert len(outcome.settled) == 2
        assert len(take(promote, tiny_site).settled) == 2
        assert [ask(server, tiny_site) for server in servers] == [about(2, 1.0)] * 2


@pytest.mark.full
def test_a_promotion_that_one_server_cannot_follow_is_undone_on_all(tiny_site):
    with ExitStack() as stack:
        servers = [stack.enter_context(KilledTriton(tiny_site.config(name))) for name in ("one", "two")]
        offer(tiny_site, tiny_site.draft(1.0))
        config = tiny_site.folder / "two" / "ensembles" / "tiny"
        shutil.rmtree(config)
        config.write_text("nobody can write a folder's files here")
        with pytest.raises(Exception, match="Undone"):
            take(promote, tiny_site)
        assert ask(servers[0], tiny_site) == about(1, 0.0)
        assert ask(servers[1], tiny_site) == about(1, 0.0)


@pytest.mark.full
def test_a_hand_edit_of_the_served_copy_is_refused_and_mended_by_a_restart(tiny_site):
    config = tiny_site.folder / "served" / "model_repository" / "tiny_classifier" / "config.pbtxt"
    with KilledTriton(tiny_site.config()) as server:
        offer(tiny_site, tiny_site.draft(1.0))
        take(promote, tiny_site)
        config.write_text(config.read_text().replace("count: 1", "count: 2"))
        with pytest.raises(ServeFailed, match="edited by hand"):
            offer(tiny_site, tiny_site.draft(2.0))
        assert ask(server, tiny_site) == about(2, 1.0)
    with KilledTriton(tiny_site.config()) as server:
        assert "count: 1" in config.read_text()
        offer(tiny_site, tiny_site.draft(2.0))
        assert ask(server, tiny_site, "tiny_candidate") == about(4, 2.0)


@pytest.mark.full
def test_what_nobody_needs_is_removed_and_nothing_that_an_ensemble_pins(tiny_site):
    versions = tiny_site.folder / "served" / "model_repository" / "tiny_classifier"

    def numbers() -> set[str]:
        return {path.name for path in versions.iterdir() if path.is_dir()}

    with KilledTriton(tiny_site.config()) as server:
        for logit in (1.0, 2.0, 3.0):
            offer(tiny_site, tiny_site.draft(logit))
            take(promote, tiny_site)
        assert wait_for(lambda: numbers() == {"3", "4"})  # stable, and what a rollback goes back to
        assert ask(server, tiny_site) == about(4, 3.0)
        take(rollback, tiny_site)
        assert ask(server, tiny_site) == about(3, 2.0)


@pytest.mark.full
def test_a_report_tells_what_is_served(tiny_site):
    with KilledTriton(tiny_site.config()) as server:
        site = open_site(tiny_site)
        assert wait_for(lambda: site.rollouts.reports(PIPELINE))  # before anybody has published
        [report] = site.rollouts.reports(PIPELINE)
        assert (report.revision, report.stable, report.target, report.url) == (0, 1, "cpu", server.http_url)
        offer(tiny_site, tiny_site.draft(1.0))
        [report] = site.rollouts.reports(PIPELINE)
        assert (report.state, report.stable, report.candidate) == ("settled", 1, 2)
    assert site.rollouts.reports(PIPELINE) == ()
    assert json.loads((tiny_site.folder / "served" / "agent.json").read_text())[PIPELINE]["good"] == [1, 2]
