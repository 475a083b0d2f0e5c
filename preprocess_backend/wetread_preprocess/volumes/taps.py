"""Taps: which samples of one axis make a new one, and with what weights. Every way of resampling is a table of them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wetread_preprocess.volumes.stack import Vector


@dataclass(frozen=True)
class Taps:
    """New sample i = sum over t of weights[i, t] * old sample start[i] + t; all of these exist."""

    start: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]
    """[n, taps]; each row sums to 1."""


def linear_taps(places: Vector, samples: int) -> Taps:
    """Give the taps of linear interpolation at `places`, in samples; beyond the outermost ones their values go on."""
    taps = min(2, samples)
    inner = np.clip(places, 0, samples - 1)
    start = np.clip(np.floor(inner).astype(np.int64), 0, samples - taps)
    part = inner - start
    weights = np.stack([1 - part, part], axis=1) if taps == 2 else np.ones((len(places), 1))
    return Taps(start, np.ascontiguousarray(weights, np.float32))
