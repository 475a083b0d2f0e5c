"""Fit what NOVELTY is measured with: a Gaussian over the features of training films, with a low-rank covariance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from wetread_postprocess import FeatureStatistics

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

COMPONENTS = 64
"""Measured: 16 to 128 all put every stranger far above 1; the gap is widest from 64 on."""


def fit(features: Floats, components: int = COMPONENTS) -> FeatureStatistics:
    """Fit to FEATURES [n,F]; there are at most n - 2 components.

    The residual variance is the mean squared length of what the components leave, per dimension left
    (probabilistic PCA; Tipping and Bishop 1999).
    """
    count, size = features.shape
    k = max(1, min(components, count - 2, size - 1))
    mean = features.mean(axis=0, dtype=np.float64)
    _, singular, rows = np.linalg.svd(features - mean, full_matrices=False)
    variance = np.maximum(singular**2 / (count - 1), 1e-12)
    residual = float(variance[k:].sum()) / (size - k)
    return FeatureStatistics(
        mean.astype(np.float32), rows[:k].astype(np.float32), variance[:k].astype(np.float32), max(residual, 1e-12)
    )


def save(statistics: FeatureStatistics, path: Path) -> None:
    """Write novelty.npz."""
    np.savez(
        path,
        mean=statistics.mean,
        components=statistics.components,
        variance=statistics.variance,
        residual_variance=np.float32(statistics.residual_variance),
    )


def distances(statistics: FeatureStatistics, features: Floats) -> Floats:
    """Distances [n] of FEATURES [n,F]."""
    return np.array([statistics.distance(row) for row in features], dtype=np.float32)
