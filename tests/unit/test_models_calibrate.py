"""Figures against values known from elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from wetread_models.calibrate import (
    auc,
    bootstrap_auc,
    choose_threshold,
    fit_temperature,
    log_loss,
    probability,
    rates,
)
from wetread_models.novelty import distances, fit
from wetread_postprocess import Pipeline, Postprocessor

POSTPROCESS = Path(__file__).parents[2] / "model_repository" / "chest_xray_postprocess" / "1"


def overlapping_classes(count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = (rng.random(count) < 0.6).astype(np.int64)
    return rng.normal(labels * 2.0 - 1.0, 1.0), labels


def test_the_auc_counts_pairs_and_halves_ties() -> None:
    scores = np.array([0.1, 0.4, 0.4, 0.8])
    assert auc(scores, np.array([0, 0, 1, 1])) == pytest.approx(3.5 / 4)
    assert auc(scores, np.array([0, 0, 0, 1])) == 1.0
    assert auc(-scores, np.array([0, 0, 0, 1])) == 0.0


def test_the_auc_of_two_gaussians_is_the_textbook_value() -> None:
    scores, labels = overlapping_classes(40_000)
    assert auc(scores, labels) == pytest.approx(0.9214, abs=0.004)  # Phi(2 / sqrt 2)


def test_an_auc_of_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="both classes"):
        auc(np.array([0.1, 0.2]), np.array([1, 1]))


def test_the_interval_holds_the_auc_and_widens_when_films_belong_to_few_patients() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 100)
    patients = np.repeat(np.arange(20), 10)
    scores = labels + np.repeat(rng.normal(0, 1, 20), 10)  # all films of a patient score alike
    grouped = bootstrap_auc(scores, labels, [f"p{p}" for p in patients], draws=300)
    single = bootstrap_auc(scores, labels, [f"f{f}" for f in range(200)], draws=300)
    assert grouped.low <= grouped.value <= grouped.high
    assert grouped.high - grouped.low > 1.5 * (single.high - single.low)


@pytest.mark.slow
def test_the_temperature_undoes_a_scaled_logit() -> None:
    scores, labels = overlapping_classes(40_000)
    logits = 2 * scores + np.log(0.6 / 0.4)  # the true log odds of these classes
    assert fit_temperature(logits, labels) == pytest.approx(1.0, abs=0.05)
    assert fit_temperature(3 * logits, labels) == pytest.approx(3.0, abs=0.15)
    assert log_loss(3 * logits, labels, 3.0) == pytest.approx(log_loss(logits, labels))


@pytest.mark.parametrize("sensitivity", [0.8, 0.95, 0.99, 1.0])
def test_the_threshold_reaches_its_sensitivity_and_no_larger_one_does(sensitivity: float) -> None:
    scores, labels = overlapping_classes()
    values = probability(scores, 1.0)
    threshold = choose_threshold(values, labels, sensitivity)
    assert rates(values, labels, threshold).sensitivity >= sensitivity
    above = np.sort(values[labels == 1])
    next_film = above[above > threshold][0]
    assert rates(values, labels, np.nextafter(next_film, 1)).sensitivity < sensitivity


def test_rates_count_the_films_of_each_class() -> None:
    at = rates(np.array([0.2, 0.6, 0.5, 0.9]), np.array([0, 0, 1, 1]), 0.5)
    assert (at.sensitivity, at.specificity, at.positives, at.negatives) == (1.0, 0.5, 2, 2)


def test_calibration_computes_the_probability_that_is_served() -> None:
    postprocessor = Postprocessor.load(POSTPROCESS)
    temperature = Pipeline.load(POSTPROCESS).findings[0].temperature
    logits = np.linspace(-12, 12, 49)
    served = postprocessor.probability(logits[:, None].astype(np.float32))[:, 0]
    np.testing.assert_allclose(probability(logits, temperature), served, atol=1e-6)


def test_the_distance_grows_along_rare_directions_more_than_along_common_ones() -> None:
    rng = np.random.default_rng(0)
    spread = np.array([10.0, 5.0, 1.0, 0.1, 0.1, 0.1])
    features = (rng.normal(size=(2000, 6)) * spread).astype(np.float32)
    statistics = fit(features, components=3)
    np.testing.assert_allclose(statistics.components @ statistics.components.T, np.eye(3), atol=1e-5)
    np.testing.assert_allclose(np.sqrt(statistics.variance), spread[:3], rtol=0.1)
    common, rare = distances(statistics, np.float32([[10, 0, 0, 0, 0, 0], [0, 0, 0, 0, 10, 0]]))
    assert common == pytest.approx(1.0, abs=0.2)
    assert rare == pytest.approx(100.0, rel=0.2)
