"""Commands and servers are killed at random moments: something whole answers always, and the next command goes on.

WETREAD_SEED says at which moments; every kill takes some seconds. --log-cli-level INFO tells of each.
"""

import logging
import os
import time
from collections import Counter

import pytest
from release_site_under_load import Command, Load, Serving, Site
from tiers import tried
from tiny_release import PIPELINE
from waiting import wait_for
from wetread_client.rollout import AgentState

pytestmark = [pytest.mark.triton, pytest.mark.slow, pytest.mark.kills]

LOG = logging.getLogger(__name__)
KILLS = tried(3, 200)
SEED = int(os.environ.get("WETREAD_SEED", "0"))
TOLERANCE = 1e-5
APPROVED = ("--approved-by", "grace", "--reason", "a test of kills")
SERVER_SHARE = 0.25  # of the kills hit the serving process
LONGEST_S = {"publish": 3.0, "promote": 0.8, "rollback": 0.8}
"""About what a command takes, with its wait for the agent."""
WRITING_S = 0.1
"""The part of it in which files are written; half of the kills fall there."""


@pytest.mark.timeout(300 + 40 * KILLS)
def test_a_kill_at_any_moment_leaves_a_state_that_serves_and_from_which_the_next_command_goes_on(tmp_path):
    site = Site(tmp_path, SEED)
    serving = Serving(site.tiny)
    kills: Counter[str] = Counter()
    with Load(serving.port, site.tiny.film) as load:
        before = time.monotonic()
        serving.restart_after(before)
        try:
            for _ in range(KILLS):
                killed = _kill_once(site, serving, load)
                _check_state(site, serving, load)
                kills[killed] += 1
                LOG.info("%d: %s", kills.total(), killed)
            killed_at = serving.kill(triton_alone=True)  # takes less than a stop in order, and leaves as little
        finally:
            serving.stop()
    serving.outages.append((killed_at, float("inf")))
    LOG.info("%d kills: %s; %d requests", kills.total(), dict(kills), len(load.answers))
    _check_answers(site, serving, load)


def _kill_once(site: Site, serving: Serving, load: Load) -> str:
    """Kill a command or the server under it, then let the same command finish; return what was killed."""
    words = _next_words(site)
    command = Command(site.tiny, *words)
    writing = site.random.random() < 0.5
    delay = site.random.uniform(0, WRITING_S if writing else LONGEST_S[words[0]])
    time.sleep(max(0.0, command.began + delay - time.monotonic()))
    if site.random.random() < SERVER_SHARE:
        triton_alone = site.random.random() < 0.3
        killed_at = serving.kill(triton_alone=triton_alone)
        serving.restart_after(killed_at)
        code, told = (
            command.end()
        )  # it waits for the server to come back, unless its agent could still say that it died
        if code != 0:
            assert "Connection refused" in told or "Undone" in told or "withdrawn" in told, told
            _go_on(site, words)
        return f"{'tritonserver' if triton_alone else 'server'} in {words[0]}"
    command.kill()
    _check_answers_now(site, load)
    _go_on(site, words)
    return str(words[0])


def _go_on(site: Site, words: tuple[object, ...]) -> None:
    """Call the same command again: it needs nothing else."""
    code, told = Command(site.tiny, *words).end()
    assert code == 0, f"{words} did not go on: {told}"


def _next_words(site: Site) -> tuple[object, ...]:
    """Choose what may come next; drafts differ, so that a publish is never one of a release that is there."""
    rollout = site.rollout()
    choices = ["publish"]
    if rollout is not None and rollout.candidate:
        choices += ["promote"] * 3
    if rollout is not None and rollout.previous and rollout.act != "rollback":
        choices += ["rollback"]
    act = site.random.choice(choices)
    if act == "publish":
        return act, site.draft(), "--force", "a test"
    return (act, PIPELINE, *APPROVED)


def _check_answers_now(site: Site, load: Load) -> None:
    answer = load.once()
    assert not answer.error
    assert answer.probability == pytest.approx(site.expected(answer.release), abs=TOLERANCE)


def _check_state(site: Site, serving: Serving, load: Load) -> None:
    """What is wanted is served by itself, whole, and nothing else is."""

    def settled() -> bool:
        rollout = site.rollout()
        reports = site.store.reports(PIPELINE)
        # What an agent said that was killed since says nothing of its successor.
        told = [(report.revision, report.state) for report in reports if report.at > serving.started_at]
        return told == [(rollout.revision, AgentState.SETTLED)]

    assert wait_for(settled, 240.0), site.store.reports(PIPELINE)
    rollout = site.rollout()
    answer = load.once()
    assert (answer.error, answer.release) == ("", rollout.stable)
    assert answer.probability == pytest.approx(site.expected(rollout.stable), abs=TOLERANCE)
    if rollout.candidate:
        candidate = load.once(f"{PIPELINE}_candidate")
        assert (candidate.error, candidate.release) == ("", rollout.candidate)
        assert candidate.probability == pytest.approx(site.expected(rollout.candidate), abs=TOLERANCE)


def _check_answers(site: Site, serving: Serving, load: Load) -> None:
    """No request failed while the server lived, and every answer is that of the release that it names."""
    failed = [
        answer
        for answer in load.answers
        if answer.error and not any(answer.came > begin and answer.asked < end for begin, end in serving.outages)
    ]
    assert failed == []
    answered = [answer for answer in load.answers if not answer.error]
    assert len(answered) > KILLS
    mixed = [each for each in answered if abs(each.probability - site.expected(each.release)) > TOLERANCE]
    assert mixed == []
