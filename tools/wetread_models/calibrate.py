"""Figures of a classifier on labelled films: AUC with its interval, temperature, threshold and what it achieves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Scores = npt.NDArray[np.float64]
    Labels = npt.NDArray[np.int64]

TARGET_SENSITIVITY = 0.95
SENSITIVITY_MARGIN = 0.015
"""Aimed at beyond the target, so that other patients than those of the calibration still reach it."""


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


@dataclass(frozen=True)
class Rates:
    """Sensitivity and specificity at a threshold, with the counts behind them."""

    sensitivity: float
    specificity: float
    positives: int
    negatives: int


def auc(scores: Scores, labels: Labels) -> float:
    """Area under the ROC curve: how often a positive film scores above a negative one; ties count half."""
    order = np.argsort(scores, kind="stable")
    _, first, count = np.unique(scores[order], return_index=True, return_counts=True)
    rank = np.empty(len(scores))
    rank[order] = np.repeat(first + (count + 1) / 2, count)
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        raise ValueError("an AUC needs films of both classes")
    return float((rank[labels == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def bootstrap_auc(
    scores: Scores, labels: Labels, patients: Sequence[str], draws: int = 2000, seed: int = 0
) -> Interval:
    """AUC with the 95 % percentile interval over patients drawn with replacement, within each class."""
    rng = np.random.default_rng(seed)
    _, patient = np.unique(np.asarray(patients), return_inverse=True)
    members = [np.flatnonzero(patient == p) for p in range(patient.max() + 1)]
    of_class = [[m for m in members if labels[m[0]] == label] for label in (0, 1)]
    values = []
    for _ in range(draws):
        drawn = np.concatenate(
            [group[i] for group in of_class for i in rng.integers(len(group), size=len(group)).tolist()]
        )
        values.append(auc(scores[drawn], labels[drawn]))
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(auc(scores, labels), float(low), float(high))


def probability(logits: Scores, temperature: float) -> Scores:
    """The calibrated probability, sigmoid(logit / temperature), as the postprocessor computes it."""
    return np.asarray(0.5 * (1 + np.tanh(np.asarray(logits, dtype=np.float64) / (2 * temperature))))


def log_loss(logits: Scores, labels: Labels, temperature: float = 1.0) -> float:
    """Mean negative log-likelihood of the labels."""
    signed = np.where(labels == 1, logits, -logits) / temperature
    return float(np.mean(np.logaddexp(0, -signed)))


def fit_temperature(logits: Scores, labels: Labels) -> float:
    """The temperature in 0.05-20 with the least log loss (golden section over its logarithm)."""
    low, high = np.log(0.05), np.log(20.0)
    ratio = (np.sqrt(5) - 1) / 2
    for _ in range(60):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        if log_loss(logits, labels, float(np.exp(a))) < log_loss(logits, labels, float(np.exp(b))):
            high = b
        else:
            low = a
    return float(np.exp((low + high) / 2))


def choose_threshold(probabilities: Scores, labels: Labels, sensitivity: float) -> float:
    """The largest threshold at which at least `sensitivity` of the positive films reach it (positive: >= threshold)."""
    positives = np.sort(probabilities[labels == 1])
    missed = int(np.floor((1 - sensitivity) * len(positives) + 1e-9))
    above = positives[missed]
    below = probabilities[probabilities < above]
    # Halfway to the next film, so that rounding in another runtime cannot move a film across.
    return float((above + below.max()) / 2) if below.size else float(above)


def rates(probabilities: Scores, labels: Labels, threshold: float) -> Rates:
    """Sensitivity and specificity at a threshold."""
    positive = probabilities >= threshold
    sick, well = int(labels.sum()), int(len(labels) - labels.sum())
    return Rates(
        float(positive[labels == 1].mean()) if sick else float("nan"),
        float((~positive[labels == 0]).mean()) if well else float("nan"),
        sick,
        well,
    )
