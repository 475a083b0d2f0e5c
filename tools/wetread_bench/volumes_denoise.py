"""Denoising against scikit-image on a crop of the MR with known noise added: time, and how near to clean it comes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from wetread_preprocess.volumes.denoise import denoise
from wetread_preprocess.volumes.noise import noise_sigma
from wetread_preprocess.volumes.steps import Denoise

from wetread_bench.volumes_rows import OURS, Check, Findings, Way, in_turns
from wetread_bench.volumes_stack import as_values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wetread_preprocess.volumes.stack import Stack

    Values = npt.NDArray[np.float32]

NLM, WAVELET = "non-local means 3D", "wavelet 3D"
SLOW, FAST, SKIMAGE = "scikit-image, fast_mode=False", "scikit-image, fast_mode=True", "scikit-image"
CROP = (24, 96, 96)
NOISE_OF_RANGE = 0.05
"""Standard deviation of what is added to the crop, whose own noise is a small part of it; a CT's own is as large."""
_SEED = 7
_MOST_PSNR_DB = 0.3
_MOST_WAVELET_DB = 1.0  # scikit-image's threshold and wavelet are others


def compare_denoising(stack: Stack, rounds: int, slow_rounds: int, crop: tuple[int, int, int] = CROP) -> Findings:
    """Time non-local means and wavelets on one thread; the same patch, search, filter parameter and sigma for all."""
    clean, noisy, added = noisy_crop(stack, crop)
    step = Denoise("nlm", 3)
    sigma = noise_sigma([one.pixels.astype(np.float32) for one in noisy.slices], None)
    values = np.stack([one.pixels for one in noisy.slices]).astype(np.float32)
    makers: dict[str, Callable[[], Values]] = {
        OURS: _ours(noisy, step),
        FAST: _skimage(values, step, sigma, fast=True),
        SLOW: _skimage(values, step, sigma, fast=False),
    }
    psnrs: dict[str, float] = {}
    slow = {SLOW: slow_rounds}
    ways = [Way(name, make, slow.get(name)) for name, make in makers.items()]
    makers[OURS]()  # its kernels are loaded
    rows = in_turns(NLM, "mr", 1, ways, rounds, lambda way, made: psnrs.update({way: psnr(as_values(made), clean)}))
    checks = [_lost(NLM, way, psnrs, _MOST_PSNR_DB) for way in (SLOW, FAST)]
    found = _compare_wavelets(noisy, clean, values, sigma, rounds)
    numbers = {f"{NLM}, PSNR dB, {name}": round(value, 3) for name, value in psnrs.items()}
    numbers |= {"crop, PSNR dB, noisy": round(psnr(values, clean), 3), "crop, sigma estimated": round(sigma, 3),
                "crop, sigma added": round(added, 3)}  # fmt: skip
    return Findings(rows, tuple(checks), numbers) + found


def _compare_wavelets(noisy: Stack, clean: Values, values: Values, sigma: float, rounds: int) -> Findings:
    from skimage.restoration import denoise_wavelet  # noqa: PLC0415

    def theirs() -> Values:
        made: Values = denoise_wavelet(values, sigma=sigma, wavelet="sym4", mode="soft", method="BayesShrink")
        return made

    makers = {OURS: _ours(noisy, Denoise("wavelet", 3, 1.0)), SKIMAGE: theirs}
    psnrs = {name: psnr(make(), clean) for name, make in makers.items()}
    rows = in_turns(WAVELET, "mr", 1, [Way(name, make) for name, make in makers.items()], rounds)
    check = _lost(WAVELET, SKIMAGE, psnrs, _MOST_WAVELET_DB)
    return Findings(rows, (check,), {f"{WAVELET}, PSNR dB, {name}": round(value, 3) for name, value in psnrs.items()})


def _lost(step: str, way: str, psnrs: Mapping[str, float], most: float) -> Check:
    lost = max(psnrs[way] - psnrs[OURS], 0.0)  # better than scikit-image is no error
    return Check(step, "mr", way, "PSNR lost against it, dB", round(lost, 4), most)


def noisy_crop(stack: Stack, crop: tuple[int, int, int]) -> tuple[Values, Stack, float]:
    """Give the middle of a stack in real values, the same with white noise as a stack of its own, the noise's SD."""
    starts = [(side - want) // 2 if side > want else 0 for side, want in zip(stack.shape, crop, strict=True)]
    first, rows, columns = (slice(at, at + want) for at, want in zip(starts, crop, strict=True))
    planes = [
        one.pixels[rows, columns].astype(np.float32) * np.float32(one.slope) + np.float32(one.intercept)
        for one in stack.slices[first]
    ]
    clean = np.stack(planes)
    added = NOISE_OF_RANGE * float(clean.max() - clean.min())
    noisy = clean + np.random.default_rng(_SEED).normal(0, added, clean.shape).astype(np.float32)
    slices = (
        replace(one, pixels=plane, slope=1.0, intercept=0.0)
        for one, plane in zip(stack.slices[first], noisy, strict=True)
    )
    return clean, replace(stack, slices=tuple(slices), padding=None, floor=None), added


def psnr(values: Values, clean: Values) -> float:
    """Peak signal to noise in dB, the peak being the range of the clean values."""
    error = float(np.mean((values.astype(np.float64) - clean) ** 2))
    return float(10 * np.log10((float(clean.max()) - float(clean.min())) ** 2 / error))


def _ours(noisy: Stack, step: Denoise) -> Callable[[], Values]:
    def make() -> Values:
        return np.stack([one.pixels for one in denoise(noisy, step, 1).slices]).astype(np.float32, copy=False)

    return make


def _skimage(values: Values, step: Denoise, sigma: float, *, fast: bool) -> Callable[[], Values]:
    from skimage.restoration import denoise_nl_means  # noqa: PLC0415

    def make() -> Values:
        made: Values = denoise_nl_means(
            values, step.patch, step.search // 2, step.strength * sigma, fast, sigma, preserve_range=True
        )
        return made

    return make
