import json
from dataclasses import asdict, replace

import pytest
from draft_cases import ACTOR, PIPELINE, write_draft
from wetread_client.rollout import Gate, steps
from wetread_release.assemble import assemble
from wetread_release.contents import check_folder, verified_folder
from wetread_release.draft import Draft, content_digest
from wetread_release.errors import Absent, BadDraft
from wetread_release.manifest import GateSummary, Golden, GoldenRecord
from wetread_release.registries import open_registry
from wetread_release.signing import ensure_key, trusted_folder

SUMMARY = GateSummary("onnxruntime", "fp32", "cpu-avx2", "cpu", passed=True, figures={"auc": 0.9}, at=1.0)


@pytest.fixture
def site(tmp_path):
    return Publisher(tmp_path)


class Publisher:
    """Publishes drafts one after another."""

    def __init__(self, folder):
        self.folder = folder
        self.registry = open_registry(str(folder / "registry"))
        self.keys = folder / "keys"
        self.number = 0
        ensure_key(self.keys)

    def draft(self, **changed):
        self.number += 1
        return write_draft(self.folder / f"draft-{self.number}", **changed)

    def assemble(self, draft, rollout=None, forced=""):
        into = self.folder / f"release-{self.number}"
        return assemble(draft, self.registry, rollout, self.number, forced, ACTOR, keys=self.keys, into=into)

    def publish(self, **changed):
        made = self.assemble(self.draft(**changed))
        self.registry.put(PIPELINE, self.number, made.folder)
        return made.manifest

    def classifier(self, **changed):
        """Publish, and give the classifier's model and version."""
        part = self.publish(**changed).pins("cpu")["classifier"]
        assert part.config.name == part.model
        assert part.config.versions == ()
        return part.model, part.version


class TestNames:
    def test_the_first_release_has_the_shared_names(self, site):
        pins = site.publish().pins("cpu")
        assert {role: (part.model, part.version) for role, part in pins.items()} == {
            role: (f"{PIPELINE}_{role}", 1) for role in ("preprocess", "classifier", "postprocess")
        }

    def test_other_weights_are_the_next_version(self, site):
        assert [site.classifier(weights=weights)[1] for weights in "abc"] == [1, 2, 3]

    def test_what_did_not_change_keeps_model_and_version(self, site):
        site.publish(weights="a")
        pins = site.publish(weights="b").pins("cpu")
        assert pins["preprocess"].version == pins["postprocess"].version == 1

    def test_weights_that_come_back_are_the_version_that_they_were(self, site):
        versions = [site.classifier(weights=weights)[1] for weights in "abacb"]
        assert versions == [1, 2, 1, 3, 2]

    def test_another_config_has_a_model_of_its_own(self, site):
        site.publish()
        assert site.classifier(max_batch_size=4) == ("probe_classifier_r2", 1)

    def test_the_same_weights_under_another_config_have_a_model_of_their_own(self, site):
        site.publish(weights="a")
        assert site.classifier(weights="a", parameters=(("engine", "openvino"),)) == ("probe_classifier_r2", 1)

    def test_after_a_model_of_its_own_the_shared_one_goes_on(self, site):
        site.publish(weights="a")
        site.publish(weights="b", max_batch_size=4)
        assert site.classifier(weights="c") == ("probe_classifier", 2)

    def test_a_part_of_a_model_of_its_own_is_found_again(self, site):
        site.publish(weights="a")
        first = site.classifier(weights="b", max_batch_size=4)
        site.publish(weights="c")
        assert site.classifier(weights="b", max_batch_size=4) == first == ("probe_classifier_r2", 1)

    def test_a_comment_or_a_version_policy_makes_no_other_config(self, site):
        site.publish(weights="a")
        assert site.classifier(weights="b", comment="by hand", versions=(9,)) == ("probe_classifier", 2)

    def test_parts_of_one_role_for_several_targets_have_models_of_their_own(self, site):
        site.publish(weights="a")
        draft = site.draft(weights="a")
        loaded = Draft.load(draft)
        more = []
        for target, batch in (("sm_90-trt11", 16), ("sm_120-trt11", 32)):
            files = draft / "parts" / target
            files.mkdir()
            (files / "model.plan").write_text(target)
            config = replace(loaded.part("classifier").config, max_batch_size=batch)
            more.append(replace(loaded.part("classifier"), config=config, folder=target, target=target))
        replace(loaded, parts=(*loaded.parts, *more)).save(draft)
        manifest = site.assemble(draft).manifest
        named = {target: manifest.pins(target)["classifier"].model for target in ("cpu", "sm_90-trt11", "sm_120-trt11")}
        assert named == {
            "cpu": "probe_classifier",
            "sm_90-trt11": "probe_classifier_r2",
            "sm_120-trt11": "probe_classifier_r2_sm_120_trt11",
        }

    def test_no_model_and_version_is_ever_given_to_two_contents(self, site):
        given = {}
        for weights, batch in (("a", 8), ("b", 8), ("a", 4), ("c", 4), ("b", 8), ("d", 8), ("a", 4)):
            for part in site.publish(weights=weights, max_batch_size=batch).parts:
                content = (part.files, part.config)
                assert given.setdefault((part.model, part.version), content) == content

    def test_all_versions_of_a_model_share_one_config(self, site):
        configs = {}
        for weights, batch in (("a", 8), ("b", 8), ("a", 4), ("c", 4), ("d", 8)):
            for part in site.publish(weights=weights, max_batch_size=batch).parts:
                assert configs.setdefault(part.model, part.config.digest) == part.config.digest


class TestManifest:
    def test_it_is_signed_and_names_every_file(self, site):
        made = site.assemble(site.draft())
        assert verified_folder(made.folder, trusted_folder(site.keys)) == made.manifest
        assert set(made.manifest.evidence) == {"build.json", "gate/report.html"}

    def test_it_says_who_why_and_from_what(self, site):
        site.publish()
        rollout = steps.adopt(steps.begin(PIPELINE), 1, ACTOR)
        manifest = site.assemble(site.draft(weights="b"), rollout, forced="the trial needs it").manifest
        assert (manifest.created_by, manifest.reason, manifest.forced) == (ACTOR.by, ACTOR.reason, "the trial needs it")
        assert (manifest.parent, manifest.release, manifest.pipeline) == (1, 2, PIPELINE)
        assert set(manifest.code) == {"wetread_preprocess", "wetread_postprocess"}

    def test_the_content_is_that_of_the_draft(self, site):
        draft = site.draft()
        assert site.assemble(draft).manifest.content == content_digest(draft, Draft.load(draft))

    def test_hidden_files_and_parts_that_nobody_names_stay_behind(self, site):
        draft = site.draft()
        (draft / ".notes").write_text("secret")
        (draft / "parts" / "classifier" / ".swap").write_text("secret")
        (draft / "parts" / "forgotten").mkdir()
        (draft / "parts" / "forgotten" / "model.onnx").write_text("old")
        made = site.assemble(draft)
        check_folder(made.folder, made.manifest)
        left = {"notes", "swap", "forgotten"}
        assert not [path for path in made.folder.rglob("*") if path.name.lstrip(".") in left]

    def test_a_part_that_lies_elsewhere_is_refused(self, site):
        draft = site.draft()
        loaded = Draft.load(draft)
        elsewhere = replace(loaded.parts[0], folder="../gate")
        replace(loaded, parts=(elsewhere, *loaded.parts[1:])).save(draft)
        with pytest.raises(BadDraft, match="no release may hold"):
            site.assemble(draft)

    def test_a_release_in_use_that_the_registry_lacks_stops_it(self, site):
        rollout = steps.offer(steps.adopt(steps.begin(PIPELINE), 1, ACTOR), 2, Gate.PASSED, ACTOR)
        with pytest.raises(Absent, match="release 1 of probe is in use"):
            site.assemble(site.draft(), rollout)

    def test_nothing_is_left_without_a_signing_key(self, site):
        site.keys = site.folder / "nowhere"
        with pytest.raises(Absent, match="signing key"):
            site.assemble(site.draft())
        assert not (site.folder / "release-1").exists()

    def test_nothing_that_is_there_is_overwritten(self, site):
        draft = site.draft()
        site.assemble(draft)
        with pytest.raises(BadDraft, match="there already"):
            site.assemble(draft)


class TestGate:
    def write(self, draft, name="onnxruntime-cpu-avx2.json"):
        content = content_digest(draft, Draft.load(draft))
        document = {"content": content, "summary": asdict(SUMMARY), "films": 12}
        (draft / "gate" / name).write_text(json.dumps(document))

    def test_its_records_stand_in_the_manifest(self, site):
        draft = site.draft()
        self.write(draft)
        manifest = site.assemble(draft).manifest
        assert manifest.gate == (SUMMARY,)
        assert manifest.gate_of("cpu") == SUMMARY
        assert "gate/onnxruntime-cpu-avx2.json" in manifest.evidence

    def test_a_draft_that_was_changed_after_its_gate_is_refused(self, site):
        draft = site.draft()
        self.write(draft)
        (draft / "parts" / "classifier" / "data.json").write_text("other weights")
        with pytest.raises(BadDraft, match="changed after its gate"):
            site.assemble(draft)

    @pytest.mark.parametrize("document", ["", "[]", "{}", '{"content": "x", "summary": {"engine": 3}}'])
    def test_what_is_no_record_is_named(self, site, document):
        draft = site.draft()
        (draft / "gate" / "odd.json").write_text(document)
        with pytest.raises(BadDraft, match=r"odd\.json"):
            site.assemble(draft)

    def test_golden_films_stand_in_the_manifest(self, site):
        golden = Golden((("a", 1),), "0" * 64, (GoldenRecord("onnxruntime", "cpu-avx2", ((0.5,),), ((True,),)),))
        draft = site.draft()
        (draft / "gate" / "golden.json").write_text(json.dumps(asdict(golden)))
        assert site.assemble(draft).manifest.golden == golden

    def test_without_a_gate_there_are_none(self, site):
        manifest = site.assemble(site.draft()).manifest
        assert manifest.gate == ()
        assert manifest.golden is None
