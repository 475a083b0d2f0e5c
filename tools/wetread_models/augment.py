"""Random films from one film: everything that differs between hospitals and says nothing about the lung."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from wetread_models.data import IMAGE_SIZE

if TYPE_CHECKING:
    import numpy.typing as npt

    Picture = npt.NDArray[np.uint8]
    Random = np.random.Generator

_BORDERS = (cv2.BORDER_CONSTANT, cv2.BORDER_REPLICATE, cv2.BORDER_REFLECT_101)


def augment(picture: Picture, other: Picture, rng: Random) -> Picture:
    """One random variant of a film (uint8 [224,224]); `other` is any film, whose gray levels this one may be given."""
    picture = _tone(picture, other, rng)[picture]
    if rng.random() < 0.1:
        picture = cv2.createCLAHE(rng.uniform(1, 4), (8, 8)).apply(picture)
    picture = _geometry(picture, rng)
    if rng.random() < 0.4:
        picture = _cover_corners(picture, rng)
    if rng.random() < 0.25:
        picture = _frame(picture, rng)
    if rng.random() < 0.55:
        picture = _resolution(picture, rng)
    if rng.random() < 0.4:
        picture = add_noise(picture, rng.uniform(1, 12), rng)
    if rng.random() < 0.5:
        picture = jpeg(picture, int(rng.integers(30, 96)))
    return picture


def match_levels(picture: Picture, other: Picture) -> npt.NDArray[np.float64]:
    """The look-up table [256] that gives a film the distribution of gray levels of another."""
    mine, theirs = (np.cumsum(np.bincount(p.ravel(), minlength=256)) / p.size for p in (picture, other))
    return np.interp(mine, theirs, np.arange(256.0))


def _tone(picture: Picture, other: Picture, rng: Random) -> Picture:
    """A monotone curve: the other film's levels, gamma, another window, in random amounts; one look-up table."""
    curve = np.arange(256.0)
    if rng.random() < 0.4:
        share = rng.uniform(0.3, 1)
        curve = share * match_levels(picture, other) + (1 - share) * curve
    if rng.random() < 0.5:
        curve = 255 * (curve / 255) ** np.exp(rng.uniform(-0.5, 0.5))
    if rng.random() < 0.7:
        low, high = rng.uniform(-50, 45), rng.uniform(205, 310)
        curve = (curve - low) / (high - low) * 255
    return np.asarray(np.clip(np.rint(curve), 0, 255), dtype=np.uint8)


def _geometry(picture: Picture, rng: Random) -> Picture:
    """Crop each border by 0-12 %, stretch back, flip, rotate, scale, shift: one affine map."""
    size = IMAGE_SIZE
    left, right, top, bottom = rng.uniform(0, 0.12, 4) * size * (rng.random() < 0.8)
    scale = np.diag([size / (size - left - right), size / (size - top - bottom), 1.0])
    crop = scale @ np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1.0]])
    if rng.random() < 0.5:
        crop = np.array([[-1, 0, size - 1.0], [0, 1, 0], [0, 0, 1]]) @ crop
    angle, zoom = rng.uniform(-10, 10), rng.uniform(0.88, 1.1)
    turn = cv2.getRotationMatrix2D(((size - 1) / 2, (size - 1) / 2), angle, zoom)
    turn[:, 2] += rng.uniform(-0.05, 0.05, 2) * size
    border = _BORDERS[rng.integers(len(_BORDERS))]
    fill = int(rng.integers(256)) if rng.random() < 0.3 else 0
    warped = cv2.warpAffine(
        picture, turn @ crop, (size, size), flags=cv2.INTER_LINEAR, borderMode=border, borderValue=fill
    )
    return np.asarray(warped, dtype=np.uint8)


def _cover_corners(picture: Picture, rng: Random) -> Picture:
    """Cover one to three corners, where the side markers and labels sit."""
    picture = picture.copy()
    for corner in rng.permutation(4)[: rng.integers(1, 4)]:
        height, width = (rng.uniform(0.06, 0.25, 2) * IMAGE_SIZE).astype(int)
        rows = slice(0, height) if corner < 2 else slice(IMAGE_SIZE - height, IMAGE_SIZE)
        columns = slice(0, width) if corner % 2 else slice(IMAGE_SIZE - width, IMAGE_SIZE)
        here = picture[rows, columns]
        here[:] = here.mean() if rng.random() < 0.5 else rng.integers(256)
    return picture


def _frame(picture: Picture, rng: Random) -> Picture:
    """Bars of one gray level along random sides, as a collimator or a badly cut film leaves them."""
    picture = picture.copy()
    level = rng.choice([0, 255, rng.integers(256)])
    for view in (picture, picture[::-1], picture.T, picture.T[::-1]):
        if rng.random() < 0.5:
            view[: rng.integers(1, IMAGE_SIZE // 12)] = level
    return picture


def _resolution(picture: Picture, rng: Random) -> Picture:
    """Softer or sharper than it was: the classes come from scanners of different resolution."""
    kind = rng.random()
    if kind < 0.55:
        return resample(picture, rng.uniform(0.3, 1))
    soft = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 1.4))
    if kind < 0.75:
        return np.asarray(soft, dtype=np.uint8)
    amount = rng.uniform(0.3, 1.5)
    return np.asarray(cv2.addWeighted(picture, 1 + amount, soft, -amount, 0), dtype=np.uint8)


def resample(picture: Picture, factor: float) -> Picture:
    """Down to `factor` of the size and up again."""
    size = max(8, round(IMAGE_SIZE * factor))
    small = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def add_noise(picture: Picture, deviation: float, rng: Random) -> Picture:
    """Gaussian noise of the given standard deviation in gray levels."""
    noise = rng.standard_normal(picture.shape, dtype=np.float32) * np.float32(deviation)
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


def jpeg(picture: Picture, quality: int) -> Picture:
    """Through a JPEG file of the given quality (1-100)."""
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), dtype=np.uint8)
