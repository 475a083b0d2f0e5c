"""`wetread rollout`, called in process."""

import json
import re
import subprocess
import sys
import threading
import time

import pytest
from wetread_client.cli import main
from wetread_client.rollout import Actor, AgentReport, AgentState, Arm, Gate, assign, open_store, steps
from wetread_client.rollout.command import IMAGE_STATE, find_state

PIPELINE = "probe"
APPROVED = ("--approved-by", "the chief", "--reason", "the trial")
ACTOR = Actor("tester", "to see", "the chief")


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def store(state):
    """A pipeline with release 1 stable and release 2 as candidate."""
    made = open_store(str(state / "rollout"))
    rollout = steps.adopt(steps.begin(PIPELINE), 1, ACTOR)
    made.write(rollout)
    made.write(steps.offer(rollout, 2, Gate.PASSED, ACTOR))
    return made


@pytest.fixture
def call(state, capsys):
    """Call a command; give its exit code, stdout and stderr."""

    def run(*words):
        with pytest.raises(SystemExit) as ended:
            main(["rollout", *words, "--state-dir", str(state)])
        output = capsys.readouterr()
        return ended.value.code, output.out, output.err

    return run


def report(store, agent="ward-7", candidate=2, age_s=0.0):
    made = AgentReport(
        agent, PIPELINE, 2, AgentState.SETTLED, 1, candidate, "cpu", "cpu-avx2", "", at=time.time() - age_s
    )
    store.report(made)


class TestSet:
    def test_a_share_is_set_and_shown(self, store, call):
        code, out, err = call("set", PIPELINE, "--candidate", "30", *APPROVED)
        assert (code, err) == (0, "")
        assert "release 1, reads 70 %" in out
        assert "release 2, reads 30 % by patient; answers everything in the shadow too (passed the gate)" in out
        rollout = store.read(PIPELINE)
        assert (rollout.candidate_percent, rollout.approved_by, rollout.reason) == (30, "the chief", "the trial")
        assert re.fullmatch(r".+@.+", rollout.by)

    def test_everything_else_is_set_too(self, store, call):
        assert (
            call("set", PIPELINE, "--shadow", "off", "--key", "study", "--light-model", "probe_light", "--by", "Ann")[0]
            == 0
        )
        rollout = store.read(PIPELINE)
        assert (rollout.shadow, rollout.key, rollout.light_model, rollout.by) == (False, "study", "probe_light", "Ann")
        assert call("set", PIPELINE, "--shadow", "on", "--light-model", "off")[0] == 0
        assert (store.read(PIPELINE).shadow, store.read(PIPELINE).light_model) == (True, "")

    def test_a_share_needs_an_approval(self, store, call):
        code, out, err = call("set", PIPELINE, "--candidate", "30")
        assert (code, out) == (1, "")
        assert err.startswith("wetread rollout set: ")
        assert "--approved-by and --reason" in err
        assert store.read(PIPELINE).candidate_percent == 0

    @pytest.mark.parametrize(
        "words",
        [
            (),
            ("--candidate", "101"),
            ("--candidate", "-1"),
            ("--key", "age"),
            ("--shadow", "maybe"),
            ("--light-model", PIPELINE),
        ],
    )
    def test_a_wrong_call_is_told_and_changes_nothing(self, store, call, words):
        assert call("set", PIPELINE, *words)[0] == 2
        assert store.read(PIPELINE).revision == 2

    def test_a_share_waits_for_every_running_server(self, store, call):
        report(store, "ward-7", candidate=2)
        report(store, "ward-8", candidate=0)
        report(store, "ended long ago", candidate=0, age_s=600)
        code, _, err = call("set", PIPELINE, "--candidate", "30", *APPROVED)
        assert code == 1
        assert "release 2 is not served by ward-8:" in err
        assert store.read(PIPELINE).revision == 2
        report(store, "ward-8", candidate=2)
        assert call("set", PIPELINE, "--candidate", "30", *APPROVED)[0] == 0

    def test_less_of_a_share_waits_for_nobody(self, store, call):
        assert call("set", PIPELINE, "--candidate", "30", *APPROVED)[0] == 0
        report(store, candidate=0)
        assert call("set", PIPELINE, "--candidate", "10")[0] == 0

    def test_another_command_is_waited_for_and_named(self, store, call, monkeypatch):
        monkeypatch.setattr("wetread_client.rollout.command.WRITER_WAIT_S", 0.1)
        with store.writer(PIPELINE):
            code, _, err = call("set", PIPELINE, "--shadow", "off")
        assert code == 1
        assert "another command is changing probe" in err

    @pytest.mark.slow
    def test_it_is_in_force_in_another_process(self, store, state, call):
        """A reader that follows the rollout decides by 30 %; how soon, the stores' tests tell."""
        reader = subprocess.Popen([sys.executable, "-c", _READER, str(state / "rollout")], stdout=subprocess.PIPE)
        with reader:
            assert reader.stdout.readline() == b"0\n"
            assert call("set", PIPELINE, "--candidate", "30", *APPROVED)[0] == 0
            share = int(reader.stdout.readline())
            reader.kill()
        keys = [f"PAT-{number}" for number in range(1000)]
        assert share == sum(assign(store.read(PIPELINE), key) is Arm.CANDIDATE for key in keys) > 250


class TestAbort:
    def test_all_goes_to_the_stable_release(self, store, call):
        call("set", PIPELINE, "--candidate", "30", *APPROVED)
        code, out, _ = call("abort", PIPELINE, "--reason", "flips")
        rollout = store.read(PIPELINE)
        assert code == 0
        assert (rollout.candidate_percent, rollout.shadow, rollout.candidate, rollout.reason) == (0, False, 2, "flips")
        assert "release 1, reads 100 %" in out

    def test_it_waits_for_no_other_command(self, store, call):
        with store.writer(PIPELINE):
            assert call("abort", PIPELINE)[0] == 0

    def test_it_comes_through_between_the_steps_of_others(self, store, call):
        stop = threading.Event()

        def others():
            while not stop.is_set():
                rollout = store.read(PIPELINE)
                if rollout.act == "abort":
                    return
                try:
                    store.write(steps.share(rollout, ACTOR, candidate_percent=50))
                except Exception:  # noqa: BLE001 -- a conflict: the abort was quicker
                    continue

        thread = threading.Thread(target=others)
        thread.start()
        try:
            assert call("abort", PIPELINE)[0] == 0
        finally:
            stop.set()
            thread.join()
        assert "abort" in [each.act for each in store.history(PIPELINE)]


class TestShow:
    def test_a_table_of_what_is_in_force(self, store, call):
        report(store)
        code, out, _ = call("show")
        assert code == 0
        assert "probe  revision 2: publish by tester" in out
        assert "ward-7: settled, stable 1, candidate 2" in out

    def test_an_agent_that_ended_is_not_shown(self, store, call):
        report(store, age_s=600)
        assert "ward-7" not in call("show", PIPELINE)[1]

    def test_json_holds_the_document_and_its_agents(self, store, call):
        report(store)
        (shown,) = json.loads(call("show", PIPELINE, "--json")[1])["rollouts"]
        assert (shown["stable"], shown["candidate"], shown["key"]) == (1, 2, "patient")
        assert [(agent["agent"], agent["live"]) for agent in shown["agents"]] == [("ward-7", True)]

    def test_nothing_there_is_said(self, call):
        code, out, _ = call("show")
        assert code == 0
        assert "no rollout here" in out

    @pytest.mark.parametrize("words", [("show",), ("abort",), ("history",), ("set", "--shadow", "off")])
    def test_a_pipeline_that_is_not_there_is_named(self, store, call, words):
        code, _, err = call(words[0], "prbe", *words[1:])
        assert code == 1
        assert "prbe has no rollout here (there are: probe)" in err


class TestHistory:
    def test_every_step_is_a_row(self, store, call, monkeypatch):
        monkeypatch.setenv("COLUMNS", "200")
        call("abort", PIPELINE, "--reason", "flips")
        out = call("history", PIPELINE)[1]
        assert [word in out for word in ("adopt", "publish", "abort", "flips", "the chief")] == [True] * 5

    def test_json_is_oldest_first(self, store, call):
        taken = json.loads(call("history", PIPELINE, "--json")[1])["history"]
        assert [step["act"] for step in taken] == ["adopt", "publish"]


class TestStores:
    def test_a_store_that_is_away_is_told(self, call):
        code, _, err = call("show", "--rollouts", "etcd://127.0.0.1:1/x")
        assert code == 1
        assert "what was in force stays in force" in err

    def test_an_address_that_is_none_is_told(self, call):
        code, _, err = call("show", "--rollouts", "gopher://x")
        assert code == 1
        assert "etcd://host:port/prefix" in err

    def test_a_damaged_document_is_told_without_a_traceback(self, store, state, call):
        (state / "rollout" / PIPELINE / "3.json").write_text("{")
        code, _, err = call("show")
        assert code == 1
        assert "3.json" in err
        assert "Traceback" not in err

    def test_the_state_of_a_checkout_is_found(self, tmp_path):
        for name in ("model_repository", "ensembles", "deep/down"):
            (tmp_path / name).mkdir(parents=True)
        assert find_state(tmp_path / "deep" / "down") == tmp_path / "build" / "state"

    def test_images_have_a_state_of_their_own(self, tmp_path, monkeypatch):
        monkeypatch.setattr("wetread_client.rollout.command.__file__", str(tmp_path / "site-packages" / "command.py"))
        assert find_state(tmp_path) == IMAGE_STATE


_READER = f"""
import sys, threading
from wetread_client.rollout import Arm, assign, open_store
store, told = open_store(sys.argv[1]), None
while True:
    if store.changed(threading.Event(), 60):
        rollout = store.read({PIPELINE!r})
        count = sum(assign(rollout, f"PAT-{{number}}") is Arm.CANDIDATE for number in range(1000))
        if count != told:
            told = count
            print(count, flush=True)
"""
