"""`wetread release new`: what the file tells, what it asks, what it refuses, and what it leaves."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from foreign_models import foreign_classifier
from onnx import TensorProto, helper
from typer.testing import CliRunner, Result
from wetread_client.card import PipelineCard
from wetread_models.film_rules import check_reading, film_input
from wetread_release.cli import app
from wetread_release.digest import file_digest
from wetread_release.draft import Draft
from wetread_release.new import documents
from wetread_release.new.hints import scores_hint, values_hint

WORDS = ["--modality", "DX,CR", "--labels", "normal,fracture,effusion"]
TOLD = [*WORDS, "--body-part", "KNEE", "--values", "imagenet"]


def new(folder: Path, model: onnx.ModelProto | bytes, *words: str, answers: str = "", name: str = "knee") -> Result:
    """Run the command on a model; it writes into `folder`/draft."""
    path = folder / "mine.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return CliRunner().invoke(
        app, ["new", name, str(path), "--out", str(folder / "draft"), *words], input=answers, catch_exceptions=False
    )


def document(folder: Path, role: str, name: str) -> dict:
    return json.loads((folder / "draft" / "parts" / role / name).read_text())


class TestADraft:
    def test_it_is_whole_and_serves_only_what_the_model_feeds(self, tmp_path):
        result = new(tmp_path, foreign_classifier(), *TOLD, "--background", "normal")
        assert result.exit_code == 0, result.stderr
        draft = Draft.load(tmp_path / "draft")
        assert [tensor.name for tensor in draft.wiring.outputs] == ["PROBABILITY", "POSITIVE", "CARD", "NOTES"]
        assert draft.wiring.outputs[0].dims == (2,)
        assert draft.part("classifier").config.inputs[0].dims == (3, 320, 320)
        assert draft.part("classifier").config.outputs[0].name == "scores"
        assert film_input(tmp_path / "draft" / "parts" / "preprocess").shape == (3, 320, 320)
        check_reading(tmp_path / "draft" / "parts" / "postprocess", 3, heatmap=False, novelty=False)
        assert result.stdout.strip() == str(tmp_path / "draft")
        assert sorted(each.name for each in tmp_path.iterdir()) == ["draft", "mine.onnx"]

    def test_findings_are_the_columns_that_are_no_background(self, tmp_path):
        codes = {"fracture": [{"scheme": "SCT", "value": "1", "meaning": "Break"}]}
        (tmp_path / "codes.json").write_text(json.dumps(codes))
        words = ("--background", "normal", "--codes", str(tmp_path / "codes.json"), "--threshold", "effusion=0.7")
        result = new(tmp_path, foreign_classifier(), *TOLD, *words)
        pipeline = document(tmp_path, "postprocess", "pipeline.json")
        assert pipeline["scores"] == "probabilities"  # the file ends in a softmax
        first, second = pipeline["findings"]
        assert (first["label"], first["column"], first["threshold"]) == ("fracture", 1, 0.5)
        assert (second["label"], second["column"], second["threshold"]) == ("effusion", 2, 0.7)
        assert first["codes"] == codes["fracture"]
        assert second["codes"] == [{"scheme": "99KNEE", "value": "EFFUSION", "meaning": "effusion"}]
        assert "no codes for effusion" in result.stderr

    def test_clients_can_read_its_card(self, tmp_path):
        new(tmp_path, foreign_classifier(), *TOLD, "--views", "AP", "--ages", "18-90")
        card = PipelineCard.parse((tmp_path / "draft" / "parts" / "postprocess" / "pipeline.json").read_bytes())
        assert card.pipeline == "knee"
        assert card.intended_use.age_years == (18, 90)
        assert card.intended_use.modalities == ("DX", "CR")

    def test_the_recipe_follows_from_the_file_and_the_options(self, tmp_path):
        new(
            tmp_path,
            foreign_classifier(side=64, channels=1, nhwc=True),
            *WORDS,
            "--body-part",
            "KNEE",
            "--values",
            "unit",
        )
        recipe = document(tmp_path, "preprocess", "recipe.json")
        assert (recipe["size"], recipe["channels"], recipe["layout"]) == ([64, 64], 1, "NHWC")
        assert (recipe["mean"], recipe["scale"]) == ([0.0], [255.0])
        assert recipe["body_parts"] == ["KNEE"]
        assert "CHEST" in recipe["other_body_parts"]
        assert "KNEE" not in recipe["other_body_parts"]
        assert recipe["lateral_views"] == []

    @pytest.mark.parametrize(("views", "refused"), [("PA", True), ("AP,PA", True), ("PA,LL", False)])
    def test_lateral_films_are_refused_where_frontal_views_alone_are_meant(self, tmp_path, views, refused):
        new(tmp_path, foreign_classifier(), *TOLD, "--views", views)
        assert ("LATERAL" in document(tmp_path, "preprocess", "recipe.json")["lateral_views"]) is refused

    def test_a_recipe_of_the_makers_own_wins(self, tmp_path):
        (tmp_path / "recipe.json").write_text(json.dumps({"mean": [1, 2, 3], "scale": 4, "min_side": 100}))
        result = new(
            tmp_path, foreign_classifier(), *WORDS, "--body-part", "KNEE", "--recipe", str(tmp_path / "recipe.json")
        )
        assert result.exit_code == 0, result.stderr
        recipe = document(tmp_path, "preprocess", "recipe.json")
        assert (recipe["mean"], recipe["scale"], recipe["min_side"]) == ([1, 2, 3], 4, 100)

    def test_build_json_names_the_file_and_the_command(self, tmp_path):
        new(tmp_path, foreign_classifier(), *TOLD)
        build = json.loads((tmp_path / "draft" / "build.json").read_text())
        assert build["model"]["sha256"]["given"] == file_digest(tmp_path / "mine.onnx")
        assert build["model"]["sha256"]["served"] == file_digest(tmp_path / "draft/parts/classifier/model.onnx")
        assert build["tools"]["onnx"] == onnx.__version__

    def test_the_card_says_what_is_still_to_be_written(self, tmp_path):
        new(tmp_path, foreign_classifier(), *TOLD)
        card = (tmp_path / "draft" / "CARD.md").read_text()
        assert "FILL IN" in card
        assert "| fracture |" in card

    def test_heatmaps_and_novelty_are_there_where_the_model_offers_them(self, tmp_path):
        features = np.eye(8, dtype=np.float32)
        np.savez(tmp_path / "n.npz", mean=features[0], components=features[:2], variance=[1, 1], residual_variance=1)
        result = new(
            tmp_path, foreign_classifier(maps=True), *TOLD, "--activation-output", "maps", "--heatmap-scale", "3",
            "--features-output", "embedding", "--novelty", str(tmp_path / "n.npz"), "--novelty-99", "4",
        )  # fmt: skip
        assert result.exit_code == 0, result.stderr
        draft = Draft.load(tmp_path / "draft")
        names = [tensor.name for tensor in draft.wiring.outputs]
        assert names == ["PROBABILITY", "POSITIVE", "HEATMAP", "NOVELTY", "CARD", "NOTES"]
        check_reading(tmp_path / "draft" / "parts" / "postprocess", 3, heatmap=True, novelty=True)

    def test_a_batch_that_was_fixed_is_opened(self, tmp_path):
        result = new(tmp_path, foreign_classifier(batch=1), *TOLD)
        assert result.exit_code == 0, result.stderr
        assert "batch of 1" in result.stderr
        served = onnx.load(tmp_path / "draft" / "parts" / "classifier" / "model.onnx")
        assert served.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"

    def test_weights_beside_the_file_are_taken_into_it(self, tmp_path):
        model = foreign_classifier()
        for weights in model.graph.initializer:
            onnx.external_data_helper.set_external_data(weights, "mine.onnx.data")
        onnx.save(model, tmp_path / "mine.onnx")
        beside = (tmp_path / "mine.onnx").read_bytes()
        result = new(tmp_path, beside, *TOLD)
        assert result.exit_code == 0, result.stderr
        served = onnx.load(tmp_path / "draft" / "parts" / "classifier" / "model.onnx", load_external_data=False)
        assert not any(each.data_location == onnx.TensorProto.EXTERNAL for each in served.graph.initializer)
        weights = [each.raw_data for each in served.graph.initializer]
        assert weights == [each.raw_data for each in foreign_classifier().graph.initializer]

    def test_weights_that_are_missing_are_told(self, tmp_path):
        model = foreign_classifier()
        for weights in model.graph.initializer:
            onnx.external_data_helper.set_external_data(weights, "mine.onnx.data")
        onnx.save(model, tmp_path / "mine.onnx")
        (tmp_path / "mine.onnx.data").unlink()
        result = new(tmp_path, (tmp_path / "mine.onnx").read_bytes(), *TOLD)
        assert result.exit_code == 1
        assert "mine.onnx.data" in result.stderr

    def test_a_draft_is_never_overwritten(self, tmp_path):
        assert new(tmp_path, foreign_classifier(), *TOLD).exit_code == 0
        before = (tmp_path / "draft" / "draft.json").read_bytes()
        result = new(tmp_path, foreign_classifier(seed=1), *TOLD)
        assert result.exit_code == 1
        assert "is there" in result.stderr
        assert (tmp_path / "draft" / "draft.json").read_bytes() == before


class TestQuestions:
    def test_without_anybody_to_ask_every_missing_option_is_named_at_once(self, tmp_path):
        result = new(tmp_path, foreign_classifier(end="", side="side"), *WORDS)
        assert result.exit_code == 2
        for option in ("--values", "--scores", "--body-part", "--size"):
            assert option in result.stderr
        assert not (tmp_path / "draft").exists()

    def test_what_the_file_tells_is_not_asked(self, tmp_path):
        result = new(tmp_path, foreign_classifier(), *WORDS)
        assert "--values" in result.stderr
        assert "--body-part" in result.stderr
        for option in ("--scores", "--size"):
            assert option not in result.stderr

    def test_at_a_terminal_the_answers_are_taken(self, tmp_path, monkeypatch):
        monkeypatch.setattr("wetread_release.new_command._can_ask", lambda: True)
        result = new(tmp_path, foreign_classifier(end="", side="side"), *WORDS, answers="unit\nlogits\nknee\n64x48\n")
        assert result.exit_code == 0, result.stderr
        recipe = document(tmp_path, "preprocess", "recipe.json")
        assert (recipe["size"], recipe["scale"], recipe["body_parts"]) == ([64, 48], [255.0] * 3, ["KNEE"])
        assert document(tmp_path, "postprocess", "pipeline.json")["scores"] == "logits"


class TestHints:
    @pytest.mark.parametrize(
        ("normalise", "hint"),
        [
            (None, None),
            (("Sub", [0.485, 0.456, 0.406]), "unit"),
            (("Sub", [123.7, 116.3, 103.5]), "levels"),
            (("Mul", [1 / 255]), "levels"),
            (("Div", [255.0]), "levels"),
            (("Mul", [2.0]), None),
            (("Div", [0.2]), None),
        ],
    )
    def test_the_first_arithmetic_tells_the_values(self, normalise, hint):
        assert values_hint(foreign_classifier(normalise=normalise), "input") == hint

    def test_onnx_own_metadata_tells_them_first(self):
        model = foreign_classifier(normalise=("Sub", [0.5]))
        helper.set_model_props(model, {"Image.NominalPixelRange": "Normalized_1_1"})
        assert values_hint(model, "input") == "symmetric"

    @pytest.mark.parametrize(("end", "hint"), [("Softmax", "probabilities"), ("Sigmoid", "probabilities"), ("", None)])
    def test_the_last_operator_tells_the_scores(self, end, hint):
        assert scores_hint(foreign_classifier(end=end), "scores") == hint


def of_element(element: int) -> onnx.ModelProto:
    model = foreign_classifier()
    model.graph.input[0].type.tensor_type.elem_type = element
    return model


def two_inputs() -> onnx.ModelProto:
    model = foreign_classifier()
    extra = helper.make_tensor_value_info("age", TensorProto.FLOAT, ["batch", 1])
    model.graph.input.append(extra)
    return model


def training_mode() -> onnx.ModelProto:
    """Each film less the mean over the batch, as a batch norm does that was not switched to inference."""
    model = foreign_classifier()
    mean = helper.make_node("ReduceMean", ["input"], ["mean"], "over_the_batch", axes=[0], keepdims=1)
    away = helper.make_node("Sub", ["input", "mean"], ["normal"], "normalise")
    model.graph.node[0].input[0] = "normal"
    nodes = [mean, away, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


class TestRefusals:
    @pytest.mark.parametrize(
        ("model", "words", "told"),
        [
            pytest.param(b"nonsense", (), "no valid ONNX", id="not ONNX"),
            pytest.param(two_inputs(), (), "2 inputs", id="two inputs"),
            pytest.param(foreign_classifier(classes=4), (), "one score for each of 3", id="another number of classes"),
            pytest.param(foreign_classifier(channels=4), (), "channels", id="four channels"),
            pytest.param(foreign_classifier(end=""), ("--scores", "probabilities"), "no probabilities", id="logits"),
            pytest.param(foreign_classifier(batch=1, fixed_reshape=True), (), "open batch axis", id="a fixed reshape"),
            pytest.param(training_mode(), (), "model.eval()", id="films that depend on each other"),
            pytest.param(foreign_classifier(), ("--labels", "a,a,b"), "label of its own", id="a label twice"),
            pytest.param(foreign_classifier(), ("--background", "x"), "--background names x", id="no such label"),
            pytest.param(foreign_classifier(), ("--background", "normal,fracture,effusion"), "at least one", id="none"),
            pytest.param(foreign_classifier(), ("--threshold", "1.5"), "threshold", id="threshold"),
            pytest.param(foreign_classifier(), ("--scores-output", "nope"), "--scores-output", id="no such output"),
            pytest.param(foreign_classifier(maps=True), ("--activation-output", "maps"), "--heatmap-scale", id="scale"),
        ],
    )
    def test_what_cannot_be_served_is_refused_with_the_remedy(self, tmp_path, model, words, told):
        result = new(tmp_path, model, *TOLD, *words)
        assert result.exit_code == 1
        assert told in result.stderr.replace("\n", " ")
        assert not (tmp_path / "draft").exists()
        assert not list(tmp_path.glob(".*"))

    @pytest.mark.parametrize("element", [TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.DOUBLE])
    def test_an_input_of_another_type_is_told_to_be_cast(self, tmp_path, element):
        result = new(tmp_path, of_element(element), *TOLD)
        assert result.exit_code == 1

    @pytest.mark.parametrize("name", ["Knee", "knee-x", "1knee", "knee_candidate", "knee__x", "../knee"])
    def test_a_name_that_cannot_be_a_model_is_refused(self, tmp_path, name):
        result = new(tmp_path, foreign_classifier(), *TOLD, name=name)
        assert result.exit_code == 1
        assert "cannot name a pipeline" in result.stderr

    @pytest.mark.parametrize(
        "words", [("--values", "x"), ("--scores", "x"), ("--ages", "5"), ("--size", "a"), ("--threshold", "a=b")]
    )
    def test_a_malformed_option_is_a_wrong_call(self, tmp_path, words):
        result = new(tmp_path, foreign_classifier(), *TOLD, *words)
        assert result.exit_code == 2
        assert words[0] in result.stderr

    def test_a_recipe_against_the_model_is_refused(self, tmp_path):
        (tmp_path / "recipe.json").write_text(json.dumps({"size": [64, 64]}))
        result = new(tmp_path, foreign_classifier(), *TOLD, "--recipe", str(tmp_path / "recipe.json"))
        assert result.exit_code == 1
        assert "takes [3, 320, 320]" in result.stderr.replace("\n", " ")


@pytest.mark.parametrize(
    ("values", "black", "white"),
    [("levels", 0, 255), ("unit", 0, 1), ("symmetric", -1, 1), ("imagenet", -2.118, 2.249)],
)
def test_values_are_what_black_and_white_become(values, black, white):
    mean, scale = documents.normalisation(values, 3)
    assert ((0 - mean[0]) / scale[0], (255 - mean[0]) / scale[0]) == pytest.approx((black, white), abs=1e-3)
