from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from wetread_postprocess import FeatureStatistics, InvalidGeometry, Pipeline, Postprocessor, heatmap, heatmap_size

SHIPPED = Path(__file__).parents[2] / "model_repository" / "chest_xray_postprocess" / "1"
FEATURES, COMPONENTS = 12, 4
DOCUMENT = {
    "schema": 1,
    "pipeline": "test",
    "findings": [
        {"label": "first", "threshold": 0.3, "temperature": 2.0, "heatmap_scale": 10.0},
        {"label": "second", "threshold": 0.5, "temperature": 0.5, "heatmap_scale": 4.0},
    ],
    "novelty": {"statistics": "novelty.npz", "percentile_99": 2.5},
    "not read here": "ä",
}
GEOMETRY = json.dumps(
    {"rows": 2140, "columns": 1760, "pixel_spacing_mm": [0.1, 0.2], "sop_instance_uid": "1.2", "warnings": ["odd"]}
).encode()


def statistics(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(FEATURES, COMPONENTS)))[0].T
    return {
        "mean": rng.normal(size=FEATURES).astype(np.float32),
        "components": basis.astype(np.float32),
        "variance": np.array([9.0, 4.0, 2.0, 1.0], np.float32),
        "residual_variance": np.float32(0.25),
    }


def write(folder: Path, document: dict | None = None, arrays: dict | None = None) -> Path:
    (folder / "pipeline.json").write_text(json.dumps(DOCUMENT if document is None else document))
    np.savez(folder / "novelty.npz", **(statistics() if arrays is None else arrays))
    return folder


@pytest.fixture
def postprocessor(tmp_path):
    return Postprocessor.load(write(tmp_path))


def read(postprocessor, logits=(0.0, 0.0), activation=None, features=None, **arguments):
    activation = np.zeros((2, 7, 7), np.float32) if activation is None else activation
    features = np.zeros(FEATURES, np.float32) if features is None else features
    return postprocessor.read(np.array(logits, np.float32), activation, features, GEOMETRY, **arguments)


class TestProbability:
    @pytest.mark.parametrize("logit", [-30.0, -3.0, -0.1, 0.0, 0.7, 5.0, 12.0])
    def test_it_is_the_sigmoid_of_the_logit_over_its_own_temperature(self, postprocessor, logit):
        got = read(postprocessor, [logit, logit]).probability
        expected = [1 / (1 + math.exp(-logit / 2.0)), 1 / (1 + math.exp(-logit / 0.5))]
        np.testing.assert_allclose(got, expected, rtol=1e-6)
        assert got.dtype == np.float32

    @pytest.mark.parametrize(("logit", "expected"), [(1e4, 1.0), (-1e4, 0.0), (np.inf, 1.0), (-np.inf, 0.0)])
    def test_an_extreme_logit_neither_overflows_nor_leaves_the_range(self, postprocessor, logit, expected):
        np.testing.assert_allclose(read(postprocessor, [logit, logit]).probability, expected, atol=1e-20)

    def test_many_films_are_calibrated_at_once(self, postprocessor):
        logits = np.array([[0.0, 1.0], [2.0, 3.0]], np.float32)
        rows = [postprocessor.probability(row) for row in logits]
        np.testing.assert_array_equal(postprocessor.probability(logits), rows)


class TestPositive:
    def test_it_is_positive_at_the_threshold_and_not_below(self, postprocessor):
        assert read(postprocessor, [10.0, 0.0]).positive.tolist() == [True, True]  # sigmoid(0) is 0.5 exactly
        assert read(postprocessor, [10.0, -1e-4]).positive.tolist() == [True, False]

    def test_a_threshold_that_float32_rounds_is_met_by_its_own_probability(self, tmp_path, postprocessor):
        probability = float(postprocessor.probability(np.array([0.3, 0.3], np.float32))[0])
        findings = [{**DOCUMENT["findings"][0], "threshold": probability}, DOCUMENT["findings"][1]]
        same = Postprocessor.load(write(tmp_path, {**DOCUMENT, "findings": findings}))
        assert read(same, [0.3, 0.0]).positive[0]

    def test_the_threshold_is_on_the_calibrated_probability(self, postprocessor):
        # sigmoid(-1.2) is 0.23, below 0.3; at temperature 2 it is 0.35, above.
        assert read(postprocessor, [-1.2, -9.0]).positive.tolist() == [True, False]


class TestHeatmap:
    @pytest.mark.parametrize(
        ("film", "expected"),
        [
            ((2140, 1760), (224, 184)),
            ((1760, 2140), (184, 224)),
            ((224, 224), (224, 224)),
            ((100, 90), (224, 202)),
            ((32, 10000), (1, 224)),
            ((1, 1), (224, 224)),
        ],
    )
    def test_its_longest_side_is_224_at_the_films_aspect(self, film, expected):
        assert heatmap_size(*film) == expected

    def test_a_reading_has_one_heatmap_a_finding_at_the_films_aspect(self, postprocessor):
        reading = read(postprocessor)
        assert reading.heatmap.shape == (2, 224, 184)
        assert reading.heatmap.dtype == np.uint8

    @pytest.mark.parametrize("size", [(224, 184), (224, 224), (30, 224), (7, 7)])
    def test_it_is_interpolated_linearly_as_opencv_does(self, size):
        activation = np.random.default_rng(3).uniform(0, 5, (7, 7)).astype(np.float32)
        expected = cv2.resize(activation * 51, size[::-1], interpolation=cv2.INTER_LINEAR)
        got = heatmap(activation, 5.0, size)
        assert got.shape == size
        assert np.abs(got - expected).max() <= 0.5 + 1e-3

    def test_a_contribution_lies_where_its_cell_lies(self):
        activation = np.zeros((7, 7), np.float32)
        activation[1, 5] = 1.0
        row, column = np.unravel_index(heatmap(activation, 1.0, (70, 140)).argmax(), (70, 140))
        assert row // 10 == 1
        assert column // 20 == 5

    def test_its_scale_is_white_and_beyond_it_stays_white(self):
        for value, level in ((10.0, 255), (5.0, 128), (400.0, 255), (0.0, 0), (-3.0, 0), (1e30, 255)):
            assert (heatmap(np.full((7, 7), value, np.float32), 10.0, (20, 20)) == level).all(), value

    def test_each_finding_has_its_own_scale(self, postprocessor):
        reading = read(postprocessor, activation=np.full((2, 7, 7), 2.4, np.float32))
        assert (reading.heatmap[0] == 61).all()
        assert (reading.heatmap[1] == 153).all()

    def test_nobody_draws_it_when_it_is_not_wanted(self, postprocessor):
        reading = read(postprocessor, [1.0, 1.0], with_heatmap=False)
        assert reading.heatmap.shape == (2, 0, 0)
        np.testing.assert_array_equal(reading.probability, read(postprocessor, [1.0, 1.0]).probability)


class TestNovelty:
    @pytest.mark.parametrize("seed", range(5))
    def test_it_is_the_mahalanobis_distance_over_the_percentile(self, postprocessor, seed):
        arrays = statistics()
        basis, mean = arrays["components"].astype(float), arrays["mean"].astype(float)
        rest = np.eye(FEATURES) - basis.T @ basis
        covariance = basis.T @ np.diag(arrays["variance"].astype(float)) @ basis + 0.25 * rest
        features = np.random.default_rng(seed).normal(0, 3, FEATURES).astype(np.float32)
        centred = features - mean
        expected = math.sqrt(centred @ np.linalg.inv(covariance) @ centred) / 2.5
        got = read(postprocessor, features=features).novelty
        assert got.shape == (1,)
        assert got.dtype == np.float32
        assert got[0] == pytest.approx(expected, rel=1e-4)

    def test_the_mean_film_is_not_novel_at_all(self, postprocessor):
        assert read(postprocessor, features=statistics()["mean"]).novelty[0] == pytest.approx(0.0, abs=1e-3)

    def test_a_step_along_a_narrow_direction_is_newer_than_along_a_wide_one(self, postprocessor):
        arrays = statistics()
        wide, narrow = (
            read(postprocessor, features=arrays["mean"] + 5 * arrays["components"][i]).novelty[0] for i in (0, 3)
        )
        assert (wide, narrow) == pytest.approx((5 / 3 / 2.5, 5 / 2.5), rel=1e-4)


class TestNotesAndCard:
    def test_notes_carry_warnings_and_geometry(self, postprocessor):
        notes = json.loads(read(postprocessor).notes)
        assert notes == {
            "warnings": ["odd"],
            "geometry": {"rows": 2140, "columns": 1760, "pixel_spacing_mm": [0.1, 0.2], "sop_instance_uid": "1.2"},
        }

    def test_the_card_is_the_file_byte_for_byte(self, tmp_path):
        folder = write(tmp_path)
        text = '{ "schema":1,\n"x": "Größe",' + json.dumps(DOCUMENT)[1:] + "\n\n"
        (folder / "pipeline.json").write_bytes(text.encode())
        assert Postprocessor.load(folder).card == text.encode()


def without(document: dict, *path: str | int) -> dict:
    made = json.loads(json.dumps(document))
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return made


def with_value(document: dict, value: object, *path: str | int) -> dict:
    made = json.loads(json.dumps(document))
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return made


class TestBadFiles:
    @pytest.mark.parametrize(
        ("document", "words"),
        [
            (with_value(DOCUMENT, 2, "schema"), "schema 2"),
            (without(DOCUMENT, "schema"), "schema None"),
            (without(DOCUMENT, "findings"), "findings"),
            (without(DOCUMENT, "findings", 1, "threshold"), "threshold"),
            (without(DOCUMENT, "findings", 0, "label"), "label"),
            (without(DOCUMENT, "novelty", "percentile_99"), "percentile_99"),
            (with_value(DOCUMENT, 0, "findings", 0, "temperature"), "positive"),
            (with_value(DOCUMENT, -1, "findings", 1, "heatmap_scale"), "positive"),
            (with_value(DOCUMENT, 0, "novelty", "percentile_99"), "positive"),
            (with_value(DOCUMENT, "warm", "findings", 0, "temperature"), "warm"),
            (with_value(DOCUMENT, 1.5, "findings", 0, "threshold"), "threshold"),
            (with_value(DOCUMENT, [], "findings"), "finding"),
        ],
    )
    def test_a_pipeline_file_that_is_wrong_is_refused_by_name(self, tmp_path, document, words):
        with pytest.raises(ValueError, match=words) as caught:
            Pipeline.load(write(tmp_path, document))
        assert "pipeline.json" in str(caught.value)

    def test_a_pipeline_file_that_is_no_json_is_refused_by_name(self, tmp_path):
        (write(tmp_path) / "pipeline.json").write_text("{")
        with pytest.raises(ValueError, match=r"pipeline\.json"):
            Pipeline.load(tmp_path)

    @pytest.mark.parametrize("missing", ["mean", "components", "variance", "residual_variance"])
    def test_missing_statistics_are_named(self, tmp_path, missing):
        arrays = {name: array for name, array in statistics().items() if name != missing}
        with pytest.raises(ValueError, match=missing):
            Postprocessor.load(write(tmp_path, arrays=arrays))

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("mean", np.zeros(FEATURES + 1, np.float32)),
            ("variance", np.ones(COMPONENTS + 1, np.float32)),
            ("variance", np.array([1, 1, 0, 1], np.float32)),
            ("variance", np.array([1, 1, np.nan, 1], np.float32)),
            ("residual_variance", np.float32(0)),
        ],
    )
    def test_statistics_that_contradict_themselves_are_refused(self, tmp_path, name, value):
        with pytest.raises(ValueError, match=r"novelty\.npz"):
            Postprocessor.load(write(tmp_path, arrays={**statistics(), name: value}))

    def test_a_missing_file_is_told_as_such(self, tmp_path):
        (write(tmp_path) / "novelty.npz").unlink()
        with pytest.raises(FileNotFoundError, match=r"novelty\.npz"):
            Postprocessor.load(tmp_path)

    def test_pickled_statistics_are_never_unpickled(self, tmp_path):
        arrays = {**statistics(), "mean": np.array([object()], object)}
        write(tmp_path)
        np.savez(tmp_path / "novelty.npz", **arrays)
        with pytest.raises(ValueError, match="allow_pickle"):
            FeatureStatistics.load(tmp_path / "novelty.npz")


NOTHING = np.zeros(0, np.float32)


@pytest.mark.parametrize("geometry", [b"", b"\0", b"[]", b'{"rows": 3}', b'{"rows": "3", "columns": null}'])
def test_geometry_that_preprocessing_did_not_write_is_refused(geometry):
    shipped = Postprocessor.load(SHIPPED)
    count = len(json.loads(shipped.card)["findings"])
    with pytest.raises(InvalidGeometry, match="GEOMETRY"):
        shipped.read(
            np.zeros(count, np.float32), np.zeros((count, 7, 7), np.float32), np.zeros(4, np.float32), geometry
        )


def test_the_shipped_rules_load_and_read():
    shipped = Postprocessor.load(SHIPPED)
    document = json.loads(shipped.card)
    count = len(document["findings"])
    features = FeatureStatistics.load(SHIPPED / document["novelty"]["statistics"]).mean
    reading = shipped.read(np.zeros(count, np.float32), np.zeros((count, 7, 7), np.float32), features, GEOMETRY)
    np.testing.assert_allclose(reading.probability, 0.5)
    assert reading.novelty[0] < 1
