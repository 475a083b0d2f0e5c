"""A real head CT of a tilted gantry and uneven distances against SimpleITK: slice by slice, and as a sheared volume."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
from wetread_preprocess.volumes import Grid, Stack, VolumePreprocessor, VolumeRecipe
from wetread_preprocess.volumes.resample import inside, resample, target_grid
from wetread_preprocess.volumes.steps import Hounsfield, Resample

pytestmark = pytest.mark.data

STEP = Resample()
RECIPE = VolumeRecipe("RAS", (Hounsfield(), STEP), frozenset({"CT"}), ("HEAD",), frozenset())
RANGE_HU = 4000


@pytest.fixture(scope="module")
def volume(data_folder):
    files = [path.read_bytes() for path in sorted((data_folder / "dicom" / "ct_tilted").iterdir())]
    with VolumePreprocessor(RECIPE) as preprocessor:
        yield preprocessor.read(files)


@pytest.fixture(scope="module")
def stack(volume) -> Stack:
    return volume.series.stack


def hounsfield(stack: Stack) -> list[np.ndarray]:
    low, high = stack.padding or (1, 0)
    real = [np.maximum(one.pixels * np.float32(one.slope) + np.float32(one.intercept), -1024) for one in stack.slices]
    return [
        np.where((one.pixels >= low) & (one.pixels <= high), np.float32(-1024), each)
        for one, each in zip(stack.slices, real, strict=True)
    ]


def on_the_plane(picture: np.ndarray, stack: Stack, shift_mm: np.ndarray, rows_mm: np.ndarray, columns_mm: np.ndarray):
    """One slice at evenly spaced places of the plane, by SimpleITK in two dimensions."""
    image = SimpleITK.GetImageFromArray(picture)
    image.SetSpacing(stack.pixel_spacing_mm[::-1])
    image.SetOrigin(shift_mm[::-1].tolist())
    target = SimpleITK.ResampleImageFilter()
    target.SetSize([len(columns_mm), len(rows_mm)])
    target.SetOutputSpacing([columns_mm[1] - columns_mm[0], rows_mm[1] - rows_mm[0]])
    target.SetOutputOrigin([columns_mm[0], rows_mm[0]])
    target.SetDefaultPixelValue(np.nan)
    return SimpleITK.GetArrayFromImage(target.Execute(image))


@pytest.mark.slow
def test_each_place_lies_between_the_two_slices_around_it(volume, stack):
    assert volume.series.tilt_degrees == pytest.approx(18.5, abs=0.1)
    assert np.ptp(np.diff(stack.distances_mm)) > 1, "the distances are uneven"
    frame = np.stack([stack.normal, stack.column_direction, stack.row_direction])
    grid = target_grid(stack, (1.0, 1.0, 1.0), "SPL")
    steps = frame @ grid.affine[:3, :3]
    np.testing.assert_allclose(steps, np.eye(3), atol=1e-6)
    start = frame @ (grid.affine[:3, 3] - stack.positions_mm[0])
    normal, rows, columns = (start[n] + np.arange(grid.shape[n]) for n in range(3))
    planes = [
        on_the_plane(each, stack, shift, rows, columns)
        for each, shift in zip(hounsfield(stack), stack.shifts_mm, strict=True)
    ]
    above = np.clip(np.searchsorted(stack.distances_mm, normal), 1, len(planes) - 1)
    share = np.clip((normal - stack.distances_mm[above - 1]) / np.diff(stack.distances_mm)[above - 1], 0, 1)
    expected = np.stack([planes[n - 1] * (1 - s) + planes[n] * s for n, s in zip(above, share, strict=True)])
    values = volume.content.transpose(2, 1, 0)[:, ::-1, ::-1]
    assert values.shape == expected.shape
    known = ~np.isnan(expected)
    assert known.mean() > 0.7
    assert np.abs(values - expected)[known].max() < 1e-3 * RANGE_HU


def even_run(stack: Stack) -> Stack:
    """The longest run of slices at equal distances."""
    distances = np.diff(stack.distances_mm)
    first, last = max(
        (
            (first, last)
            for first in range(len(distances))
            for last in range(first + 1, len(distances) + 1)
            if np.ptp(distances[first:last]) < 1e-3
        ),
        key=lambda run: run[1] - run[0],
    )
    return Stack(
        stack.slices[first : last + 1], stack.row_direction, stack.column_direction, stack.pixel_spacing_mm,
        stack.padding, -1024.0,
    )  # fmt: skip


@pytest.mark.slow
def test_slices_at_equal_distances_equal_a_sheared_volume_by_simpleitk(stack):
    part = even_run(stack)
    assert len(part.slices) >= 3
    step_mm = float(part.distances_mm[1])
    image = SimpleITK.GetImageFromArray(np.stack(hounsfield(part)))
    image.SetSpacing((*part.pixel_spacing_mm[::-1], step_mm))
    frame = np.stack([part.row_direction, part.column_direction, part.normal], axis=1)
    image.SetDirection(frame.ravel().tolist())
    image.SetOrigin(part.positions_mm[0].tolist())
    slant = (part.shifts_mm[-1] / part.distances_mm[-1])[::-1]
    shear = np.eye(3)
    shear[:2, 2] = -slant  # from the patient's place back to where it lies in a stack without tilt
    transform = SimpleITK.AffineTransform(3)
    transform.SetMatrix((frame @ shear @ frame.T).ravel().tolist())
    transform.SetCenter(part.positions_mm[0].tolist())
    affine = np.eye(4)  # planes on the slices themselves: between them, a volume is not sheared but interpolated
    affine[:3, 0], affine[:3, 1:3] = part.normal * step_mm, frame[:, 1::-1] * 0.8
    affine[:3, 3] = part.positions_mm[0] + frame[:, 1] * 20 + frame[:, 0] * 15
    grid = Grid((len(part.slices), 200, 210), affine)
    target = SimpleITK.ResampleImageFilter()
    target.SetSize([int(n) for n in grid.shape[::-1]])
    target.SetOutputSpacing(grid.spacing_mm[::-1])
    target.SetOutputOrigin(affine[:3, 3].tolist())
    target.SetOutputDirection((affine[:3, :3] / grid.spacing_mm)[:, ::-1].ravel().tolist())
    target.SetTransform(transform)
    target.SetDefaultPixelValue(np.nan)
    expected = SimpleITK.GetArrayFromImage(target.Execute(image))
    values = np.empty(grid.shape, np.float32)
    resample(part, grid, STEP, out=values)
    known = ~np.isnan(expected)
    assert known[1:-1].mean() > 0.8
    assert np.abs(values - expected)[known].max() < 1e-3 * RANGE_HU


@pytest.mark.slow
def test_voxels_beside_the_slanted_slices_are_air_and_no_part_of_the_mask(volume, stack):
    within = inside(stack, volume.grid)
    assert 0.02 < (within == 0).mean() < 0.4
    shape = volume.grid.shape
    np.testing.assert_array_equal(volume.mask[0, : shape[0], : shape[1], : shape[2]], within)
    values = np.empty(shape, np.float32)
    resample(_with_air(stack), volume.grid, STEP, out=values)
    assert np.all(values[within == 0] == -1024)


def _with_air(stack: Stack) -> Stack:
    return Stack(
        stack.slices, stack.row_direction, stack.column_direction, stack.pixel_spacing_mm, stack.padding, -1024.0
    )
