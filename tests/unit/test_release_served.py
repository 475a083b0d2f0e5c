"""The served copy and what an agent begins with, without a server."""

from __future__ import annotations

import shutil
import threading

import pytest
from tiny_release import PIPELINE, TinySite
from wetread_client.rollout import Actor, StoreAway, steps
from wetread_client.rollout.open import open_store
from wetread_release.agent.agent import Agent, AgentSettings
from wetread_release.agent.canary import Canary
from wetread_release.agent.memory import MIB, available_bytes, check_memory
from wetread_release.agent.record import PipelineRecord, Record
from wetread_release.agent.served import ServedCopy, served_versions, write_text
from wetread_release.agent.source import Source
from wetread_release.agent.start import Start
from wetread_release.agent.swap import Swap
from wetread_release.assemble import assemble
from wetread_release.checkout import shipped_pipeline
from wetread_release.errors import ServeFailed
from wetread_release.registries import open_registry
from wetread_release.signing import ensure_key

ACTOR = Actor("tester", "a test", "approver")
CLASSIFIER = f"{PIPELINE}_classifier"


class Shelf:
    """A site with release 1 (logit 0) and 2 (logit 1) published, 2 stable, and an empty served copy."""

    def __init__(self, folder):
        self.tiny = TinySite(folder)
        self.keys = self.tiny.state / "keys"
        ensure_key(self.keys)
        self.registry = open_registry(str(self.tiny.state / "releases"))
        self.rollouts = open_store(str(self.tiny.state / "rollout"))
        shipped_pipeline(self.tiny.root, PIPELINE).lay_out(folder / "shipped")
        rollout = steps.adopt(steps.begin(PIPELINE), 1, ACTOR)
        self.rollouts.write(rollout)
        self.put(folder / "shipped", None, 1)
        self.put(self.tiny.draft(1.0), rollout, 2)
        offered = steps.offer(rollout, 2, "forced", ACTOR)
        self.rollouts.write(offered)
        self.rollouts.write(steps.promote(offered, ACTOR))
        store = folder / "served"
        self.served = ServedCopy(store / "model_repository", store / "ensembles")
        self.record = Record.load(store / "agent.json")
        self.source = Source(self.registry, self.keys / "trusted", store / "manifests", store)

    def put(self, draft, rollout, release):
        into = self.tiny.folder / f"release{release}"
        assemble(draft, self.registry, rollout, release, "a test", ACTOR, keys=self.keys, into=into)
        self.registry.put(PIPELINE, release, into)

    def start(self, rollouts=None) -> Start:
        return Start(self.tiny.root, self.served, self.source, rollouts or self.rollouts, self.record, "cpu")

    def classifier(self, release):
        manifest = self.source.manifest(PIPELINE, release)
        return next(part for part in manifest.parts if part.role == "classifier")


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path)


def test_a_server_begins_with_the_stable_release(shelf):
    start = shelf.start()
    start.prepare()
    assert shelf.served.release_of(PIPELINE) == 2
    assert shelf.served.pins()[CLASSIFIER] == {2}
    assert served_versions(shelf.served.config_text(CLASSIFIER)) == {2}
    assert start.begun[PIPELINE].problem == ""


def test_a_server_falls_back_to_the_release_that_loads_and_then_to_nothing(shelf):
    start = shelf.start()
    start.prepare()
    assert start.fall_back(f"{CLASSIFIER}: it is corrupt")
    assert shelf.served.release_of(PIPELINE) == 1
    assert "it is corrupt" in start.begun[PIPELINE].problem
    assert start.fall_back(f"{CLASSIFIER}: it is corrupt, too")
    assert shelf.served.ensemble_text(PIPELINE) is None
    assert not start.fall_back("another_model: it is corrupt")


def test_a_release_of_a_stranger_is_not_begun_with(shelf):
    shutil.rmtree(shelf.keys / "trusted")
    ensure_key(shelf.tiny.folder / "strange")
    shutil.copytree(shelf.tiny.folder / "strange" / "trusted", shelf.keys / "trusted")
    start = shelf.start()
    start.prepare()
    assert shelf.served.ensemble_text(PIPELINE) is None
    assert "key" in start.begun[PIPELINE].problem


def test_a_changed_file_of_the_served_copy_is_replaced_before_a_start(shelf):
    shelf.start().prepare()
    model = shelf.served.models / CLASSIFIER / "2" / "model.onnx"
    right = model.read_bytes()
    model.write_bytes(right[:-1])
    shelf.start().prepare()
    assert model.read_bytes() == right


def test_the_last_state_stays_while_the_rollout_store_is_away(shelf):
    class Away:
        def pipelines(self):
            raise StoreAway("gone")

    shelf.start().prepare()
    shelf.start(Away()).prepare()
    assert shelf.served.release_of(PIPELINE) == 2
    shutil.rmtree(shelf.served.ensembles)
    shelf.start(Away()).prepare()  # nothing is left: what the checkout ships
    assert shelf.served.release_of(PIPELINE) == 1


def test_a_version_folder_that_is_there_is_never_touched_while_the_server_runs(shelf):
    shelf.start().prepare()
    part = shelf.classifier(2)
    (shelf.served.models / CLASSIFIER / "2" / "model.onnx").write_bytes(b"changed")
    with pytest.raises(ServeFailed, match="was changed in the served copy"):
        shelf.served.install(part, shelf.tiny.folder / "release2" / "parts" / part.folder)


def test_a_part_that_is_not_the_manifests_gets_no_version_folder(shelf, tmp_path):
    shelf.start().prepare()
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "model.onnx").write_bytes(b"another")
    with pytest.raises(ServeFailed, match=r"model\.onnx of tiny_classifier version 1 was changed"):
        shelf.served.install(shelf.classifier(1), tmp_path / "wrong")
    assert [path.name for path in shelf.served.versions(CLASSIFIER)] == ["2"]
    assert not list((shelf.served.models / CLASSIFIER).glob(".*"))


def test_what_a_killed_writer_left_is_removed_and_nothing_else(shelf):
    shelf.start().prepare()
    before = sorted(shelf.served.models.rglob("*"))
    (shelf.served.models / CLASSIFIER / ".3.partial").mkdir()
    (shelf.served.models / CLASSIFIER / ".config.pbtxt.writing").write_text("name: ")
    shelf.served.tidy()
    assert sorted(shelf.served.models.rglob("*")) == before


def test_a_version_that_an_ensemble_pins_is_never_collected(shelf):
    shelf.start().prepare()
    part = shelf.classifier(1)
    shelf.served.install(part, shelf.tiny.folder / "release1" / "parts" / part.folder)
    assert shelf.served.collect({CLASSIFIER: []}) == [f"{CLASSIFIER}/1"]
    assert [path.name for path in shelf.served.versions(CLASSIFIER)] == ["2"]


def test_a_file_is_written_only_when_it_says_something_else(tmp_path):
    assert write_text(tmp_path / "a" / "config.pbtxt", "x")
    assert not write_text(tmp_path / "a" / "config.pbtxt", "x")
    assert write_text(tmp_path / "a" / "config.pbtxt", "y")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["config.pbtxt"]


def test_memory_is_asked_for_before_a_load(shelf):
    shelf.start().prepare()
    with pytest.raises(ServeFailed, match="and 100 MiB are free"):
        check_memory([shelf.classifier(2)], shelf.served.models, available=100 * MIB)
    check_memory([shelf.classifier(2)], shelf.served.models, available=1000 * MIB)
    assert available_bytes() > 0


def test_what_an_agent_remembers_survives_it_and_a_broken_file_is_begun_anew(tmp_path):
    record = Record.load(tmp_path / "agent.json")
    record.put("p", PipelineRecord((), "code").with_good(1).with_good(2).with_good(1))
    assert Record.load(tmp_path / "agent.json").of("p") == PipelineRecord((2, 1), "code")
    (tmp_path / "agent.json").write_text("{")
    assert Record.load(tmp_path / "agent.json").of("p") == PipelineRecord()


def test_every_served_version_has_a_canary_of_its_own():
    config = {
        "max_batch_size": 8,
        "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": ["2"]}],
        "version_policy": {"specific": {"versions": ["3", "7"]}},
    }
    canaries = Canary.of_versions("m", config)
    assert {version: canary.path for version, canary in canaries.items()} == {
        "3": "/v2/models/m/versions/3/infer",
        "7": "/v2/models/m/versions/7/infer",
    }
    assert list(Canary.of_versions("m", {**config, "version_policy": {"latest": {}}})) == [""]


class LoadsAllBut:
    """Stands in for the calls to a server: loads what it is told, but for one model; keeps what it loaded."""

    def __init__(self, served, broken):
        self.served, self.broken, self.loaded = served, broken, {}

    def load(self, model):
        text = self.served.config_text(model)
        if model == self.broken and served_versions(text) - {2}:
            raise ServeFailed(f"{model} does not load")
        self.loaded[model] = served_versions(text)

    def unload(self, model):
        self.loaded.pop(model, None)

    def is_ready(self, model, version):
        return version in self.loaded.get(model, ())


@pytest.mark.slow
def test_a_load_that_fails_leaves_every_configuration_as_it_was(shelf):
    shelf.start().prepare()
    other = shelf.tiny.draft(3.0)
    (other / "parts" / "preprocess" / "more").write_text("another version of the preprocessing, too")
    shelf.put(other, shelf.rollouts.read(PIPELINE), 3)
    manifest = shelf.source.manifest(PIPELINE, 3)
    shelf.source.install(manifest, "cpu", shelf.served)
    before = {model: shelf.served.config_text(model) for model in shelf.served.model_names()}
    control = LoadsAllBut(shelf.served, broken=CLASSIFIER)
    for model in before:
        control.load(model)
    swap = Swap(shelf.served, control, "cpu", lambda _: None)
    with pytest.raises(ServeFailed, match="does not load"):
        swap.load_beside(manifest)
    assert {model: shelf.served.config_text(model) for model in before} == before
    assert control.loaded == {model: served_versions(text) for model, text in before.items()}


def test_an_agent_outlives_a_fault_of_its_own_and_goes_on(shelf):
    class Faulty:
        """Stands in for what carries rollouts out: its first step is a bug, the next one works."""

        def __init__(self):
            self.calls = 0
            self.done = threading.Event()

        def pipelines_served(self):
            self.calls += 1
            if self.calls == 1:
                raise KeyError("a bug")
            self.done.set()
            return []

        def __getattr__(self, name):
            return lambda *_: 0

    carry_out = Faulty()
    settings = AgentSettings("a", "cpu", "cpu-test", "http://127.0.0.1:1", again_s=0.01)
    agent = Agent(settings, shelf.rollouts, carry_out, threading.Lock(), {})
    agent.start()
    assert carry_out.done.wait(120)
    agent.stop()
