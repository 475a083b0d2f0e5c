"""Taps: which samples of one axis make a new one, and with what weights. Every way of resampling is a table of them.

- Linear: two taps; beyond the outermost samples their values go on.
- B-spline: the cubic spline through the samples, its ends mirrored, as SimpleITK's `sitkBSpline`. A recursive filter
  would make its coefficients; here the filter's response, which falls by 3.7 a sample, is cut after eight samples and
  multiplied into the four weights of the spline: 20 taps, 3e-5 of the range off at most.
- Anti-aliasing, along an axis that is made coarser: a Gaussian before either of them, of
  variance = (new spacing^2 - old spacing^2) / (8 ln 2) mm^2, which makes a point seen at the old spacing as wide as one
  seen at the new (Cardoso et al., MICCAI 2015). It is the discrete Gaussian (Lindeberg, PAMI 1990) with the ends'
  values going on, cut where it holds 99 %: what SimpleITK's `DiscreteGaussian` does unless told otherwise.

Slices at unequal distances have no such spline and no such Gaussian: along the normal they are interpolated linearly,
after a Gaussian of the true distances.
"""

from dataclasses import dataclass
from math import exp, log

import numpy as np
import numpy.typing as npt

from wetread_preprocess.volumes.stack import Vector
from wetread_preprocess.volumes.steps import Interpolation

_POLE = 3**0.5 - 2
_REACH = 8
_HELD = 0.99
_MOST_GAUSSIAN = 32
_UNEVEN = 0.01
"""Share of the median distance that slices' distances may differ by and still count as equal."""
_COARSER = 1.001
"""Times the old spacing: below this a Gaussian would change nothing that shows, and cost its taps."""

Sources = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Taps:
    """New sample i = sum over t of weights[i, t] * old sample start[i] + t; all of these exist."""

    start: npt.NDArray[np.int32]
    """[n], or [tables, n]."""
    weights: npt.NDArray[np.float32]
    """[n, taps], or [tables, n, taps]; each row sums to 1."""

    @property
    def table(self) -> tuple[int, int, int, int, int]:
        """For the kernels (`planes.Table`); valid while this object lives."""
        count, taps = self.weights.shape[-2:]
        return self.start.ctypes.data, self.weights.ctypes.data, self.start.size // count, count, taps

    def widened(self, taps: int, count: int) -> "Taps":
        """The same with rows of `taps`, of `count` old samples."""
        sources = self.start[:, None] + np.arange(self.weights.shape[1])
        return _gathered(sources.astype(np.int64), self.weights.astype(np.float64), count, taps)


def taps_at(
    places_mm: Vector, samples_mm: Vector, new_spacing_mm: float, interpolation: Interpolation, anti_alias: bool
) -> Taps:
    """Give the taps of new samples at `places_mm` out of those at `samples_mm`, which increase."""
    count = len(samples_mm)
    distances = np.diff(samples_mm)
    spacing = float(np.median(distances)) if count > 1 else new_spacing_mm
    even = count < 2 or bool(np.abs(distances - spacing).max() <= _UNEVEN * spacing)
    places = np.interp(places_mm, samples_mm, np.arange(count))
    sources, weights = (_bspline if interpolation == "bspline" and even and count > 1 else _linear)(places, count)
    if anti_alias and new_spacing_mm > spacing * _COARSER:
        variance = (new_spacing_mm**2 - spacing**2) / (8 * log(2))
        if even:
            near, share = _discrete_gaussian(count, variance / spacing**2)
        else:
            near, share = _uneven_gaussian(samples_mm, variance)
        weights = (weights[:, :, None] * share[sources]).reshape(len(places), -1)
        sources = near[sources].reshape(len(places), -1)
    return _gathered(sources, weights, count)


def _linear(places: Vector, count: int) -> tuple[Sources, Vector]:
    start = np.clip(np.floor(places).astype(np.int64), 0, max(count - 2, 0))
    part = places - start
    return np.minimum(start[:, None] + [0, 1], count - 1), np.stack([1 - part, part], axis=1)


def _bspline(places: Vector, count: int) -> tuple[Sources, Vector]:
    first = np.floor(places).astype(np.int64) - 1
    away = np.abs(places[:, None] - first[:, None] - np.arange(4))
    spline = np.where(away < 1, 2 / 3 - away**2 + away**3 / 2, np.clip(2 - away, 0, None) ** 3 / 6)
    response = -6 * _POLE / (1 - _POLE**2) * _POLE ** np.abs(np.arange(-_REACH, _REACH + 1))
    weights = np.apply_along_axis(np.convolve, 1, spline, response)
    sources = first[:, None] - _REACH + np.arange(weights.shape[1])
    sources = np.abs(sources) % (2 * (count - 1))  # mirrored at both ends, again and again where there are few
    return np.minimum(sources, 2 * (count - 1) - sources), weights / weights.sum(axis=1, keepdims=True)


def _discrete_gaussian(count: int, variance: float) -> tuple[Sources, Vector]:
    """Give for each sample those that are near and their shares; `variance`: in samples squared."""
    half = [exp(-variance) * _bessel(0, variance)]
    while half[0] + 2 * sum(half[1:]) < _HELD and len(half) <= _MOST_GAUSSIAN:
        half.append(exp(-variance) * _bessel(len(half), variance))
    if len(half) == 1:
        half.append(exp(-variance) * _bessel(1, variance))
    kernel = np.array(half[:0:-1] + half)
    near = np.arange(count)[:, None] + np.arange(1 - len(half), len(half))
    return np.clip(near, 0, count - 1), np.tile(kernel / kernel.sum(), (count, 1))


def _bessel(order: int, value: float) -> float:
    """Give the modified Bessel function of the first kind, by its series."""
    term = 1.0
    for n in range(1, order + 1):
        term *= value / 2 / n
    total, n = term, 1
    while term > 1e-17 * total:
        term *= (value / 2) ** 2 / (n * (n + order))
        total, n = total + term, n + 1
    return total


def _uneven_gaussian(samples_mm: Vector, variance: float) -> tuple[Sources, Vector]:
    """Give for each sample those within three standard deviations, each weighed by the length that it stands for."""
    reach = 3 * variance**0.5
    first = np.searchsorted(samples_mm, samples_mm - reach)
    after = np.searchsorted(samples_mm, samples_mm + reach, side="right")
    near = first[:, None] + np.arange(int((after - first).max()))
    held = near < after[:, None]
    near = np.minimum(near, len(samples_mm) - 1)
    share = np.exp(-((samples_mm[near] - samples_mm[:, None]) ** 2) / (2 * variance))
    share *= np.gradient(samples_mm)[near] * held
    return near, share / share.sum(axis=1, keepdims=True)


def _gathered(sources: Sources, weights: Vector, count: int, least: int = 1) -> Taps:
    """Bring sources in any order to runs of neighbours of one length."""
    first = sources.min(axis=1)
    taps = max(least, int((sources.max(axis=1) - first).max()) + 1)
    start = np.minimum(first, count - taps)
    table = np.zeros((len(sources), taps))
    np.add.at(table, (np.arange(len(sources))[:, None], sources - start[:, None]), weights)
    return Taps(start.astype(np.int32), table.astype(np.float32))
