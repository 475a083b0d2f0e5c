"""Classifiers of other makers: other scores, classes that are no finding, no heatmap, no novelty."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from wetread_postprocess import InvalidScores, Pipeline, Postprocessor

GEOMETRY = b'{"rows": 320, "columns": 160}'


def document(**more: object) -> dict[str, object]:
    return {
        "schema": 1,
        "pipeline": "knee",
        "findings": [
            {"label": "second", "threshold": 0.4, "temperature": 1.0, "column": 2},
            {"label": "first", "threshold": 0.5, "temperature": 1.0, "column": 1},
        ],
        **more,
    }


def load(folder: Path, content: dict[str, object]) -> Postprocessor:
    (folder / "pipeline.json").write_text(json.dumps(content))
    return Postprocessor.load(folder)


def hot(content: dict[str, object], temperature: float) -> dict[str, object]:
    return {**content, "findings": [{**each, "temperature": temperature} for each in content["findings"]]}  # type: ignore[attr-defined]


class TestScores:
    def test_probabilities_are_taken_as_they_are_from_each_findings_column(self, tmp_path):
        made = load(tmp_path, document(scores="probabilities"))
        scores = np.array([0.25, 0.3, 0.45], np.float32)
        reading = made.read(scores, None, None, GEOMETRY)
        np.testing.assert_array_equal(reading.probability, scores[[2, 1]])
        assert reading.positive.tolist() == [True, False]

    def test_without_a_temperature_no_bit_of_a_probability_changes(self, tmp_path):
        made = load(tmp_path, document(scores="probabilities"))
        scores = np.random.default_rng(0).uniform(0, 1, (1000, 3)).astype(np.float32)
        np.testing.assert_array_equal(made.probability(scores), scores[:, [2, 1]])

    def test_class_logits_pass_a_softmax_over_all_classes(self, tmp_path):
        made = load(tmp_path, document(scores="class_logits"))
        logits = np.array([1.0, -0.5, 2.0], np.float32)
        total = sum(math.exp(value) for value in (1.0, -0.5, 2.0))
        expected = [math.exp(2.0) / total, math.exp(-0.5) / total]
        np.testing.assert_allclose(made.read(logits, None, None, GEOMETRY).probability, expected, rtol=1e-6)

    def test_logits_are_independent_of_each_other(self, tmp_path):
        made = load(tmp_path, document())
        got = made.read(np.array([50.0, 0.0, 2.0], np.float32), None, None, GEOMETRY).probability
        np.testing.assert_allclose(got, [1 / (1 + math.exp(-2.0)), 0.5], rtol=1e-6)

    @pytest.mark.parametrize("probability", [0.001, 0.2, 0.5, 0.97])
    def test_a_temperature_divides_the_log_odds_of_a_probability(self, tmp_path, probability):
        made = load(tmp_path, hot(document(scores="probabilities"), 2.0))
        got = made.read(np.array([0, 0, probability], np.float32), None, None, GEOMETRY).probability[0]
        assert got == pytest.approx(1 / (1 + math.exp(-math.log(probability / (1 - probability)) / 2)), rel=1e-4)

    @pytest.mark.parametrize("scores", ["probabilities", "class_logits"])
    @pytest.mark.parametrize("temperature", [1.0, 0.7, 3.0])
    def test_certainty_stays_a_probability(self, tmp_path, scores, temperature):
        made = load(tmp_path, hot(document(scores=scores), temperature))
        top = 1.0 if scores == "probabilities" else 900.0
        got = made.read(np.array([0, 0, top], np.float32), None, None, GEOMETRY).probability
        np.testing.assert_allclose(got, [1, 0], atol=1e-3)

    @pytest.mark.parametrize("scores", ["logits", "probabilities", "class_logits"])
    def test_what_is_no_number_is_never_a_negative(self, tmp_path, scores):
        made = load(tmp_path, document(scores=scores))
        with pytest.raises(InvalidScores, match="NaN"):
            made.read(np.array([0, 0, np.nan], np.float32), None, None, GEOMETRY)


class TestOutputsThatAreNotThere:
    def test_a_reading_has_neither_heatmap_nor_novelty(self, tmp_path):
        reading = load(tmp_path, document()).read(np.zeros(3, np.float32), None, None, GEOMETRY)
        assert reading.heatmap.shape == (2, 0, 0)
        assert reading.novelty.shape == (0,)

    def test_a_findings_heatmap_is_of_its_own_column(self, tmp_path):
        content = document()
        findings = [{**each, "heatmap_scale": 1.0} for each in content["findings"]]  # type: ignore[attr-defined]
        made = load(tmp_path, {**content, "findings": findings})
        activation = np.zeros((3, 5, 5), np.float32)
        activation[2] = 1.0
        reading = made.read(np.zeros(3, np.float32), activation, None, GEOMETRY)
        assert reading.heatmap.shape == (2, 224, 112)
        assert (reading.heatmap[0] == 255).all()
        assert not reading.heatmap[1].any()

    @pytest.mark.parametrize(
        ("columns", "outputs", "words"),
        [
            (2, {}, "column 2 of LOGITS, which has 2"),
            (3, {"heatmap": True}, "heatmap_scale"),
            (3, {"novelty": True}, "novelty"),
        ],
    )
    def test_a_configuration_that_promises_more_is_refused_at_load(self, tmp_path, columns, outputs, words):
        made = load(tmp_path, document())
        made.fits(3, heatmap=False, novelty=False)
        made.fits(-1, heatmap=False, novelty=False)
        with pytest.raises(ValueError, match=words):
            made.fits(columns, **{"heatmap": False, "novelty": False, **outputs})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scores": "softmax"}, "softmax"),
        ({"findings": [{"label": "a", "threshold": 0.5, "temperature": 1, "column": -1}]}, "column of a is -1"),
        (
            {"findings": [{"label": x, "threshold": 0.5, "temperature": 1, "column": 1} for x in "ab"]},
            "share a column",
        ),
    ],
)
def test_a_pipeline_file_that_is_wrong_is_refused_by_name(tmp_path, changes, words):
    (tmp_path / "pipeline.json").write_text(json.dumps(document(**changes)))
    with pytest.raises(ValueError, match=words) as caught:
        Pipeline.load(tmp_path)
    assert "pipeline.json" in str(caught.value)
