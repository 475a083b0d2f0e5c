"""Denoising by wavelets: small coefficients are noise, by a threshold for each subband."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from wetread_preprocess.volumes.stack import FloatPlane
from wetread_preprocess.volumes.steps import Denoise

_WAVELET = "sym4"
_MOST_LEVELS = 4

Coefficients = npt.NDArray[np.float32]


def wavelet(planes: Sequence[FloatPlane], step: Denoise, sigma: float) -> list[FloatPlane]:
    """Give new planes, float32 [rows, columns] each, without white noise of deviation `sigma`.

    Soft thresholds by subband, sigma^2 over the deviation of the signal in it, times `strength` (S. G. Chang, B. Yu,
    M. Vetterli, Adaptive wavelet thresholding for image denoising and compression, IEEE TIP 2000), on an orthogonal
    wavelet (Symlet 4) of up to 4 levels; in 2D each plane for itself, in 3D the volume as one, which takes three
    times its size in memory.
    """
    if step.planes == 3 and len(planes) > 1:
        volume = np.stack(planes)
        return list(_denoised(volume, step.strength, sigma))
    return [_denoised(plane, step.strength, sigma) for plane in planes]


def _denoised(values: npt.NDArray[np.float32], strength: float, sigma: float) -> npt.NDArray[np.float32]:
    import pywt  # noqa: PLC0415  # a film-only server does not pay for it

    shape = values.shape
    levels = [max(0, pywt.dwt_max_level(side, _WAVELET)) for side in shape]
    axes = tuple(axis for axis, most in enumerate(levels) if most > 0)
    if not axes:
        return values.copy()
    level = min(_MOST_LEVELS, *(levels[axis] for axis in axes)) if len(axes) > 1 else min(_MOST_LEVELS, levels[axes[0]])
    coefficients = pywt.wavedecn(values, _WAVELET, mode="symmetric", level=level, axes=axes)
    for details in coefficients[1:]:
        for subband in details.values():
            shrink(subband, strength, sigma)
    back = pywt.waverecn(coefficients, _WAVELET, mode="symmetric", axes=axes)
    return np.ascontiguousarray(back[tuple(slice(side) for side in shape)], np.float32)


def shrink(subband: Coefficients, strength: float, sigma: float) -> None:
    """Draw coefficients towards 0 in place by `strength` times the threshold of BayesShrink; all noise becomes 0."""
    if not subband.size:
        return
    power = float(np.mean(np.square(subband), dtype=np.float64))
    signal = power - sigma * sigma
    if signal <= 0:
        subband[...] = 0.0
        return
    threshold = np.float32(strength * sigma * sigma / np.sqrt(signal))
    np.subtract(subband, np.clip(subband, -threshold, threshold), out=subband)
