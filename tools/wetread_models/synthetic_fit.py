"""Fit the statistical film model to real films."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from wetread_models.synthetic import DRAWN_SIZE, LABELS, ClassModel, FilmModel, radial_bins

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from wetread_models.synthetic import Label

MODEL_SIZE = 112
COMPONENTS = 56
_DEVIATION_SIZE = 28
_RINGS = 64
_SPREADS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
"""Tried from the most varied; the first with enough films read as their class is kept."""


def fit_class(pictures: npt.NDArray[np.uint8], components: int = COMPONENTS) -> ClassModel:
    """Fit one class to films uint8 [n,224,224], n >= 3."""
    small = np.stack([cv2.resize(p, (MODEL_SIZE, MODEL_SIZE), interpolation=cv2.INTER_AREA) for p in pictures])
    flat = small.reshape(len(small), -1).astype(np.float32)
    mean = flat.mean(axis=0)
    centred = flat - mean
    # The films are fewer than the pixels: the eigenvectors of the small Gram matrix give the same components.
    values, vectors = np.linalg.eigh(centred @ centred.T)
    keep = np.argsort(values)[::-1][: min(components, len(flat) - 2)]
    axes = (vectors[:, keep].T @ centred) / np.sqrt(values[keep])[:, None]
    scaled = axes * np.sqrt(values[keep] / (len(flat) - 1))[:, None]
    modelled = mean + (centred @ axes.T) @ axes
    deviation, spectrum = _rest(pictures, modelled.reshape(small.shape))
    shape = (MODEL_SIZE, MODEL_SIZE)
    return ClassModel(mean.reshape(shape), scaled.reshape(-1, *shape), deviation, spectrum, 1.0)


def _rest(
    pictures: npt.NDArray[np.uint8], modelled: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """What the components leave over: standard deviation by place, amplitude by frequency."""
    squares = np.zeros((DRAWN_SIZE, DRAWN_SIZE))
    power = np.zeros((DRAWN_SIZE, DRAWN_SIZE))
    for picture, model in zip(pictures, modelled, strict=True):
        rest = picture - cv2.resize(model, (DRAWN_SIZE, DRAWN_SIZE), interpolation=cv2.INTER_CUBIC)
        squares += rest**2
        power += np.abs(np.fft.fft2(rest)) ** 2
    place = np.sqrt(squares / len(pictures)).astype(np.float32)
    deviation = cv2.resize(place, (_DEVIATION_SIZE, _DEVIATION_SIZE), interpolation=cv2.INTER_AREA)
    ring = radial_bins(DRAWN_SIZE, _RINGS).ravel()
    counts = np.maximum(np.bincount(ring, minlength=_RINGS), 1)
    amplitude = np.sqrt(np.bincount(ring, power.ravel(), _RINGS) / counts)
    return np.asarray(deviation), (amplitude / amplitude.max()).astype(np.float32)


def fit_film_model(
    pictures: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
    read_positive: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.bool_]],
    films: int = 100,
    wanted: float = 0.95,
) -> FilmModel:
    """Fit both classes; each keeps the largest spread at which a share `wanted` of drawn films is read as its class."""
    classes: dict[str, ClassModel] = {label: fit_class(pictures[labels == value]) for value, label in enumerate(LABELS)}
    for value, label in enumerate(LABELS):
        best = 0.0
        fitted = classes[label]
        for spread in _SPREADS:
            tried = FilmModel({label: replace(fitted, spread=spread)})
            right = float((read_positive(draw(tried, label, range(films))) == bool(value)).mean())
            if right > best:
                best, classes[label] = right, tried.classes[label]
            if right >= wanted:
                break
    return FilmModel(classes)


def draw(model: FilmModel, label: Label, seeds: range) -> npt.NDArray[np.uint8]:
    """Films of several seeds at 224 x 224, uint8 [n,224,224]."""
    return np.stack([np.rint(model.picture(seed, label)).astype(np.uint8) for seed in seeds])
