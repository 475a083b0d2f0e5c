"""Fixed changes to a film under which its reading should hold; the robustness table is made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from wetread_models.augment import add_noise, jpeg, resample
from wetread_models.data import IMAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    Picture = npt.NDArray[np.uint8]


def _window(low: float, high: float) -> Callable[[Picture], Picture]:
    curve = np.clip(np.rint((np.arange(256.0) - low) / (high - low) * 255), 0, 255).astype(np.uint8)
    return lambda picture: curve[picture]


def _gamma(exponent: float) -> Callable[[Picture], Picture]:
    curve = np.rint(255 * (np.arange(256.0) / 255) ** exponent).astype(np.uint8)
    return lambda picture: curve[picture]


def _rotate(picture: Picture, degrees: float) -> Picture:
    middle = (IMAGE_SIZE - 1) / 2
    turn = cv2.getRotationMatrix2D((middle, middle), degrees, 1.0)
    return np.asarray(cv2.warpAffine(picture, turn, (IMAGE_SIZE, IMAGE_SIZE)), dtype=np.uint8)


def _crop(picture: Picture, share: float) -> Picture:
    edge = round(share * IMAGE_SIZE)
    inner = np.ascontiguousarray(picture[edge:-edge, edge:-edge])
    return np.asarray(cv2.resize(inner, (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _mask(picture: Picture, share: float) -> Picture:
    edge = round(share * IMAGE_SIZE)
    masked = np.zeros_like(picture)
    masked[edge:-edge, edge:-edge] = picture[edge:-edge, edge:-edge]
    return masked


def _equalise(picture: Picture) -> Picture:
    return np.asarray(cv2.equalizeHist(picture), dtype=np.uint8)


def _noise(picture: Picture) -> Picture:
    # Seeded by the film itself: the same film gets the same noise in any order.
    return add_noise(picture, 10, np.random.default_rng(int(picture.sum(dtype=np.int64))))


PERTURBATIONS: Mapping[str, Callable[[Picture], Picture]] = {
    "as it is": lambda picture: picture,
    "window narrower (25-230)": _window(25, 230),
    "window wider (-60-315)": _window(-60, 315),
    "gamma 0.7": _gamma(0.7),
    "gamma 1.4": _gamma(1.4),
    "histogram equalised": _equalise,
    "half resolution": lambda picture: resample(picture, 0.5),
    "rotated by 7 degrees": lambda picture: _rotate(picture, 7),
    "noise, SD 10": _noise,
    "JPEG quality 40": lambda picture: jpeg(picture, 40),
    "borders cropped by 5 %": lambda picture: _crop(picture, 0.05),
    "borders cropped by 12 %": lambda picture: _crop(picture, 0.12),
    "borders masked, 10 %": lambda picture: _mask(picture, 0.10),
    "mirrored": lambda picture: np.ascontiguousarray(picture[:, ::-1]),
}
