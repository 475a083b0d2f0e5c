"""Pipelines of series made of an engineer's own model, after one that ships; and slots that ship empty."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner, Result
from volume_release import SEGMENTER, Filling, VolumeSite
from wetread_embedded.slots import PLACEHOLDER, empty_slots, model_file
from wetread_models.volume_networks import UNTRAINED, level_segmenter, random_classifier
from wetread_release.checkout import shipped, shipped_pipeline, templates
from wetread_release.cli import app
from wetread_release.draft import Draft
from wetread_release.errors import Absent
from wetread_release.volume_pipeline import volume_wiring

CHECKOUT = Path(__file__).parents[2]
CODES = {"nodule": [{"scheme": "SCT", "value": "786838002", "meaning": "Lung nodule"}]}


def new(folder: Path, model: onnx.ModelProto, name: str, *words: str) -> Result:
    (folder / "mine.onnx").write_bytes(model.SerializeToString())
    return CliRunner().invoke(app, ["new", name, str(folder / "mine.onnx"), "--out", str(folder / "draft"), *words])


def made(folder: Path, model: onnx.ModelProto, name: str, *words: str) -> Draft:
    result = new(folder, model, name, *words)
    assert result.exit_code == 0, result.stderr
    return Draft.load(folder / "draft")


def document(folder: Path, role: str) -> dict:
    name = "recipe.json" if role == "preprocess" else "pipeline.json"
    return json.loads((folder / "draft" / "parts" / role / name).read_text())


def wires(draft: Draft, role: str) -> tuple[dict[str, str], dict[str, str]]:
    step = next(step for step in draft.wiring.steps if step.role == role)
    return dict(step.input_map), dict(step.output_map)


class TestNew:
    def test_a_segmenter_after_the_shipped_one_keeps_its_recipe_and_segments(self, tmp_path):
        draft = made(tmp_path, level_segmenter(names=("in", "out")), "brain_mr")
        assert wires(draft, "segmenter") == ({"in": "VOLUME"}, {"out": "LOGITS"})
        assert "MASK" in wires(draft, "postprocess")[0]
        assert draft.part("segmenter").config.outputs[0].dims == (3, -1, -1, -1)
        for role in ("preprocess", "postprocess"):
            name = "recipe.json" if role == "preprocess" else "pipeline.json"
            ships = json.loads((CHECKOUT / f"model_repository/brain_mr_{role}/1/{name}").read_text())
            same = ("steps", "orientation", "body_parts") if role == "preprocess" else ("segments", "task")
            assert [document(tmp_path, role)[key] for key in same] == [ships[key] for key in same]

    def test_a_model_with_a_mask_gets_it_and_postprocessing_does_not(self, tmp_path):
        draft = made(tmp_path, level_segmenter(mask=True), "brain_mr")
        assert wires(draft, "segmenter")[0] == {"VOLUME": "VOLUME", "MASK": "MASK"}
        assert set(wires(draft, "postprocess")[0]) == {"LOGITS", "GEOMETRY"}

    def test_a_classifier_states_its_own_findings(self, tmp_path):
        (tmp_path / "codes.json").write_text(json.dumps(CODES))
        words = ("--labels", "normal,nodule,effusion", "--background", "normal", "--threshold", "nodule=0.3")
        codes = ("--codes", str(tmp_path / "codes.json"))
        draft = made(tmp_path, random_classifier(3), "chest_ct", *words, *codes)
        rules = document(tmp_path, "postprocess")
        assert [(each["label"], each["column"], each["threshold"]) for each in rules["findings"]] == [
            ("nodule", 1, 0.3),
            ("effusion", 2, 0.5),
        ]
        assert rules["findings"][0]["codes"] == CODES["nodule"]
        assert rules["findings"][1]["codes"][0]["scheme"] == "99CHESTCT"
        assert draft.wiring.outputs[0].dims == (2,)
        assert draft.part("classifier").config.outputs[0].dims == (3,)

    def test_another_name_and_other_segments_after_a_shipped_one(self, tmp_path):
        labels = ("--labels", "background,left,right,heart", "--background", "background")
        where = ("--modality", "CT", "--body-part", "chest", "--statement", "Lungs and heart.")
        draft = made(tmp_path, level_segmenter((0, 1, 2, 3)), "lungs", "--like", "brain_mr", *labels, *where)
        rules, recipe = document(tmp_path, "postprocess"), document(tmp_path, "preprocess")
        assert draft.pipeline == rules["pipeline"] == "lungs"
        assert [(each["value"], each["label"]) for each in rules["segments"]] == [
            (1, "left"),
            (2, "right"),
            (3, "heart"),
        ]
        assert rules["intended_use"]["statement"] == "Lungs and heart."
        assert (recipe["modalities"], recipe["body_parts"]) == (["CT"], ["CHEST"])
        assert "CHEST" not in recipe["other_body_parts"]

    def test_the_way_on_is_publish_and_no_gate(self, tmp_path):
        result = new(tmp_path, level_segmenter(), "brain_mr")
        assert "wetread release publish" in result.stderr
        assert "gate " not in result.stderr.replace("no gate", "")

    def test_the_gate_judges_no_series_and_says_what_to_do(self, tmp_path):
        made(tmp_path, level_segmenter(), "brain_mr")
        result = CliRunner().invoke(app, ["gate", str(tmp_path / "draft"), "--state-dir", str(tmp_path / "state")])
        assert result.exit_code == 1
        assert "publish it with --force" in " ".join(result.stderr.split())

    @pytest.mark.parametrize(
        ("model", "words", "reason"),
        [
            (level_segmenter((0, 1)), ("brain_mr",), "has 2 channels and 3 are labelled"),
            (
                level_segmenter((0, 1, 2)),
                ("x", "--like", "brain_mr", "--labels", "a,b,c"),
                "channel 0 is the background",
            ),
            (random_classifier(2), ("chest_ct",), "--labels is missing"),
            (random_classifier(2), ("chest_ct", "--labels", "a,b,c"), "does not hold one score for each of 3"),
            (random_classifier(2), ("brain_mr",), "which output holds the scores [batch, classes, a, b, c]"),
            (level_segmenter(), ("Brain", "--like", "brain_mr"), "cannot name a pipeline"),
            (level_segmenter(), ("x", "--like", "chest_xray"), "reads films"),
        ],
    )
    def test_what_cannot_be_served_is_refused_with_the_remedy(self, tmp_path, model, words, reason):
        result = new(tmp_path, model, *words)
        assert result.exit_code == 1
        assert reason in " ".join(result.stderr.split())
        assert not (tmp_path / "draft").exists()

    @pytest.mark.parametrize(
        ("shape", "element", "reason"),
        [
            (["n", 1, 64, 64, 64], TensorProto.FLOAT, "has fixed sides"),
            (["n", 3, "a", "b", "c"], TensorProto.FLOAT, "is not [batch, 1, a, b, c]"),
            (["n", 1, "a", "b"], TensorProto.FLOAT, "is not [batch, 1, a, b, c]"),
            (["n", 1, "a", "b", "c"], TensorProto.FLOAT16, "32-bit floats"),
        ],
    )
    def test_an_input_that_no_series_fills_is_refused_with_the_remedy(self, tmp_path, shape, element, reason):
        graph = helper.make_graph(
            [helper.make_node("Identity", ["x"], ["y"])],
            "same",
            [helper.make_tensor_value_info("x", element, shape)],
            [helper.make_tensor_value_info("y", element, shape)],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        result = new(tmp_path, model, "brain_mr")
        assert result.exit_code == 1
        assert reason in " ".join(result.stderr.split())

    def test_a_model_that_mixes_its_batch_is_refused(self, tmp_path):
        model = level_segmenter(names=("in", "scores"), smooth=False)
        mean = helper.make_node("ReduceMean", ["scores", "first"], ["mean"], keepdims=1)
        model.graph.node.extend([mean, helper.make_node("Sub", ["scores", "mean"], ["out"])])
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0], np.int64), "first"))
        model.graph.output[0].name = "out"
        result = new(tmp_path, model, "brain_mr")
        assert "depends on the volumes beside it" in " ".join(result.stderr.split())

    def test_a_name_that_nobody_ships_is_a_wrong_call(self, tmp_path):
        result = new(tmp_path, level_segmenter(), "x", "--like", "nobodys")
        assert result.exit_code == 2
        assert "brain_mr" in result.stderr

    def test_a_film_still_needs_its_modality_and_labels(self, tmp_path):
        result = new(tmp_path, level_segmenter(), "mine")
        assert result.exit_code == 2
        assert "--modality and --labels" in " ".join(result.stderr.split())


class TestSlots:
    def test_what_ships_without_its_model_is_a_template_and_nothing_to_serve(self):
        assert {each.draft.pipeline for each in templates(CHECKOUT)} == {"brain_mr", "chest_ct", "chest_xray"}
        served = {each.draft.pipeline for each in shipped(CHECKOUT)}
        assert served == {"brain_mr", "chest_ct", "chest_xray"} - {slot.pipeline for slot in empty_slots(CHECKOUT)}

    def test_a_slot_is_empty_until_the_file_is_there(self, tmp_path):
        site = VolumeSite(tmp_path, [Filling("brain_mr", "brain_mr", SEGMENTER, None)])
        [slot] = empty_slots(site.root)
        assert slot.models == {"brain_mr_preprocess", "brain_mr_segmenter", "brain_mr_postprocess"}
        with pytest.raises(Absent, match="put the ONNX file at"):
            shipped_pipeline(site.root, "brain_mr")
        onnx.save(level_segmenter(), slot.file)
        assert empty_slots(site.root) == ()
        draft = shipped_pipeline(site.root, "brain_mr").lay_out(tmp_path / "draft")
        assert not (tmp_path / "draft" / "parts" / "segmenter" / PLACEHOLDER).exists()
        assert draft.pipeline == "brain_mr"

    def test_a_file_that_went_missing_is_no_slot(self, tmp_path):
        site = VolumeSite(tmp_path, [Filling("brain_mr", "brain_mr", SEGMENTER, level_segmenter())])
        (site.version("brain_mr", "segmenter") / "model.onnx").unlink()
        assert empty_slots(site.root) == ()

    @pytest.mark.parametrize(
        ("config", "name"),
        [
            ('backend: "onnxruntime"\n', "model.onnx"),
            ('platform: "tensorrt_plan"\n', "model.plan"),
            ('backend: "onnxruntime"\ndefault_model_filename: "other.onnx"\n', "other.onnx"),
            ('backend: "wetread_preprocess"\n', ""),
        ],
    )
    def test_the_file_that_a_version_holds_is_known_by_its_backend(self, config, name):
        assert model_file(config) == name


class TestNetworks:
    @pytest.mark.parametrize("model", [level_segmenter(), random_classifier(mask=True, features=True)])
    def test_all_are_labelled_untrained(self, model):
        assert {entry.key: entry.value for entry in model.metadata_props} == {UNTRAINED: "true"}

    def test_weights_are_those_of_the_seed(self):
        texts = [random_classifier(seed=seed).SerializeToString() for seed in (1, 1, 2)]
        assert texts[0] == texts[1] != texts[2]

    def test_what_the_mask_covers_counts_for_nothing(self):
        import onnxruntime  # noqa: PLC0415 - heavy

        random = np.random.default_rng(0)
        mask = np.zeros((1, 1, 16, 16, 16), np.uint8)
        mask[..., :8] = 1
        volumes = [random.random(mask.shape, np.float32) for _ in range(2)]
        volumes[1][..., :8] = volumes[0][..., :8]
        session = onnxruntime.InferenceSession(random_classifier(mask=True).SerializeToString())
        first, second = (session.run(["LOGITS"], {"VOLUME": volume, "MASK": mask})[0] for volume in volumes)
        np.testing.assert_array_equal(first, second)


def test_a_spec_with_features_has_novelty():
    spec = replace(SEGMENTER, features=SEGMENTER.logits)
    names = [tensor.name for tensor in volume_wiring(spec).outputs]
    assert names == ["SEGMENTATION", "NOVELTY", "CARD", "NOTES"]
