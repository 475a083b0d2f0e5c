"""Wavelet thresholding: noise goes, images stay."""

import numpy as np
import pytest
from wetread_preprocess.volumes.steps import Denoise
from wetread_preprocess.volumes.wavelet import shrink, wavelet


def phantom(shape=(16, 64, 60), sigma=10.0):
    z, y, x = np.meshgrid(*[np.linspace(-1.0, 1.0, side) for side in shape], indexing="ij")
    clean = 100.0 / (1.0 + np.exp(20.0 * (z**2 + y**2 + x**2 - 0.8))) + 40.0 * np.sin(4 * x + 2 * y) * np.cos(3 * z)
    noisy = clean + np.random.default_rng(8).normal(0, sigma, shape)
    return clean.astype(np.float32), noisy.astype(np.float32)


def denoised(values, sigma=10.0, planes=3, strength=1.0):
    return np.stack(wavelet(list(values), Denoise("wavelet", planes=planes, strength=strength), sigma))


def error(values, clean):
    return float(np.sqrt(np.mean((values - clean) ** 2)))


@pytest.mark.parametrize("sigma", [3.0, 10.0, 30.0])
@pytest.mark.parametrize("planes", [2, 3])
def test_most_of_the_noise_goes(planes, sigma):
    clean, noisy = phantom(sigma=sigma)
    assert error(denoised(noisy, sigma, planes), clean) < 0.6 * error(noisy, clean)


def test_the_volume_as_one_tells_more_than_its_slices():
    clean, noisy = phantom((32, 64, 60))
    assert error(denoised(noisy, planes=3), clean) < error(denoised(noisy, planes=2), clean)


@pytest.mark.parametrize("planes", [2, 3])
def test_without_noise_nothing_is_lost(planes):
    clean, _ = phantom()
    assert np.abs(denoised(clean, 1e-6, planes) - clean).max() < 1e-2


def test_a_greater_strength_smooths_more():
    _, noisy = phantom()
    changes = [np.abs(denoised(noisy, strength=strength) - noisy).mean() for strength in (0.1, 1.0, 3.0)]
    assert changes[0] < changes[1] < changes[2]


@pytest.mark.parametrize("shape", [(1, 33, 47), (3, 5, 6), (5, 64, 3), (17, 31, 29)])
@pytest.mark.parametrize("planes", [2, 3])
def test_any_shape_comes_back_as_it_was(planes, shape):
    values = np.random.default_rng(9).normal(40, 5, shape).astype(np.float32)
    result = denoised(values, 5.0, planes)
    assert result.shape == shape
    assert result.dtype == np.float32
    assert abs(result.mean() - values.mean()) < 1.0
    assert not np.shares_memory(result, values)


def test_in_2d_a_slice_does_not_see_its_neighbours():
    _, noisy = phantom()
    other = noisy.copy()
    other[1:] = 0
    assert np.array_equal(denoised(noisy, planes=2)[0], denoised(other, planes=2)[0])


def test_a_subband_of_noise_alone_becomes_zero_and_one_of_signal_is_drawn_in_by_the_threshold():
    noise = np.random.default_rng(1).normal(0, 0.9, (40, 40)).astype(np.float32)
    shrink(noise, 1.0, 1.0)
    assert not noise.any()
    signal = np.array([30.0, -30.0, 0.01, 30.0], np.float32)
    power = np.mean(signal.astype(np.float64) ** 2)
    shrink(signal, 2.0, 3.0)
    threshold = 2.0 * 9.0 / np.sqrt(power - 9.0)
    assert np.allclose(signal, [30.0 - threshold, threshold - 30.0, 0.0, 30.0 - threshold], atol=1e-4)
