"""Non-local means against its definition, and against scikit-image's."""

import time

import numpy as np
import pytest
from skimage.restoration import denoise_nl_means
from wetread_preprocess.volumes.non_local_means import non_local_means
from wetread_preprocess.volumes.steps import Denoise


def phantom(shape=(12, 40, 44), sigma=10.0):
    """Smooth and sharp tissue as a scanner sees it, an edge over a voxel or two, and the same with noise."""
    z, y, x = np.meshgrid(*[np.linspace(-1.0, 1.0, side) for side in shape], indexing="ij")
    clean = np.where(z**2 + y**2 + x**2 < 0.9, 100.0, 0.0) + np.where((y - 0.2) ** 2 + x**2 < 0.2, 60.0, 0.0)
    clean += 20.0 * y - np.where(np.sin(9 * x + 5 * y + 3 * z) > 0.7, 30.0, 0.0)
    for axis in range(3):
        near = np.moveaxis(np.pad(clean, [(1, 1) if each == axis else (0, 0) for each in range(3)], "edge"), axis, 0)
        clean = np.moveaxis(0.25 * near[:-2] + 0.5 * near[1:-1] + 0.25 * near[2:], 0, axis)
    noisy = clean + np.random.default_rng(6).normal(0, sigma, shape)
    return clean.astype(np.float32), noisy.astype(np.float32)


def denoised(values, sigma=10.0, threads=1, **parameters):
    return np.stack(non_local_means(list(values), Denoise("nlm", **parameters), sigma, threads))


def psnr(values, clean):
    return 10 * np.log10(np.ptp(clean) ** 2 / np.mean((values - clean) ** 2))


def by_definition(values, sigma, strength, patch, search, deep=True, weights="gaussian"):
    """float64, voxel by voxel as the text says it: every displacement, every patch, on the mirrored volume."""
    reach, across = search // 2, patch // 2
    margin = reach + across
    padded = np.pad(values.astype(np.float64), [(margin if deep else 0,) * 2, (margin,) * 2, (margin,) * 2], "reflect")
    h, sums, totals = strength * sigma, np.zeros(values.shape), np.zeros(values.shape)
    planes, rows, columns = values.shape

    def shifted(z, y, x):
        z0, y0, x0 = (margin + z if deep else 0), margin + y, margin + x
        return padded[z0 : z0 + planes, y0 : y0 + rows, x0 : x0 + columns]

    near = range(-across, across + 1)
    width = (patch - 1) / 4
    shares = {n: np.exp(-(n**2) / (2 * width**2)) if weights == "gaussian" and n else 1.0 for n in near}
    for dz in range(-reach, reach + 1) if deep else (0,):
        for dy in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                within = [(z, y, x) for z in (near if deep else (0,)) for y in near for x in near]
                apart = [(shifted(z, y, x) - shifted(z + dz, y + dy, x + dx)) ** 2 for z, y, x in within]
                share = [shares[z] * shares[y] * shares[x] for z, y, x in within]
                distance = np.maximum(np.average(apart, axis=0, weights=share) - 2 * sigma**2, 0) / h**2
                weight = np.where(distance <= 5, np.exp(-distance), 0)
                sums += weight * shifted(dz, dy, dx)
                totals += weight
    return sums / totals


@pytest.mark.parametrize(("patch", "search"), [(3, 5), (5, 3), (1, 3), (3, 1)])
@pytest.mark.parametrize("planes", [2, 3])
@pytest.mark.parametrize("weights", ["gaussian", "even"])
def test_every_voxel_is_what_the_definition_says(weights, planes, patch, search):
    _, noisy = phantom((9, 14, 17))
    found = denoised(noisy, planes=planes, patch=patch, search=search, weights=weights)
    expected = by_definition(noisy, 10.0, 0.8, patch, search, deep=planes == 3, weights=weights)
    assert np.abs(found - expected).max() < 2e-3


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 12, 300), (19, 70, 9), (2, 3, 4), (8, 33, 257)])
def test_tiles_and_slabs_leave_no_seam(shape):
    noisy = np.random.default_rng(7).normal(50, 10, shape).astype(np.float32)
    expected = by_definition(noisy, 10.0, 0.8, 3, 3, deep=shape[0] > 1)
    assert np.abs(denoised(noisy, search=3) - expected).max() < 2e-3


@pytest.mark.parametrize("planes", [2, 3])
def test_any_number_of_threads_gives_the_same_numbers(planes):
    _, noisy = phantom((21, 40, 44))
    alone = denoised(noisy, planes=planes)
    assert np.array_equal(denoised(noisy, planes=planes, threads=2), alone)
    assert np.array_equal(denoised(noisy, planes=planes, threads=7), alone)


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [4.0, 10.0, 25.0])
@pytest.mark.parametrize("planes", [2, 3])
def test_even_weights_leave_no_more_noise_than_scikit_images_fast_mode(planes, sigma):
    clean, noisy = phantom(sigma=sigma)
    settings = {"patch_size": 3, "patch_distance": 3, "h": 0.8 * sigma, "sigma": sigma, "preserve_range": True}
    if planes == 3:
        theirs = denoise_nl_means(noisy, fast_mode=True, **settings)
    else:
        theirs = np.stack([denoise_nl_means(plane, fast_mode=True, **settings) for plane in noisy])
    ours = denoised(noisy, sigma, planes=planes, weights="even")
    assert psnr(ours, clean) > psnr(theirs, clean) - 0.3
    assert psnr(ours, clean) > psnr(noisy, clean) + 2.0


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [2.0, 4.0, 10.0, 25.0])  # below, its numbers overflow at sharp edges
@pytest.mark.parametrize("is_blurred", [True, False])
def test_gaussian_weights_give_what_scikit_images_exact_mode_gives(is_blurred, sigma):
    clean, noisy = phantom((10, 24, 26), sigma)
    if not is_blurred:  # edges of no width
        clean = np.where(clean > 60.0, np.float32(100.0), np.float32(0.0))
        noisy = clean + np.random.default_rng(8).normal(0, sigma, clean.shape).astype(np.float32)
    theirs = denoise_nl_means(noisy, 3, 3, 0.8 * sigma, fast_mode=False, sigma=sigma, preserve_range=True)
    assert abs(psnr(denoised(noisy, sigma), clean) - psnr(theirs, clean)) < 0.1


def test_a_greater_strength_smooths_more():
    _, noisy = phantom()
    changes = [np.abs(denoised(noisy, strength=strength) - noisy).mean() for strength in (0.2, 0.8, 2.0)]
    assert changes[0] < changes[1] < changes[2]


def test_an_edge_far_above_the_noise_stays_where_it_is():
    values = np.zeros((10, 30, 30), np.float32)
    values[:, :, 15:] = 1000.0
    assert np.array_equal(denoised(values), values)


def test_a_level_is_kept_and_the_input_is_not_written_to():
    values = np.full((9, 20, 20), -1024.0, np.float32)
    values.flags.writeable = False
    assert np.array_equal(denoised(values), values)


def test_large_levels_do_not_cost_small_differences():
    _, noisy = phantom()
    assert np.abs(denoised(noisy + np.float32(4096.0)) - 4096.0 - denoised(noisy)).max() < 0.05


@pytest.mark.slow
def test_it_is_faster_than_scikit_images_fast_mode_on_one_thread():
    _, noisy = phantom((24, 96, 128))
    denoised(noisy[:4])  # compiled

    def taken(call):
        started = time.process_time()
        call()
        return time.process_time() - started

    ours = min(taken(lambda: denoised(noisy)) for _ in range(3))
    theirs = taken(lambda: denoise_nl_means(noisy, 3, 3, 8.0, fast_mode=True, sigma=10.0, preserve_range=True))
    assert theirs > 3 * ours
