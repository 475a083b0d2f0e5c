"""Fit the statistical film model to real films: an active appearance model (Cootes, Edwards, Taylor 1998)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from wetread_models.synthetic import DRAWN_SIZE, LABELS, ClassModel, FilmModel

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from wetread_models.synthetic import Floats, Label

    Pictures = npt.NDArray[np.uint8]

FILMS = 600
"""Of each class at most; more change little."""
TEXTURE_SIZE, TEXTURE_COMPONENTS = 112, 60
SHAPE_SIZE, SHAPE_COMPONENTS = 28, 24
_ROUNDS = 4
"""The mean film sharpens with every round of registration and stays the same after about four."""
_SMOOTHING = 6.0
"""Standard deviation in pixels over which a displacement is averaged: bodies bend, they do not tear."""
_SPREADS = (0.8, 0.7, 0.6, 0.5, 0.4)
"""Tried from the most varied; the first with enough films read as their class is kept. Above 0.8, coefficients drawn
independently make shapes that no film has: NOVELTY rises."""


def fit_class(pictures: Pictures) -> ClassModel:
    """Fit one class to films uint8 [n,224,224], n >= 3."""
    bent, shifts = _register(pictures)
    mean = bent.mean(axis=0, dtype=np.float64).astype(np.float32)
    small = np.stack([cv2.resize(b, (TEXTURE_SIZE, TEXTURE_SIZE), interpolation=cv2.INTER_AREA) for b in bent])
    coarse = np.stack([cv2.resize(s, (SHAPE_SIZE, SHAPE_SIZE), interpolation=cv2.INTER_AREA) for s in shifts])
    _, texture = _components(small.astype(np.float32), TEXTURE_COMPONENTS)
    shape_mean, shape = _components(coarse, SHAPE_COMPONENTS)
    return ClassModel(mean, texture, shape_mean, shape, 1.0)


def _register(pictures: Pictures) -> tuple[Pictures, Floats]:
    """Bend every film to the mean shape: the bent films [n,224,224] and the displacements [n,224,224,2]."""
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    even = cv2.createCLAHE(2, (8, 8))
    y, x = np.mgrid[:DRAWN_SIZE, :DRAWN_SIZE].astype(np.float32)
    template = pictures.mean(axis=0).astype(np.uint8)
    bent = np.empty_like(pictures)
    shifts = np.empty((*pictures.shape, 2), dtype=np.float32)
    for _ in range(_ROUNDS):
        target = even.apply(template)
        for index, picture in enumerate(pictures):
            found = flow.calc(target, even.apply(picture), None)
            shift = shifts[index] = cv2.GaussianBlur(found, (0, 0), _SMOOTHING)
            bent[index] = cv2.remap(
                picture, x + shift[..., 0], y + shift[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
        template = bent.mean(axis=0).astype(np.uint8)
    return bent, shifts


def _components(samples: Floats, count: int) -> tuple[Floats, Floats]:
    """Mean and principal components of samples [n,...], each component scaled to one standard deviation."""
    flat = samples.reshape(len(samples), -1)
    mean = flat.mean(axis=0)
    centred = flat - mean
    # The films are fewer than the pixels: the eigenvectors of the small Gram matrix give the same components.
    values, vectors = np.linalg.eigh((centred @ centred.T).astype(np.float64))
    keep = np.argsort(values)[::-1][: min(count, len(flat) - 2)]
    scaled = (vectors[:, keep].T @ centred) / np.sqrt(len(flat) - 1)
    shape = samples.shape[1:]
    return mean.reshape(shape), scaled.reshape(-1, *shape).astype(np.float32)


def fit_film_model(
    pictures: Pictures,
    labels: npt.NDArray[np.int64],
    read_positive: Callable[[Pictures], npt.NDArray[np.bool_]],
    films: int,
    wanted: float = 0.95,
) -> FilmModel:
    """Fit both classes to films of mixed order.

    Each keeps the largest spread at which a share `wanted` of drawn films is read as its class.
    """
    classes: dict[str, ClassModel] = {}
    for value, label in enumerate(LABELS):
        best = 0.0
        fitted = classes[label] = fit_class(pictures[labels == value][:FILMS])
        for spread in _SPREADS:
            tried = FilmModel({label: replace(fitted, spread=spread)})
            right = float((read_positive(draw(tried, label, range(films))) == bool(value)).mean())
            if right > best:
                best, classes[label] = right, tried.classes[label]
            if right >= wanted:
                break
    return FilmModel(classes)


def draw(model: FilmModel, label: Label, seeds: range) -> Pictures:
    """Films of several seeds at 224 x 224, uint8 [n,224,224]."""
    return np.stack([np.rint(model.picture(seed, label)).astype(np.uint8) for seed in seeds])
