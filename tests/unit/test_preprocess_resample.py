"""Resampling against SimpleITK on the same grid; what is stored, where it goes, and how many threads do it."""

from __future__ import annotations

import dataclasses
from math import log

import numpy as np
import pytest
import SimpleITK
from wetread_preprocess.volumes import Grid, Slice, Stack
from wetread_preprocess.volumes.resample import Finish, inside, resample, target_grid
from wetread_preprocess.volumes.steps import Resample

SPACING_MM = (2.4, 0.7, 0.8)
FRAMES = {
    "axial": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
    "sagittal": ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)),
    "coronal": ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0)),
    "oblique": ((-0.8, 0.6, 0.0), (0.6, 0.8, 0.0)),
}
ORIENTATIONS = ("SPL", "RAS", "PSL", "LPI", "AIR", "IRA")
INTERPOLATORS = {"linear": SimpleITK.sitkLinear, "bspline": SimpleITK.sitkBSpline}


def noise(dtype: str = "int16", shape: tuple[int, int, int] = (30, 41, 52)) -> np.ndarray:
    """Values that share nothing with their neighbours: every fault shows."""
    return np.random.default_rng(7).integers(0, 120, shape).astype(dtype)


def stack_of(values: np.ndarray, frame: str = "axial", spacing_mm=SPACING_MM, **options) -> Stack:
    across, down = FRAMES[frame]
    places = np.array((5.0, -6.0, 7.0)) + np.arange(len(values))[:, None] * spacing_mm[0] * np.cross(across, down)
    slices = (
        Slice(n + 1, 0, f"1.2.{n}", tuple(at.tolist()), 1.0, 0.0, one)
        for n, (at, one) in enumerate(zip(places, values, strict=True))
    )
    return Stack(tuple(slices), across, down, spacing_mm[1:], **options)


def made(stack: Stack, grid: Grid, step: Resample | None = None, threads: int = 1, finish: Finish | None = None):
    values = np.full(grid.shape, np.nan, np.float32)
    resample(stack, grid, step or Resample(), out=values, threads=threads, finish=finish)
    return values


def by_simpleitk(stack: Stack, grid: Grid, step: Resample) -> np.ndarray:
    image = SimpleITK.GetImageFromArray(np.stack([one.pixels for one in stack.slices]).astype(np.float32))
    across, down = stack.row_direction, stack.column_direction
    spacing = (float(np.diff(stack.distances_mm)[0]), *stack.pixel_spacing_mm)
    image.SetSpacing(spacing[::-1])
    image.SetOrigin(stack.positions_mm[0].tolist())
    image.SetDirection(np.stack([across, down, stack.normal], axis=1).ravel().tolist())
    if step.anti_alias:
        along = np.abs(np.stack([stack.normal, down, across]) @ grid.affine[:3, :3]).max(axis=1)
        variance = np.maximum(along**2 - np.square(spacing), 0) / (8 * log(2))
        image = SimpleITK.DiscreteGaussian(image, variance=variance[::-1].tolist())
    target = SimpleITK.ResampleImageFilter()
    target.SetSize([int(n) for n in grid.shape[::-1]])
    target.SetOutputSpacing(grid.spacing_mm[::-1])
    target.SetOutputOrigin(grid.affine[:3, 3].tolist())
    target.SetOutputDirection((grid.affine[:3, :3] / grid.spacing_mm)[:, ::-1].ravel().tolist())
    target.SetInterpolator(INTERPOLATORS[step.interpolation])
    return SimpleITK.GetArrayFromImage(target.Execute(image))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("frame", FRAMES)
def test_linear_equals_simpleitk_on_the_same_grid(frame, orientation):
    stack = stack_of(noise(), frame)
    grid = target_grid(stack, (1.1, 1.0, 0.9), orientation)
    difference = made(stack, grid) - by_simpleitk(stack, grid, Resample())
    assert np.abs(difference).max() < 120 * 1e-5  # the border, too: there both let the outermost value go on


@pytest.mark.parametrize("spacing", [(0.6, 0.9, 1.0), (1.1, 1.3, 2.5), (3.0, 3.0, 3.0)])
@pytest.mark.parametrize("interpolation", INTERPOLATORS)
@pytest.mark.parametrize("anti_alias", [False, True])
@pytest.mark.parametrize("orientation", ["SPL", "RAS", "PSL", "IRA"])
def test_every_way_equals_simpleitk_away_from_the_border(orientation, anti_alias, interpolation, spacing):
    stack = stack_of(noise(), spacing_mm=(1.0, 0.7, 0.8))
    step = Resample(spacing, interpolation, anti_alias)
    grid = target_grid(stack, spacing, orientation)
    difference = np.abs(made(stack, grid, step) - by_simpleitk(stack, grid, step))
    assert difference[2:-2, 2:-2, 2:-2].max() < 120 * 1e-4


@pytest.mark.parametrize("seed", range(12))  # 5: one new plane out of many
def test_any_size_equals_simpleitk(seed):
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(2, (12, 40, 40)).tolist())
    spacing = tuple(random.uniform(0.3, 4.0, 3).tolist())
    step = Resample(spacing, anti_alias=bool(seed % 2))
    stack = stack_of(noise(shape=shape), spacing_mm=tuple(random.uniform(0.4, 2.0, 3).tolist()))
    grid = target_grid(stack, spacing, ORIENTATIONS[seed % len(ORIENTATIONS)])
    most = 5e-4 if step.anti_alias else 1e-5  # an axis that gets coarser by less than a thousandth is left alone
    assert np.abs(made(stack, grid, step) - by_simpleitk(stack, grid, step)).max() < 120 * most


def test_anti_aliasing_takes_out_what_the_coarse_grid_cannot_show():
    stripes = np.broadcast_to((np.arange(60) % 2 * 100).astype(np.int16), (20, 40, 60))
    stack = stack_of(stripes, spacing_mm=(1.0, 1.0, 1.0))
    grid = target_grid(stack, (3.0, 3.0, 3.0), "SPL")
    assert made(stack, grid).std() > 30
    assert made(stack, grid, Resample((3.0, 3.0, 3.0), anti_alias=True))[:, :, 1:-1].std() < 5


def test_anti_aliasing_leaves_an_axis_alone_that_is_not_made_coarser():
    stack = stack_of(noise())
    grid = target_grid(stack, (1.0, 0.7, 0.8), "SPL")
    np.testing.assert_array_equal(made(stack, grid, Resample(anti_alias=True)), made(stack, grid))


@pytest.mark.parametrize("dtype", ["int16", "uint16", "uint8", "int8", "float32", ">i2"])
def test_every_type_of_pixel_reads_as_its_values(dtype):
    values = noise(dtype)
    values.reshape(-1)[::7] = {"int8": -100, "uint8": 250, "uint16": 65000}.get(dtype, -3000)
    grid = target_grid(stack_of(values), (1.0, 1.0, 1.0), "SPL")
    expected = made(stack_of(values.astype(np.float32)), grid)
    np.testing.assert_allclose(made(stack_of(values), grid), expected, rtol=1e-6)


def test_pixels_may_lie_anywhere():
    values = noise()
    grid = target_grid(stack_of(values), (1.0, 1.0, 1.0), "SPL")
    expected = made(stack_of(values), grid)
    odd = [np.frombuffer(b"." + one.tobytes(), np.int16, offset=1).reshape(one.shape) for one in values]
    assert not odd[0].flags.aligned
    np.testing.assert_array_equal(made(stack_of(odd), grid), expected)
    np.testing.assert_array_equal(made(stack_of(np.asfortranarray(values)), grid), expected)


def test_padding_and_what_is_below_the_floor_become_air_before_they_are_interpolated():
    values = noise()
    values[5, 10, 10:20], values[6, 11, 5:9], values[8:10] = 2000, 1995, -3000
    slices = [dataclasses.replace(one, slope=2.0, intercept=-50.0) for one in stack_of(values).slices]
    stack = dataclasses.replace(stack_of(values), slices=tuple(slices), padding=(1990, 2010), floor=-40.0)
    real = np.where((values >= 1990) & (values <= 2010), -40, np.maximum(values * 2.0 - 50, -40)).astype(np.float32)
    grid = target_grid(stack, (1.0, 1.0, 1.0), "SPL")
    np.testing.assert_allclose(made(stack, grid), made(stack_of(real), grid), atol=1e-3)


def test_padding_is_nought_where_there_is_no_floor():
    values = noise()
    values[:, 5:9, 5:9] = 900
    grid = target_grid(stack_of(values), SPACING_MM, "SPL")
    expected = made(stack_of(np.where(values == 900, 0, values)), grid)
    np.testing.assert_array_equal(made(dataclasses.replace(stack_of(values), padding=(900, 900)), grid), expected)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_last_step_in_the_same_pass_is_the_same_step(orientation):
    stack, finish = stack_of(noise()), Finish.of(20, 90)
    grid = target_grid(stack, (1.0, 1.0, 1.0), orientation)
    for step in (Resample(), Resample(interpolation="bspline")):
        after = made(stack, grid, step)
        finish.apply(after)
        fused = made(stack, grid, step, finish=finish)
        np.testing.assert_allclose(fused, after, atol=1e-6)
        assert (fused.min(), fused.max()) == (pytest.approx(0, abs=1e-6), pytest.approx(1, abs=1e-6))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("interpolation", INTERPOLATORS)
def test_not_one_bit_depends_on_the_number_of_threads(interpolation, orientation):
    stack = stack_of(noise(shape=(20, 260, 90)))
    grid = target_grid(stack, (1.0, 1.0, 1.0), orientation)
    step = Resample(interpolation=interpolation)
    alone = made(stack, grid, step)
    for threads in (2, 3, 8):
        assert made(stack, grid, step, threads).tobytes() == alone.tobytes()


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_nothing_is_written_beside_the_place_that_was_given(orientation):
    stack = stack_of(noise())
    grid = target_grid(stack, (1.0, 1.0, 1.0), orientation)
    bucket = np.full(tuple(n + 9 for n in grid.shape), -77, np.float32)
    place = bucket[4:-5, 3:-6, 2:-7]
    resample(stack, grid, Resample(), out=place, threads=2)
    np.testing.assert_array_equal(place, made(stack, grid))
    assert (bucket == -77).sum() == bucket.size - place.size


def test_one_slice_and_one_pixel_make_a_volume():
    stack = stack_of(noise(shape=(1, 1, 1)))
    grid = target_grid(stack, (1.0, 1.0, 1.0), "RAS")
    for step in (Resample(), Resample(interpolation="bspline"), Resample((5.0, 5.0, 5.0), anti_alias=True)):
        assert np.all(made(stack, grid, step) == stack.slices[0].pixels[0, 0])


def test_voxels_beyond_the_stack_are_floor_and_outside():
    stack = dataclasses.replace(stack_of(noise()), floor=-9.0)
    grid = target_grid(stack, (1.0, 1.0, 1.0), "RAS")
    assert inside(stack, grid) is None
    larger = grid.cropped((-2, -3, -4), tuple(n + 10 for n in grid.shape))
    values, within = made(stack, larger), inside(stack, larger)
    assert within.sum() == np.prod(grid.shape)
    np.testing.assert_array_equal(values[2:-8, 3:-7, 4:-6], made(stack, grid))
    assert np.all(values[within == 0] == -9)


def test_a_grid_that_is_turned_against_the_stack_is_no_grid_for_it():
    stack = stack_of(noise())
    grid = target_grid(stack_of(noise(), "oblique"), (1.0, 1.0, 1.0), "RAS")
    with pytest.raises(ValueError, match="axes"):
        made(stack, grid)


def test_an_array_that_does_not_fit_is_refused():
    stack = stack_of(noise())
    grid = target_grid(stack, (1.0, 1.0, 1.0), "RAS")
    for out in (np.empty(grid.shape[::-1], np.float32), np.empty((*grid.shape, 2), np.float32)[..., 0]):
        with pytest.raises(ValueError, match="out is"):
            resample(stack, grid, Resample(), out=out)


@pytest.mark.parametrize("fault", [{"dtype": "uint8"}, {"shape": (1, 40, 52)}])
def test_a_slice_unlike_the_others_is_refused(fault):
    stack = stack_of(noise())
    other = dataclasses.replace(stack.slices[3], pixels=noise(**{"shape": (1, 41, 52), **fault})[0])
    mixed = dataclasses.replace(stack, slices=(*stack.slices[:3], other, *stack.slices[4:]))
    with pytest.raises(ValueError, match="slices are of"):
        made(mixed, target_grid(stack, (1.0, 1.0, 1.0), "SPL"))


def test_pixels_of_an_unknown_type_are_refused():
    stack = stack_of(noise("int32"))
    with pytest.raises(ValueError, match="int32"):
        made(stack, target_grid(stack, (1.0, 1.0, 1.0), "SPL"))
