"""The commands of `wetread release` over a real state folder; agents are stand-ins that only say what they would do."""

import json
import os
import re
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
from draft_cases import PIPELINE, write_draft
from rollout_stand_in import StandInAgent
from tiny_release import PIPELINE as TINY
from tiny_release import TinySite
from typer.testing import CliRunner
from wetread_client.rollout import Gate, open_store
from wetread_release import device, promotion, publishing
from wetread_release.cli import app
from wetread_release.draft import Draft, content_digest
from wetread_release.errors import RegistryAway
from wetread_release.registries import open_registry, verified

TARGET, DEVICE = "cpu", "cpu-test"
APPROVED = ("--approved-by", "grace", "--reason", "better")


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")


class Desk:
    """Calls commands on one state folder."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.store = open_store(str(state / "rollout"))
        self.registry = open_registry(str(state / "releases"))
        self.running = ExitStack()

    def call(self, command, *words, code=0, timeout="120"):
        options = ["--state-dir", str(self.state)]
        if command not in ("list", "keygen"):
            options += ["--timeout", timeout, "--by", "ada"]
        result = CliRunner().invoke(app, [command, *map(str, words), *options])
        assert result.exit_code == code, result.output
        return result

    def agent(self, name="server-1", pipeline=PIPELINE, **settings):
        store = open_store(str(self.state / "rollout"))
        return self.running.enter_context(StandInAgent(store, pipeline, name, target=TARGET, device=DEVICE, **settings))

    def rollout(self, pipeline=PIPELINE):
        return self.store.read(pipeline)


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path / "state")
    with made.running:
        yield made


def gated(folder: Path, *, passed=True, target=TARGET, at=1.0, failures=()) -> Path:
    """Write the record that the gate would leave in a draft."""
    summary = {"engine": "onnxruntime", "precision": "fp32", "device": DEVICE, "target": target, "passed": passed}
    summary |= {"figures": {"auc": 0.98, "flips": 0.0}, "failures": list(failures), "at": at}
    record = {"content": content_digest(folder, Draft.load(folder)), "summary": summary}
    (folder / "gate" / f"onnxruntime-{target}.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def draft(tmp_path):
    return gated(write_draft(tmp_path / "draft"))


def next_draft(tmp_path, number):
    return gated(write_draft(tmp_path / f"draft{number}", weights=f"weights {number}"))


class TestPublish:
    def test_signs_numbers_and_offers_a_draft(self, desk, draft):
        desk.agent()
        result = desk.call("publish", draft, "--reason", "first")
        assert result.stdout.strip() == "1"
        assert "1 of 1 agents done" in result.stderr
        manifest = verified(desk.registry, PIPELINE, 1, desk.state / "keys" / "trusted")
        assert (manifest.created_by, manifest.reason, manifest.forced) == ("ada", "first", "")
        rollout = desk.rollout()
        assert (rollout.candidate, rollout.candidate_gate, rollout.stable) == (1, Gate.PASSED, 0)
        assert rollout.candidate_percent == 0

    def test_says_without_an_agent_that_the_next_start_takes_it_up(self, desk, draft):
        assert "the next start of a server takes it up" in desk.call("publish", draft).stderr

    def test_refuses_what_has_not_been_through_the_gate(self, desk, tmp_path):
        folder = write_draft(tmp_path / "draft")
        told = desk.call("publish", folder, code=1).stderr
        assert told.startswith("wetread release publish: ")
        assert "has not been through the gate" in told
        assert "--force" in told
        assert "Traceback" not in told
        assert desk.registry.releases(PIPELINE) == ()
        assert desk.rollout() is None

    def test_refuses_what_failed_the_gate_and_says_why(self, desk, tmp_path):
        folder = gated(write_draft(tmp_path / "draft"), passed=False, failures=["3 films flipped"])
        assert "did not pass the gate on cpu-test: 3 films flipped" in desk.call("publish", folder, code=1).stderr

    def test_needs_a_record_for_every_live_target(self, desk, draft):
        desk.agent()
        desk.running.enter_context(
            StandInAgent(open_store(str(desk.state / "rollout")), PIPELINE, "gpu", target="sm_90-trt11")
        )
        told = desk.call("publish", draft, code=1).stderr
        assert "no record of the gate for servers of target sm_90-trt11" in told

    def test_the_newest_record_of_a_target_counts(self, desk, draft):
        records = publishing.gate_records(draft, content_digest(draft, Draft.load(draft)))
        failed = gated(draft, passed=False, at=2.0, failures=["slow"])
        later = publishing.gate_records(failed, content_digest(failed, Draft.load(failed)))
        assert "slow" in publishing.check_gate([*records, *later], [TARGET])
        assert publishing.check_gate(records, [TARGET]) == ""

    def test_forced_keeps_the_reason(self, desk, tmp_path):
        desk.call("publish", write_draft(tmp_path / "draft"), "--force", "the old one is dangerous")
        assert desk.rollout().candidate_gate is Gate.FORCED
        assert desk.registry.manifest(PIPELINE, 1)[0].forced == "the old one is dangerous"

    def test_a_changed_draft_needs_the_gate_again(self, desk, draft):
        (draft / "parts" / "classifier" / "data.json").write_text("other weights")
        assert "changed after its gate" in desk.call("publish", draft, code=1).stderr

    def test_what_is_no_draft_is_told_so(self, desk, tmp_path):
        assert "is no draft" in desk.call("publish", tmp_path, code=1).stderr

    @pytest.mark.slow
    def test_what_a_server_cannot_serve_is_withdrawn_and_its_number_stays_taken(self, desk, draft, tmp_path):
        desk.agent()
        desk.agent("server-2", broken={1: "golden film 3 differs"})
        told = desk.call("publish", draft, code=1).stderr
        assert "release 1 of probe could not be served: server-2: golden film 3 differs. It is withdrawn" in told
        rollout = desk.rollout()
        assert (rollout.candidate, rollout.act, rollout.highest) == (None, "withdraw", 1)
        assert "golden film 3 differs" in rollout.reason
        assert desk.call("publish", next_draft(tmp_path, 2)).stdout.strip() == "2"

    @pytest.mark.slow
    def test_a_server_that_only_fell_back_on_its_stable_release_does_not_hinder_the_next(self, desk, draft, tmp_path):
        agent = desk.agent()
        desk.call("publish", draft)
        desk.call("promote", PIPELINE, *APPROVED)
        agent.broken[1] = "its files are gone"
        assert desk.call("publish", next_draft(tmp_path, 2)).stdout.strip() == "2"

    def test_that_takes_too_long_stays_candidate(self, desk, draft):
        desk.agent(silent=True)
        told = desk.call("publish", draft, code=1, timeout="0.2").stderr
        assert "The same command waits on" in told
        assert desk.rollout().candidate == 1


class TestABrokenOffPublish:
    def test_takes_up_its_release_under_the_same_number(self, desk, draft, monkeypatch):
        def killed(*args):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(publishing.steps, "offer", killed)
            result = CliRunner().invoke(app, ["publish", str(draft), "--state-dir", str(desk.state)])
        assert result.exit_code != 0
        assert desk.registry.releases(PIPELINE) == (1,)
        assert desk.rollout() is None
        assert desk.call("publish", draft).stdout.strip() == "1"
        assert desk.registry.releases(PIPELINE) == (1,)

    def test_leaves_no_files_behind_for_long(self, desk, draft, tmp_path):
        left = desk.state / "scratch" / "wetread-release-1-abc"
        left.mkdir(parents=True)
        (left / "model.onnx").write_text("of a publish that was killed")
        desk.call("publish", draft)
        assert left.exists()  # it may be at work
        os.utime(left, (1.0, 1.0))
        desk.call("publish", next_draft(tmp_path, 2))
        assert list(left.parent.iterdir()) == []

    def test_does_not_take_up_what_was_forced_for_what_has_passed(self, desk, tmp_path, monkeypatch):
        folder = write_draft(tmp_path / "draft")
        desk.call("publish", folder, "--force", "hurry")
        for revision in (desk.state / "rollout" / PIPELINE).glob("*.json"):
            revision.unlink()  # as if it had been killed before the offer
        assert desk.call("publish", gated(folder)).stdout.strip() == "2"

    def test_waits_on_for_a_candidate_that_is_there(self, desk, draft):
        desk.call("publish", draft)
        revision = desk.rollout().revision
        desk.agent()
        assert desk.call("publish", draft).stdout.strip() == "1"
        assert desk.rollout().revision == revision

    def test_does_not_take_up_what_was_changed_behind_its_signature(self, desk, draft, monkeypatch):
        desk.call("publish", draft)
        for revision in (desk.state / "rollout" / PIPELINE).glob("*.json"):
            revision.unlink()
        manifest = desk.state / "releases" / PIPELINE / "1" / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"ada"', '"eve"'))
        assert desk.call("publish", draft).stdout.strip() == "2"

    @pytest.mark.slow
    def test_goes_on_when_a_rollback_did_not_wait_for_it(self, desk, draft, tmp_path, monkeypatch):
        for number in (1, 2):
            desk.call("publish", next_draft(tmp_path, number))
            desk.call("promote", PIPELINE, *APPROVED)
        put = publishing._put

        def put_late(*args):
            made = put(*args)
            desk.call("rollback", PIPELINE)  # takes no lock: it must not wait for a copy
            return made

        monkeypatch.setattr(publishing, "_put", put_late)
        assert desk.call("publish", next_draft(tmp_path, 3)).stdout.strip() == "3"
        rollout = desk.rollout()
        assert (rollout.stable, rollout.candidate, rollout.previous) == (1, 3, 2)


class TestTheFirstPublishOfAShippedPipeline:
    @pytest.fixture
    def site(self, tmp_path, monkeypatch):
        site = TinySite(tmp_path / "site")
        monkeypatch.chdir(site.root)
        return site

    def test_makes_what_the_checkout_ships_release_1_and_stable(self, site):
        desk = Desk(site.state)
        draft = site.draft(2.0)
        assert desk.call("publish", draft, "--force", "a test").stdout.strip() == "2"
        shipped = verified(desk.registry, TINY, 1, desk.state / "keys" / "trusted")
        assert {(part.model, part.version) for part in shipped.parts} == {
            (f"{TINY}_{role}", 1) for role in ("preprocess", "classifier", "postprocess")
        }
        second = desk.registry.manifest(TINY, 2)[0]
        assert {part.role: part.version for part in second.parts} == {
            "preprocess": 1,
            "classifier": 2,
            "postprocess": 1,
        }
        history = desk.store.history(TINY)
        assert [each.act for each in history] == ["adopt", "publish"]
        assert (history[-1].stable, history[-1].shadow) == (1, True)

    @pytest.mark.slow
    def test_killed_between_its_two_steps_goes_on(self, site):
        desk = Desk(site.state)
        desk.call("publish", site.draft(2.0), "--force", "a test")
        shutil.rmtree(site.state / "rollout")
        shutil.rmtree(site.state / "releases" / TINY / "2")
        assert desk.call("publish", site.draft(3.0), "--force", "a test").stdout.strip() == "2"
        assert desk.rollout(TINY).stable == 1

    @pytest.mark.slow
    def test_is_refused_where_another_release_1_is_published(self, site, tmp_path):
        desk = Desk(site.state)
        desk.call("publish", site.draft(2.0), "--force", "a test")
        shutil.rmtree(site.state / "rollout")
        recipe = site.root / "model_repository" / f"{TINY}_preprocess" / "1" / "recipe.json"
        recipe.write_text(recipe.read_text() + " ")
        assert "is not the one that" in desk.call("publish", site.draft(3.0), "--force", "a test", code=1).stderr


class TestPromoteAndRollBack:
    @pytest.mark.slow
    def test_there_and_back(self, desk, draft, tmp_path):
        desk.agent()
        desk.call("publish", draft)
        told = desk.call("promote", PIPELINE, *APPROVED).stderr
        assert "release 1 is stable (promote by ada)" in told
        desk.call("publish", next_draft(tmp_path, 2))
        desk.call("promote", PIPELINE, "2", *APPROVED)
        assert "release 1 is stable (rollback by ada)" in desk.call("rollback", PIPELINE).stderr
        assert desk.rollout().stable == 1

    def test_promote_without_approval_exits_with_1_and_the_remedy(self, desk, draft):
        desk.call("publish", draft)
        assert "give --approved-by and --reason" in desk.call("promote", PIPELINE, code=1).stderr

    def test_withdraw(self, desk, draft):
        desk.call("publish", draft)
        desk.call("withdraw", PIPELINE)
        assert desk.rollout().candidate is None

    def test_a_wrong_call_exits_with_2(self, desk):
        desk.call("promote", code=2)

    def test_a_store_that_cannot_be_used_is_told(self, tmp_path, draft):
        (tmp_path / "file").write_text("")
        told = Desk(tmp_path / "file").call("rollback", PIPELINE, code=1).stderr
        assert "Traceback" not in told


class TestList:
    @pytest.mark.slow
    def test_shows_arms_parts_gate_who_when_why_and_the_servers(self, desk, draft, tmp_path):
        desk.agent()
        desk.call("publish", draft, "--reason", "the first")
        desk.call("promote", PIPELINE, *APPROVED)
        desk.call("publish", next_draft(tmp_path, 2), "--reason", "sharper")
        shown = desk.call("list").stdout
        for text in (
            "candidate",
            "stable",
            "classifier:2",
            "passed on cpu-test",
            "auc 0.98",
            "sharper",
            "server-1",
        ):
            assert text in shown, shown
        assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d", shown)

    def test_json_has_it_all(self, desk, draft):
        desk.agent()
        desk.call("publish", draft, "--reason", "the first")
        (view,) = json.loads(desk.call("list", PIPELINE, "--json").stdout)["pipelines"]
        (release,) = view["releases"]
        assert (release["release"], release["arms"], release["reason"]) == (1, ["candidate"], "the first")
        assert release["gate"][0]["figures"]["auc"] == 0.98
        assert release["key"] in {path.stem for path in (desk.state / "keys" / "trusted").iterdir()}
        assert view["agents"][0]["candidate"] == 1
        assert view["rollout"]["candidate"] == 1

    def test_says_what_no_server_would_take(self, desk, draft):
        desk.call("publish", draft)
        for key in (desk.state / "keys" / "trusted").iterdir():
            key.unlink()
        assert "NOT SERVED" in desk.call("list").stdout

    @pytest.mark.slow
    def test_makes_a_half_done_promotion_visible(self, desk, draft, tmp_path):
        desk.call("publish", draft)
        desk.call("promote", PIPELINE, *APPROVED)
        desk.agent()
        other = desk.agent("server-2")
        desk.call("publish", next_draft(tmp_path, 2))
        other.broken[2] = "out of memory"
        desk.call("promote", PIPELINE, *APPROVED, "--keep-going", code=1)
        shown = desk.call("list").stdout
        assert "half done: release 2 is wanted, but server-2 answers with release 1" in shown

    def test_of_a_fresh_checkout_shows_what_it_ships(self, tmp_path, monkeypatch):
        monkeypatch.chdir(TinySite(tmp_path / "site").root)
        (view,) = json.loads(Desk(tmp_path / "state").call("list", "--json").stdout)["pipelines"]
        assert (view["pipeline"], view["rollout"], view["releases"][0]["release"]) == (TINY, None, 1)

    def test_shows_arms_and_servers_while_the_registry_is_away(self, desk, draft, monkeypatch):
        desk.agent()
        desk.call("publish", draft)

        def away(*args):
            raise RegistryAway("the registry is away")

        for method in ("pipelines", "releases", "manifest"):
            monkeypatch.setattr(type(desk.registry), method, away)
        shown = desk.call("list", PIPELINE).stdout
        for text in ("candidate", "server-1", "the registry is away"):
            assert text in shown

    def test_of_an_unknown_pipeline_fails(self, desk):
        assert "there is no pipeline nowhere here" in desk.call("list", "nowhere", code=1).stderr


class TestBuildHere:
    @pytest.fixture
    def published(self, tmp_path, monkeypatch):
        """A state folder with a stable release of a pipeline that the checkout ships."""
        site = TinySite(tmp_path / "site")
        monkeypatch.chdir(site.root)
        Desk(site.state).call("publish", site.draft(2.0), "--force", "a test")
        return site

    @pytest.mark.slow
    @pytest.mark.parametrize(("gpu", "tensorrt"), [(None, 11), (device.Gpu((9, 0)), 0)])
    def test_does_nothing_without_a_gpu_or_without_tensorrt(self, published, monkeypatch, gpu, tensorrt):
        monkeypatch.setattr(device, "find_gpu", lambda: gpu)
        monkeypatch.setattr(device, "tensorrt_version", lambda: tensorrt)
        before = sorted(published.folder.rglob("*"))
        words = ["build", "--here", "--pipeline", TINY, "--state-dir", str(published.state)]
        result = CliRunner().invoke(app, words)
        assert (result.exit_code, result.stdout) == (0, "")
        assert "this machine has no GPU with TensorRT" in result.stderr
        assert sorted(published.folder.rglob("*")) == before


class TestKeygen:
    def test_makes_a_key_once(self, desk):
        first = desk.call("keygen").stdout
        assert desk.call("keygen").stdout == first
        assert ((desk.state / "keys" / "signing.pem").stat().st_mode & 0o777) == 0o600

    def test_makes_a_key_of_the_standard_that_withstands_quantum_computers(self, desk, draft):
        pytest.importorskip("cryptography.hazmat.primitives.asymmetric.mldsa", reason="cryptography has no ML-DSA")
        desk.call("keygen", "--algorithm", "ml-dsa-65")
        desk.call("publish", draft)
        assert json.loads(desk.registry.manifest(PIPELINE, 1)[2])["algorithm"] == "ml-dsa-65"


def test_a_second_writer_is_told_to_wait(desk, draft, monkeypatch):
    monkeypatch.setattr(promotion, "WRITER_WAIT_S", 0.1)
    desk.call("publish", draft)
    with desk.store.writer(PIPELINE):
        told = desk.call("withdraw", PIPELINE, code=1).stderr
    assert "another command is changing" in told
    assert desk.rollout().candidate == 1
