"""Taking noise out of a series before it is resampled: what every method shares, and which is done.

No shipped recipe does it: a network that was trained on noisy images reads smoothed ones worse, and what looks like
noise may be the finding. A recipe for a network that was trained on denoised images names the step.
"""

from dataclasses import replace

import numpy as np

from wetread_preprocess.volumes.noise import noise_sigma
from wetread_preprocess.volumes.non_local_means import non_local_means
from wetread_preprocess.volumes.stack import FloatPlane, Slice, Stack
from wetread_preprocess.volumes.steps import Denoise
from wetread_preprocess.volumes.wavelet import wavelet


def denoise(stack: Stack, step: Denoise, threads: int) -> Stack:
    """Give the stack with its noise taken out: float32 slices in real values, slope 1, intercept 0, no padding.

    The deviation of the noise is estimated once for the series (`noise_sigma`); with none found nothing changes.
    """
    planes = [real_values(one, stack) for one in stack.slices]
    sigma = noise_sigma(planes, stack.floor)
    if sigma > 0:
        nlm = step.method == "nlm"
        planes = non_local_means(planes, step, sigma, threads) if nlm else wavelet(planes, step, sigma)
        if stack.floor is not None:
            for plane in planes:
                np.maximum(plane, np.float32(stack.floor), out=plane)
    slices = tuple(
        replace(one, pixels=plane, slope=1.0, intercept=0.0) for one, plane in zip(stack.slices, planes, strict=True)
    )
    return replace(stack, slices=slices, padding=None)


def real_values(one: Slice, stack: Stack) -> FloatPlane:
    """Give float32 [rows, columns], new: real values, with padding and all below the floor at the floor."""
    values = one.pixels.astype(np.float32)
    values *= np.float32(one.slope)
    values += np.float32(one.intercept)
    if stack.padding is not None:
        low, high = stack.padding
        values[(one.pixels >= low) & (one.pixels <= high)] = 0.0 if stack.floor is None else stack.floor
    if stack.floor is not None:
        np.maximum(values, np.float32(stack.floor), out=values)
    return values
