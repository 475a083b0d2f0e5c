"""Comparisons of two models, against values known from elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from wetread_models.statistics import agreement, bootstrap_difference, calibration_error, delong, figures


def two_models(films: int = 600, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(0)
    labels = (rng.random(films) < 0.5).astype(np.int64)
    shared = rng.normal(labels * 1.5, 1.0)
    return shared + rng.normal(0, noise, films), shared, labels, [f"p{film}" for film in range(films)]


def test_flips_are_named_and_a_film_at_the_threshold_is_positive() -> None:
    seen = agreement(np.array([0.5, 0.49, 0.9, 0.1]), np.array([0.49, 0.5, 0.9, 0.2]), 0.5)
    assert seen.flips == (0, 1)
    assert seen.flip_share == 0.5
    assert seen.largest_change == pytest.approx(0.1)
    assert seen.mean_change == pytest.approx(0.03)


def test_each_model_may_have_its_own_threshold() -> None:
    assert agreement(np.array([0.6, 0.2]), np.array([0.6, 0.2]), 0.5, 0.7).flips == (0,)


def test_models_that_read_other_films_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="same films"):
        agreement(np.zeros(3), np.zeros(4), 0.5)


@pytest.mark.slow
def test_delong_agrees_with_drawing_films_again_and_again() -> None:
    new, reference, labels, patients = two_models(noise=0.5)
    by_formula = delong(new, reference, labels)
    drawn = bootstrap_difference(new, reference, labels, patients, draws=1000)
    assert by_formula.difference.value == drawn.difference.value < 0
    widths = [each.difference.high - each.difference.low for each in (by_formula, drawn)]
    assert widths[0] == pytest.approx(widths[1], rel=0.15)
    assert by_formula.difference.low == pytest.approx(drawn.difference.low, abs=0.2 * widths[1])
    assert max(by_formula.p, drawn.p) < 0.02


def test_delong_holds_its_level_when_two_models_are_equally_good() -> None:
    rng = np.random.default_rng(0)
    rejected = 0
    for _ in range(300):
        labels = (rng.random(200) < 0.5).astype(np.int64)
        shared = rng.normal(labels * 1.5, 1.0)
        rejected += delong(shared + rng.normal(0, 0.7, 200), shared + rng.normal(0, 0.7, 200), labels).p < 0.05
    assert 5 <= rejected <= 27  # of 300 at 5 %: 15, three standard deviations about it


def test_models_that_rank_alike_do_not_differ() -> None:
    _, reference, labels, patients = two_models()
    assert delong(3 * reference + 1, reference, labels).p == 1.0
    drawn = bootstrap_difference(3 * reference + 1, reference, labels, patients, draws=100)
    assert (drawn.difference.low, drawn.difference.high) == (0.0, 0.0)
    assert drawn.p == 1.0


@pytest.mark.slow
def test_films_of_few_patients_widen_the_difference() -> None:
    rng = np.random.default_rng(1)
    patients = rng.permutation(np.repeat(np.arange(40), 10))
    labels = (patients >= 20).astype(np.int64)
    reference = labels + rng.normal(0, 1, 400)
    new = reference + rng.normal(0, 1, 40)[patients]  # it errs alike on all films of a patient
    grouped = bootstrap_difference(new, reference, labels, [str(patient) for patient in patients], 400)
    single = bootstrap_difference(new, reference, labels, [str(f) for f in range(400)], 400)
    widths = [each.difference.high - each.difference.low for each in (grouped, single)]
    assert widths[0] > 1.5 * widths[1]


def test_probabilities_that_come_true_have_no_calibration_error() -> None:
    rng = np.random.default_rng(0)
    promised = rng.random(200_000)
    labels = (rng.random(200_000) < promised).astype(np.int64)
    honest = calibration_error(promised, labels)
    assert honest.expected < 0.005
    assert honest.brier == pytest.approx(1 / 6, abs=0.003)
    assert calibration_error(np.full(4, 0.9), np.array([1, 0, 0, 1])).expected == pytest.approx(0.4)
    assert calibration_error(np.array([0.0, 1.0]), np.array([0, 1])).expected == 0.0


def test_one_class_alone_is_refused() -> None:
    scores, labels = np.array([0.1, 0.2, 0.3]), np.array([1, 1, 1])
    with pytest.raises(ValueError, match="both classes"):
        delong(scores, scores, labels)
    with pytest.raises(ValueError, match="both classes"):
        bootstrap_difference(scores, scores, labels, ["a", "b", "c"])


@pytest.mark.slow
def test_the_figures_of_one_model_stand_together() -> None:
    seen = figures(np.array([0.2, 0.4, 0.6, 0.9]), np.array([0, 0, 1, 1]), ["a", "b", "c", "d"], 0.5)
    assert (seen.auc.value, seen.rates.sensitivity, seen.rates.specificity) == (1.0, 1.0, 1.0)
    assert seen.calibration.brier == pytest.approx((0.04 + 0.16 + 0.16 + 0.01) / 4)
