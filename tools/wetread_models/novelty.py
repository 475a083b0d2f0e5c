"""How unlike the training films a film is: a Gaussian in feature space with a low-rank covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

COMPONENTS = 64


@dataclass(frozen=True)
class NoveltyStatistics:
    """What novelty.npz holds; all float32."""

    mean: npt.NDArray[np.float32]
    """[F]"""
    components: npt.NDArray[np.float32]
    """[k,F], rows orthonormal."""
    variance: npt.NDArray[np.float32]
    """[k], along each component."""
    residual_variance: float
    """Mean squared length of what the components leave over, per left-over dimension."""

    def distance(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Distances of FEATURES [n,F]: Mahalanobis along the components, the residual with one common variance."""
        centred = features - self.mean
        along = centred @ self.components.T
        residual = np.sum(centred**2, axis=1) - np.sum(along**2, axis=1)
        squared = np.sum(along**2 / self.variance, axis=1) + np.maximum(residual, 0) / self.residual_variance
        return np.sqrt(squared).astype(np.float32)

    def save(self, path: Path) -> None:
        """Write novelty.npz."""
        np.savez(
            path,
            mean=self.mean,
            components=self.components,
            variance=self.variance,
            residual_variance=np.float32(self.residual_variance),
        )


def load_statistics(path: Path) -> NoveltyStatistics:
    """Read novelty.npz."""
    with np.load(path, allow_pickle=False) as arrays:
        return NoveltyStatistics(
            arrays["mean"], arrays["components"], arrays["variance"], float(arrays["residual_variance"])
        )


def fit(features: npt.NDArray[np.float32], components: int = COMPONENTS) -> NoveltyStatistics:
    """Fit to the FEATURES [n,F] of training films; the number of components is at most n - 2."""
    count, size = features.shape
    k = min(components, count - 2, size - 1)
    mean = features.mean(axis=0, dtype=np.float64)
    _, singular, rows = np.linalg.svd(features - mean, full_matrices=False)
    variance = singular**2 / (count - 1)
    residual = float(variance[k:].sum()) / (size - k)
    return NoveltyStatistics(
        mean.astype(np.float32), rows[:k].astype(np.float32), variance[:k].astype(np.float32), max(residual, 1e-12)
    )
