"""NOVELTY: how far a film's features lie from the films the classifier has learnt from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FeatureStatistics:
    """A Gaussian over features: full along its principal components, one variance across what they leave."""

    mean: Vector
    """[F]"""
    components: Vector
    """[k, F], rows orthonormal."""
    variance: Vector
    """[k], along each component."""
    residual_variance: float
    """Of the squared length of what the components leave."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the four arrays of `novelty.npz`.

        Raises:
            ValueError: an array is missing or of another shape.
        """
        with np.load(path, allow_pickle=False) as arrays:
            if missing := {"mean", "components", "variance", "residual_variance"} - set(arrays.files):
                raise ValueError(f"{path}: {sorted(missing)} missing")
            mean, components, variance = (
                arrays[name].astype(np.float32) for name in ("mean", "components", "variance")
            )
            residual = float(arrays["residual_variance"])
        if components.shape != (variance.size, mean.size) or not (variance > 0).all() or not residual > 0:
            raise ValueError(
                f"{path}: components are {components.shape} for {variance.size} variances and {mean.size} features"
            )
        return cls(mean, components, variance, residual)

    def distance(self, features: Vector) -> float:
        """The Mahalanobis distance of `features` [F]."""
        centred = features - self.mean
        along = self.components @ centred
        squared = along * along
        residual = max(float(centred @ centred) - float(squared.sum()), 0.0)
        return float(np.sqrt((squared / self.variance).sum() + residual / self.residual_variance))
