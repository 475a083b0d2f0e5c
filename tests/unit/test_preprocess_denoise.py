"""How much noise there is, and what becomes of a stack whose noise is taken out."""

import numpy as np
import pytest
from wetread_preprocess.volumes.denoise import denoise
from wetread_preprocess.volumes.noise import noise_sigma
from wetread_preprocess.volumes.stack import Slice, Stack
from wetread_preprocess.volumes.steps import Denoise

METHODS = ("nlm", "wavelet")


def tissue(shape=(10, 96, 90)):
    """0 to 160, an edge over a voxel or two, and where it is not air."""
    z, y, x = np.meshgrid(*[np.linspace(-1.0, 1.0, side) for side in shape], indexing="ij")
    radius = np.sqrt(0.3 * z**2 + y**2 + x**2)
    body = 100.0 / (1.0 + np.exp(40.0 * (radius - 0.85)))
    return body + 60.0 / (1.0 + np.exp(30.0 * (np.hypot(y - 0.2, x) - 0.3))), radius < 0.8


def stack_of(pixels, slope=1.0, intercept=0.0, padding=None, floor=None):
    slices = tuple(
        Slice(n + 1, 0, f"1.2.{n}", (0.0, 0.0, float(n)), slope, intercept, plane) for n, plane in enumerate(pixels)
    )
    return Stack(slices, (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 1.0), padding, floor)


def noisy_ct(sigma=20.0, seed=1):
    """int16 stored values of a CT (intercept -1024), padding -3024 outside a circle, noise, and the HU below it."""
    clean, _ = tissue()
    hounsfield = np.maximum(clean * 6.0 - 900.0, -1000.0)
    noisy = hounsfield + np.random.default_rng(seed).normal(0, sigma, clean.shape)
    stored = np.clip(np.round(noisy + 1024.0), 0, 4095).astype(np.int16)
    y, x = np.meshgrid(*[np.linspace(-1.0, 1.0, side) for side in clean.shape[1:]], indexing="ij")
    stored[:, np.hypot(y, x) > 1.0] = -2000
    return stored, hounsfield, np.hypot(y, x) <= 1.0


@pytest.mark.parametrize("sigma", [2.0, 5.0, 10.0, 20.0, 40.0])
def test_the_noise_of_tissue_is_found_within_a_tenth(sigma):
    clean, _ = tissue()
    noisy = (clean + np.random.default_rng(2).normal(0, sigma, clean.shape)).astype(np.float32)
    assert abs(noise_sigma(list(noisy), -1000.0) / sigma - 1.0) < 0.1


@pytest.mark.parametrize("sigma", [2.0, 5.0, 10.0, 20.0])
def test_the_noise_of_tissue_is_found_within_a_tenth_where_most_is_empty_or_magnitude_noise(sigma):
    clean, body = tissue()
    rng = np.random.default_rng(3)
    noise = rng.normal(0, sigma, (2, *clean.shape))
    magnitude = np.where(body, np.abs(clean + noise[0]), np.hypot(*noise)).astype(np.float32)
    assert abs(noise_sigma(list(magnitude), None) / sigma - 1.0) < 0.1
    magnitude[:, :60] = 0.0  # defaced
    assert abs(noise_sigma(list(magnitude), None) / sigma - 1.0) < 0.1


def test_more_noise_is_more_noise():
    clean, _ = tissue()
    noise = np.random.default_rng(4).normal(0, 1.0, clean.shape)
    found = [noise_sigma(list((clean + factor * noise).astype(np.float32)), -1000.0) for factor in range(1, 30, 3)]
    assert (np.diff(found) > 0).all()


def test_an_even_image_has_no_noise():
    assert noise_sigma([np.full((40, 40), 7.0, np.float32)] * 4, None) == 0.0


def test_a_slope_has_no_noise():
    plane = np.add.outer(np.arange(40.0), 2 * np.arange(50.0)).astype(np.float32) + 1.0
    assert noise_sigma([plane] * 4, None) == 0.0


@pytest.mark.parametrize("shape", [(2, 50), (50, 1), (4, 4)])
def test_too_few_voxels_tell_no_noise(shape):
    planes = [np.random.default_rng(5).normal(9, 1, shape).astype(np.float32)]
    assert noise_sigma(planes, None) == 0.0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("planes", [2, 3])
def test_a_ct_comes_nearer_to_the_truth_and_padding_becomes_air(method, planes):
    stored, truth, seen = noisy_ct()
    result = denoise(
        stack_of(stored, intercept=-1024.0, padding=(-2000, -2000), floor=-1024.0), Denoise(method, planes), 1
    )
    values = np.stack([one.pixels for one in result.slices])
    before, after = (stored - 1024.0 - truth)[:, seen], (values - truth)[:, seen]
    assert np.std(after) < 0.75 * np.std(before)
    assert values.min() >= -1024.0
    corner = values[:, :8, :8]
    assert np.abs(corner + 1024.0).max() < (1e-3 if method == "nlm" else 60.0)


@pytest.mark.parametrize("method", METHODS)
def test_the_stack_says_that_its_values_are_real_ones(method):
    stored, _, _ = noisy_ct()
    given = stack_of(stored, 1.0, -1024.0, (-2000, -2000), -1024.0)
    result = denoise(given, Denoise(method), 2)
    assert result.padding is None
    assert result.floor == -1024.0
    assert {(one.slope, one.intercept) for one in result.slices} == {(1.0, 0.0)}
    assert all(one.pixels.dtype == np.float32 and one.pixels.shape == (96, 90) for one in result.slices)
    assert [one.sop_instance_uid for one in result.slices] == [one.sop_instance_uid for one in given.slices]
    assert np.array_equal(result.positions_mm, given.positions_mm)
    assert given.slices[0].pixels is stored[0] or np.array_equal(given.slices[0].pixels, noisy_ct()[0][0])


@pytest.mark.parametrize("method", METHODS)
def test_a_slope_of_the_scanner_changes_nothing_but_the_unit(method):
    clean, _ = tissue()
    stored = np.round(10 * (clean + 50 + np.random.default_rng(6).normal(0, 5, clean.shape))).astype(np.uint16)
    one = denoise(stack_of(stored), Denoise(method), 1)
    tenth = denoise(stack_of(stored, slope=0.1), Denoise(method), 1)
    assert np.allclose(one.slices[4].pixels * 0.1, tenth.slices[4].pixels, atol=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_a_stack_without_noise_keeps_its_values(method):
    pixels = np.full((4, 30, 30), 12, np.int16)
    result = denoise(stack_of(pixels, 2.0, 1.0), Denoise(method), 1)
    assert all(np.array_equal(one.pixels, np.full((30, 30), 25.0)) for one in result.slices)
