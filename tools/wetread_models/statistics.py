"""Compare two models on the same films: flips, paired differences with intervals, calibration; needs no torch.

AUC with its interval, sensitivity and specificity of one model are in `calibrate`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wetread_models.calibrate import Interval, auc, bootstrap_auc, rates

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from wetread_models.calibrate import Labels, Rates, Scores

BINS = 10
DRAWS = 2000


@dataclass(frozen=True)
class Difference:
    """A new model's value less the reference's on the same films, with its 95 % interval."""

    difference: Interval
    p: float
    """Two-sided, that there is no difference."""


@dataclass(frozen=True)
class Agreement:
    """How far a new model's probabilities are from the reference's, film by film."""

    films: int
    flips: tuple[int, ...]
    """Films, by their place, that the two put on different sides of the threshold."""
    mean_change: float
    """Mean |difference of probability|."""
    largest_change: float

    @property
    def flip_share(self) -> float:
        """Give the share of films that flipped, 0-1."""
        return len(self.flips) / self.films if self.films else 0.0


@dataclass(frozen=True)
class CalibrationError:
    """How far probabilities are from the frequencies that they promise."""

    expected: float
    """ECE: mean |share of positive films - mean probability| over bins of equal width, weighted by their films."""
    brier: float
    """Mean squared difference of probability and label."""


@dataclass(frozen=True)
class Figures:
    """What one model does on labelled films at its threshold."""

    auc: Interval
    rates: Rates
    calibration: CalibrationError


def figures(probabilities: Scores, labels: Labels, patients: Sequence[str], threshold: float) -> Figures:
    """Count one model's figures; ValueError where a class is missing. All arrays [n]."""
    return Figures(
        bootstrap_auc(probabilities, labels, patients),
        rates(probabilities, labels, threshold),
        calibration_error(probabilities, labels),
    )


def agreement(new: Scores, reference: Scores, threshold: float, reference_threshold: float | None = None) -> Agreement:
    """Compare probabilities [n] of two models; needs no labels. Positive: at or above the model's threshold."""
    if new.shape != reference.shape:
        raise ValueError(f"both models must read the same films, these read {len(new)} and {len(reference)}")
    before = reference >= (threshold if reference_threshold is None else reference_threshold)
    change = np.abs(new - reference)
    return Agreement(
        len(new),
        tuple(np.flatnonzero((new >= threshold) != before).tolist()),
        float(change.mean()) if len(new) else 0.0,
        float(change.max(initial=0.0)),
    )


def delong(new: Scores, reference: Scores, labels: Labels) -> Difference:
    """Difference of two AUCs over the same films (DeLong, DeLong and Clarke-Pearson, 1988): films are independent.

    Where patients have several films each, `bootstrap_difference` gives the honest interval.
    """
    placed = [_placements(scores, labels) for scores in (new, reference)]
    difference = auc(new, labels) - auc(reference, labels)
    variance = sum(float(np.var(a - b, ddof=1)) / len(a) if len(a) > 1 else 0.0 for a, b in zip(*placed, strict=True))
    spread = math.sqrt(variance)
    if not spread:
        return Difference(Interval(difference, difference, difference), 1.0 if not difference else 0.0)
    p = math.erfc(abs(difference) / spread / math.sqrt(2))
    return Difference(Interval(difference, difference - 1.959964 * spread, difference + 1.959964 * spread), p)


def _placements(scores: Scores, labels: Labels) -> tuple[Scores, Scores]:
    """Share of negative films below each positive one, and of positive films above each negative one; ties half."""
    positive, negative = np.sort(scores[labels == 1]), np.sort(scores[labels == 0])
    if not len(positive) or not len(negative):
        raise ValueError("an AUC needs films of both classes")

    def below(values: Scores, others: Scores) -> Scores:
        return (np.searchsorted(others, values, "left") + np.searchsorted(others, values, "right")) / (2 * len(others))

    # In the films' own order, so that two models' placements pair up.
    return below(scores[labels == 1], negative), 1 - below(scores[labels == 0], positive)


def bootstrap_difference(
    new: Scores,
    reference: Scores,
    labels: Labels,
    patients: Sequence[str],
    draws: int = DRAWS,
    seed: int = 0,
) -> Difference:
    """Difference of two AUCs over the same films, patients drawn with replacement within each class.

    A patient's class is that of the first film, as in `bootstrap_auc`.
    """
    rng = np.random.default_rng(seed)
    differences = np.empty(draws)
    groups = _patients_by_class(labels, patients)
    for draw in range(draws):
        drawn = np.concatenate(
            [group[i] for group in groups for i in rng.integers(len(group), size=len(group)).tolist()]
        )
        differences[draw] = auc(new[drawn], labels[drawn]) - auc(reference[drawn], labels[drawn])
    low, high = np.percentile(differences, [2.5, 97.5])
    above, below = float((differences > 0).mean()), float((differences < 0).mean())
    ties = 1 - above - below
    p = min(1.0, 2 * min(above + ties / 2, below + ties / 2) + 1 / draws)
    return Difference(Interval(auc(new, labels) - auc(reference, labels), float(low), float(high)), p)


def _patients_by_class(labels: Labels, patients: Sequence[str]) -> list[list[npt.NDArray[np.int64]]]:
    _, patient = np.unique(np.asarray(patients), return_inverse=True)
    order = np.argsort(patient, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(patient))[:-1])
    groups = [[films for films in members if labels[films[0]] == label] for label in (0, 1)]
    if not all(groups):
        raise ValueError("an AUC needs films of both classes")
    return groups


def calibration_error(probabilities: Scores, labels: Labels, bins: int = BINS) -> CalibrationError:
    """Expected calibration error over `bins` bins of equal width, and the Brier score."""
    if not len(probabilities):
        raise ValueError("a calibration error needs films")
    place = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    count = np.bincount(place, minlength=bins)
    promised = np.bincount(place, weights=probabilities, minlength=bins)
    seen = np.bincount(place, weights=labels, minlength=bins)
    gaps = np.abs(promised - seen)
    assert count.sum() == len(probabilities)
    return CalibrationError(float(gaps.sum() / len(probabilities)), float(np.mean((probabilities - labels) ** 2)))
