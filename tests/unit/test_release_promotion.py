"""Promote, roll back, withdraw, with stand-in agents and rollouts kept in memory."""

import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from rollout_stand_in import MemoryRollouts, StandInAgent
from waiting import WAIT_S
from wetread_client.rollout import Actor, AgentState, Conflict, Gate, RolloutError, steps
from wetread_client.rollout.store import LIVE_S
from wetread_release.errors import Absent, ServeFailed
from wetread_release.follow import Follower, live, serves_candidate
from wetread_release.promotion import Patience, promote, rollback, take_back, withdraw
from wetread_release.release_site import Site

PIPELINE = "films"
ACTOR = Actor("ada", "better", "grace")


class Registry:
    """Only numbers are asked for here."""

    where = "the registry"

    def releases(self, pipeline):
        return (1, 2, 3)


@pytest.fixture
def store():
    """Release 1 is stable, release 2 its candidate that passed the gate, with a share."""
    rollouts = MemoryRollouts()
    adopted = steps.adopt(steps.begin(PIPELINE), 1, ACTOR)
    offered = steps.offer(adopted, 2, Gate.PASSED, ACTOR)
    for rollout in (adopted, offered, steps.share(offered, ACTOR, candidate_percent=10)):
        rollouts.write(rollout)
    return rollouts


@pytest.fixture
def site(store):
    return Site(Registry(), store, Path("no-keys"))


@pytest.fixture
def agents(store):
    """Starts agents that are ended with the test; waits until each serves what is wanted now."""
    with ExitStack() as running:

        def start(name="server-1", **settings):
            agent = running.enter_context(StandInAgent(store, PIPELINE, name, **settings))
            if not settings.get("silent"):
                outcome = Follower(store, store.read(PIPELINE), WAIT_S).wait()
                assert not outcome.waiting
            return agent

        yield start


def patience(timeout_s=WAIT_S):
    return Patience(timeout_s)


def stuck(agent, store):
    """Have a silent agent say that it serves what is wanted now; it will say so whatever comes."""
    now = store.read(PIPELINE)
    agent.say(revision=now.revision, state=AgentState.SETTLED, stable=now.stable, candidate=now.candidate)


class TestPromote:
    def test_makes_the_candidate_stable_on_every_server(self, site, store, agents):
        agents("server-1")
        agents("server-2")
        outcome = promote(site, PIPELINE, ACTOR, patience())
        assert {report.agent for report in outcome.settled} == {"server-1", "server-2"}
        assert all(report.stable == 2 for report in outcome.settled)
        rollout = store.read(PIPELINE)
        assert (rollout.stable, rollout.candidate, rollout.previous) == (2, None, 1)
        assert (rollout.act, rollout.by, rollout.approved_by, rollout.reason) == ("promote", "ada", "grace", "better")

    def test_says_without_an_agent_that_the_next_start_takes_it_up(self, site, store):
        outcome = promote(site, PIPELINE, ACTOR, patience())
        assert "next start" in outcome.summary
        assert store.read(PIPELINE).stable == 2

    def test_without_approval_asks_for_it_before_anything_happens(self, site, store):
        before = store.read(PIPELINE)
        with pytest.raises(RolloutError, match="--approved-by and --reason"):
            promote(site, PIPELINE, Actor("ada"), patience())
        assert store.read(PIPELINE) == before

    def test_is_refused_while_a_server_does_not_serve_the_candidate(self, site, store, agents):
        agents("server-1")
        agents("server-2", broken={2: "the plan does not load"})
        before = store.read(PIPELINE)
        with pytest.raises(ServeFailed, match="server-2: the plan does not load"):
            promote(site, PIPELINE, ACTOR, patience())
        assert store.read(PIPELINE) == before

    def test_is_refused_when_another_candidate_is_meant(self, site):
        with pytest.raises(RolloutError, match="the candidate of films is 2, not release 3"):
            promote(site, PIPELINE, ACTOR, patience(), release=3)

    def test_is_undone_everywhere_when_a_server_cannot(self, site, store, agents):
        agents("server-1")
        bad = agents("server-2")
        before = store.read(PIPELINE)
        bad.broken[2] = "out of memory"
        bad.last = replace(bad.last, candidate=2)  # it served it until now
        with pytest.raises(ServeFailed, match=r"server-2: out of memory\. Undone: release 1 is stable as before"):
            promote(site, PIPELINE, ACTOR, patience())
        after = store.read(PIPELINE)
        assert (after.stable, after.candidate, after.candidate_percent) == (1, 2, 10)
        assert (after.salt, after.previous) == (before.salt, before.previous)
        assert after.act == "undo"
        assert "out of memory" in after.reason

    def test_with_keep_going_stays_half_done(self, site, store, agents):
        agents("server-1")
        bad = agents("server-2")
        bad.broken[2] = "out of memory"
        with pytest.raises(ServeFailed, match="release 2 is stable on 1 of 2 servers: server-2: out of memory"):
            promote(site, PIPELINE, ACTOR, patience(), keep_going=True)
        assert store.read(PIPELINE).stable == 2

    @pytest.mark.slow
    def test_that_an_agent_never_answers_is_undone(self, site, store, agents):
        agents("server-1")
        stuck(agents("server-2", silent=True), store)
        with pytest.raises(ServeFailed, match=r"server-2: not done yet"):
            promote(site, PIPELINE, ACTOR, patience(0.3))
        assert (store.read(PIPELINE).stable, store.read(PIPELINE).act) == (1, "undo")

    def test_that_was_broken_off_is_finished_by_the_same_command(self, site, store, agents):
        store.write(steps.promote(store.read(PIPELINE), ACTOR))  # and there the command was killed
        agents()
        revision = store.read(PIPELINE).revision
        outcome = promote(site, PIPELINE, ACTOR, patience())
        assert outcome.settled[0].stable == 2
        assert store.read(PIPELINE).revision == revision

    def test_a_step_of_somebody_else_ends_the_wait(self, site, store, agents):
        stuck(agents(silent=True), store)
        result = []

        def command():
            try:
                promote(site, PIPELINE, ACTOR, patience())
            except ServeFailed as error:
                result.append(str(error))

        thread = threading.Thread(target=command)
        thread.start()
        stop = threading.Event()
        while store.read(PIPELINE).act != "promote" and thread.is_alive():
            store.changed(stop, 1.0)
        store.write(steps.rollback(store.read(PIPELINE), Actor("eve")))
        thread.join()
        assert "meanwhile eve took another step (rollback" in result[0]
        assert store.read(PIPELINE).by == "eve"


class TestRollback:
    def test_goes_back_to_the_release_before(self, site, store, agents):
        agents()
        promote(site, PIPELINE, ACTOR, patience())
        outcome = rollback(site, PIPELINE, Actor("ada"), patience())
        assert outcome.settled[0].stable == 1
        assert store.read(PIPELINE).previous == 2

    def test_a_second_one_does_not_return_to_the_bad_release(self, site, store, agents):
        agents()
        promote(site, PIPELINE, ACTOR, patience())
        rollback(site, PIPELINE, Actor("ada"), patience())
        store.write(steps.share(store.read(PIPELINE), ACTOR, light_model="other"))
        assert rollback(site, PIPELINE, Actor("ada"), patience()).rollout.stable == 1
        assert rollback(site, PIPELINE, Actor("ada"), patience(), to=2).rollout.stable == 2

    def test_to_a_release_that_was_never_published_is_refused(self, site, store):
        store.write(replace(store.read(PIPELINE), highest=9, revision=4))
        with pytest.raises(Absent, match=r"no release 7 of films \(it has: 1, 2, 3\)"):
            rollback(site, PIPELINE, ACTOR, patience(), to=7)

    def test_does_not_need_the_registry_for_what_servers_hold(self, store):
        class Away:
            def releases(self, pipeline):
                raise AssertionError

        store.write(steps.promote(store.read(PIPELINE), ACTOR))
        assert rollback(Site(Away(), store, Path()), PIPELINE, ACTOR, patience(), to=1).rollout.stable == 1

    def test_is_not_undone_but_told_when_a_server_cannot(self, site, store, agents):
        agent = agents()
        promote(site, PIPELINE, ACTOR, patience())
        agent.broken[1] = "its files are gone"
        with pytest.raises(ServeFailed, match="server-1: its files are gone"):
            rollback(site, PIPELINE, ACTOR, patience())
        assert store.read(PIPELINE).stable == 1


class TestWithdraw:
    def test_drops_the_candidate(self, site, store, agents):
        agents()
        outcome = withdraw(site, PIPELINE, ACTOR, patience())
        assert outcome.settled[0].candidate == 0
        assert store.read(PIPELINE).candidate is None

    def test_needs_a_pipeline_that_was_published(self, site):
        with pytest.raises(RolloutError, match=r"nothing of nowhere was ever published here \(with a rollout: films\)"):
            withdraw(site, "nowhere", ACTOR, patience())


class TestFollow:
    def test_an_agent_is_live_while_its_last_report_is_young(self, agents):
        report = agents().last
        assert live([report], report.at + LIVE_S - 1) == (report,)
        assert live([report], report.at + LIVE_S + 1) == ()
        assert live([report], report.at - LIVE_S - 1) == ()  # a clock that is too far off proves nothing

    def test_a_server_that_fell_back_is_not_done(self, store, agents):
        agent = agents()
        store.report(replace(agent.last, state=AgentState.FALLBACK, stable=1, message="release 2 is broken", agent="b"))
        outcome = Follower(store, store.read(PIPELINE), 0).wait()
        assert [report.agent for report in outcome.failed] == ["b"]

    def test_an_agent_that_says_settled_but_serves_something_else_has_failed(self, store, agents):
        agent = agents()
        store.report(replace(agent.last, candidate=0, agent="liar"))
        outcome = Follower(store, store.read(PIPELINE), 0).wait()
        assert "liar: settled: it serves 1 and none, not 1 and candidate 2" in outcome.reasons

    def test_an_agent_that_has_said_nothing_of_a_new_pipeline_yet_is_waited_for(self, store, agents):
        agent = agents()
        new = steps.offer(steps.begin("new"), 1, Gate.PASSED, ACTOR)
        store.write(new)
        outcome = Follower(store, new, 0, judge=serves_candidate).wait()
        assert [(each.agent, each.candidate) for each in outcome.waiting] == [("server-1", 0)]
        store.report(replace(agent.last, pipeline="new", revision=1, stable=0, candidate=1))
        outcome = Follower(store, new, 0, judge=serves_candidate).wait()
        assert [each.agent for each in outcome.settled] == ["server-1"]
        assert not outcome.waiting

    def test_an_agent_that_ends_meanwhile_is_not_waited_for(self, store):
        agent = StandInAgent(store, PIPELINE, silent=True)
        looks = []

        def leave(outcome):
            looks.append(outcome)
            store.forget(agent.last)

        with agent:
            outcome = Follower(store, store.read(PIPELINE), 10, leave).wait()
        assert len(looks) >= 2
        assert (outcome.waiting, outcome.silent) in {((), ("server-1",)), (outcome.waiting, ())}


def test_what_failed_is_taken_back_only_while_it_is_the_last_step(store):
    failed = store.read(PIPELINE)
    later = steps.abort(failed, Actor("eve"))
    store.write(later)
    assert take_back(store, steps.withdraw(failed, ACTOR)) is None
    assert store.read(PIPELINE) == later


def test_an_undone_step_gives_no_number_twice(store):
    before = store.read(PIPELINE)
    undone = steps.undo(replace(before, revision=9, highest=5), before, ACTOR)
    assert (undone.revision, undone.highest) == (10, 5)
    with pytest.raises(RolloutError, match="does not come before"):
        steps.undo(before, before, ACTOR)


def test_a_promotion_of_what_changed_meanwhile_is_refused(site, store):
    class Late(Patience):
        pass

    def interfere(outcome):
        if store.read(PIPELINE).by != "eve":
            store.write(steps.share(store.read(PIPELINE), Actor("eve", "less", "eve"), candidate_percent=5))

    with pytest.raises(Conflict, match="eve took another step meanwhile"):
        promote(site, PIPELINE, ACTOR, Late(WAIT_S, interfere))
