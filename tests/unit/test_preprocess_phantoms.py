"""Volumes of bodies that are known analytically: every orientation, tilt and spacing puts them where they are."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import numpy as np
import pytest
from phantoms import (
    CENTRE_MM,
    LANDMARKS_MM,
    PEAK,
    Scan,
    centroids_mm,
    ellipsoid,
    ellipsoid_volume_mm3,
    landmarks,
    turned,
)
from wetread_preprocess.volumes import Grid, Stack, VolumePreprocessor, VolumeRecipe
from wetread_preprocess.volumes.recipe import Buckets
from wetread_preprocess.volumes.resample import inside, resample, target_grid
from wetread_preprocess.volumes.steps import Resample

UNEVEN_MM = tuple(
    np.cumsum([0.0, *[2.0, 2.0, 3.1, 1.2, 2.6, 2.0, 1.5, 3.0, 2.2, 2.4] * 2, 2.0, 2.9, 2.0, 2.0]).tolist()
)


def right_angled() -> dict[str, Scan]:
    """All 24: rows and columns along any two axes, either way."""
    scans = {}
    for across, down in itertools.permutations(range(3), 2):
        for signs in itertools.product((1.0, -1.0), repeat=2):
            row, column = np.zeros(3), np.zeros(3)
            row[across], column[down] = signs
            name = "".join(
                ("+" if sign > 0 else "-") + "LPS"[axis] for sign, axis in zip(signs, (across, down), strict=True)
            )
            scans[f"rows and columns along {name}"] = Scan(tuple(row.tolist()), tuple(column.tolist()))
    return scans


def oblique(degrees: float, axis: tuple[float, float, float], **options) -> Scan:
    frame = turned(axis, degrees)
    return Scan(tuple(frame[:, 0].tolist()), tuple(frame[:, 1].tolist()), **options)


SCANS = {
    **right_angled(),
    "oblique": oblique(25, (1, -2, 0.7)),
    "oblique, almost at half a right angle": oblique(44, (1, 0.1, 0)),
    "gantry tilted one way": Scan(tilt_degrees=18.5),
    "gantry tilted the other way": Scan(tilt_degrees=-18.5),
    "oblique and tilted": oblique(-20, (0.3, 1, 0.2), tilt_degrees=10),
    "uneven slices": Scan(distances_mm=UNEVEN_MM),
    "uneven slices, gantry tilted": Scan(distances_mm=UNEVEN_MM, tilt_degrees=-12),
    "sagittal, uneven": Scan((0.0, 1.0, 0.0), (0.0, 0.0, -1.0), distances_mm=UNEVEN_MM),
    "thin slices, coarse pixels": Scan(
        distances_mm=tuple(np.arange(70) * 0.8), rows=30, columns=28, pixel_spacing_mm=(2, 2.2)
    ),
}
ORIENTATIONS = ("RAS", "SPL", "PIR")
PLAIN = Resample()
BODIES = {"landmarks": landmarks, "ellipsoid": ellipsoid}


@functools.cache
def stack_of(name: str, body: str = "landmarks") -> Stack:
    return SCANS[name].stack(BODIES[body])


def made(stack: Stack, orientation: str, step: Resample = PLAIN) -> tuple[np.ndarray, Grid]:
    grid = target_grid(stack, step.spacing_mm, orientation)
    values = np.empty(grid.shape, np.float32)
    resample(stack, grid, step, out=values)
    return values, grid


@pytest.mark.parametrize(("number", "name"), list(enumerate(SCANS)))
def test_landmarks_are_found_within_a_tenth_of_a_voxel(number, name):
    orientation = ORIENTATIONS[number % 3]
    values, grid = made(stack_of(name), orientation)
    assert grid.orientation == orientation
    away = np.linalg.norm(centroids_mm(values, grid) - LANDMARKS_MM, axis=1)
    assert away.max() < 0.1 * min(grid.spacing_mm)


@pytest.mark.parametrize("step", [Resample(interpolation="bspline"), Resample((1.4, 1.7, 1.5), anti_alias=True)])
@pytest.mark.parametrize("name", ["oblique", "gantry tilted one way", "uneven slices", "thin slices, coarse pixels"])
def test_landmarks_stay_where_they_are_by_any_interpolation(name, step):
    values, grid = made(stack_of(name), "RAS", step)
    away = np.linalg.norm(centroids_mm(values, grid) - LANDMARKS_MM, axis=1)
    assert away.max() < 0.1 * min(grid.spacing_mm)


@pytest.mark.parametrize("name", list(SCANS)[::-2])
def test_a_tilted_ellipsoid_keeps_its_volume_and_its_place(name):
    values, grid = made(stack_of(name, "ellipsoid"), "RAS")
    share = values.astype(np.float64) / PEAK
    assert share.sum() * np.prod(grid.spacing_mm) == pytest.approx(ellipsoid_volume_mm3(), rel=0.01)
    centre = np.array([(np.indices(grid.shape)[axis] * share).sum() / share.sum() for axis in range(3)])
    assert np.linalg.norm(grid.affine[:3, :3] @ centre + grid.affine[:3, 3] - CENTRE_MM) < 0.1


@pytest.mark.parametrize("name", list(SCANS)[::3])
def test_values_are_the_bodys_own_at_every_voxel(name):
    values, grid = made(stack_of(name), "SPL", Resample(interpolation="bspline"))
    some = np.indices(grid.shape)[:, 1::3, 2::3, ::3]
    points = np.moveaxis(some, 0, -1) @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    within = inside(stack_of(name), grid)
    within = np.ones(grid.shape) if within is None else within
    wrong = np.abs(values[tuple(some)] / PEAK - landmarks(points))[within[tuple(some)] == 1]
    assert wrong.max() < 0.12  # where slices lie 3 mm apart and are joined by straight lines
    assert wrong.mean() < 2e-3


@pytest.mark.parametrize("name", SCANS)
def test_the_grid_is_square_and_centred_on_the_field_of_view(name):
    scan = SCANS[name]
    grid = target_grid(stack_of(name), (1.0, 1.25, 0.8), "PIR")
    np.testing.assert_allclose(grid.affine[:3, :3].T @ grid.affine[:3, :3], np.diag([1.0, 1.5625, 0.64]), atol=1e-12)
    middle = grid.affine @ [*((np.array(grid.shape) - 1) / 2), 1]
    first, last = scan.distances_mm[1] - scan.distances_mm[0], scan.distances_mm[-1] - scan.distances_mm[-2]
    normal = np.cross(scan.row_direction, scan.column_direction)
    np.testing.assert_allclose(middle[:3], CENTRE_MM + normal * (last - first) / 4, atol=1e-9)


def test_the_corners_of_an_even_stack_are_exact():
    scan = Scan(distances_mm=tuple(np.arange(20) * 2.0), rows=40, columns=30, pixel_spacing_mm=(1.5, 2.0))
    grid = target_grid(scan.stack(landmarks), (1.0, 1.0, 1.0), "SPL")
    assert grid.shape == (40, 60, 60)
    corner = scan.positions_mm[0] - [2.0 / 2, 1.5 / 2, 2.0 / 2] + 0.5
    x, y, z = corner
    np.testing.assert_allclose(grid.affine, [[0, 0, 1, x], [0, 1, 0, y], [1, 0, 0, z], [0, 0, 0, 1]], atol=1e-12)


def flipped(stack: Stack, rows: bool, columns: bool, slices: bool) -> Stack:
    """The same patient, acquired the other way round; two of three, so that slices still follow the normal."""
    across, down = np.array(stack.row_direction), np.array(stack.column_direction)
    _, height, width = stack.shape
    start = (
        down * (height - 1) * stack.pixel_spacing_mm[0] * rows
        + across * (width - 1) * stack.pixel_spacing_mm[1] * columns
    )
    made = [
        dataclasses.replace(
            one,
            position_mm=tuple((np.array(one.position_mm) + start).tolist()),
            pixels=one.pixels[:: -1 if rows else 1, :: -1 if columns else 1],
        )
        for one in stack.slices[:: -1 if slices else 1]
    ]
    return dataclasses.replace(
        stack,
        slices=tuple(made),
        row_direction=tuple((across * (-1 if columns else 1)).tolist()),
        column_direction=tuple((down * (-1 if rows else 1)).tolist()),
    )


@pytest.mark.parametrize("flips", [(True, True, False), (True, False, True), (False, True, True)])
@pytest.mark.parametrize("name", ["rows and columns along +L+P", "oblique", "uneven slices, gantry tilted"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_an_acquisition_the_other_way_round_makes_the_same_volume(name, flips, orientation):
    stack = stack_of(name)
    values, grid = made(stack, orientation)
    again, other = made(flipped(stack, *flips), orientation)
    np.testing.assert_allclose(other.affine, grid.affine, atol=1e-9)
    np.testing.assert_allclose(again, values, atol=1e-5 * PEAK)


def test_a_tilted_stack_says_what_lies_outside_its_slices():
    scan = Scan(tilt_degrees=18.5)
    stack = dataclasses.replace(scan.stack(landmarks), floor=-500.0)
    for orientation in ORIENTATIONS:
        values, grid = made(stack, orientation)
        within = inside(stack, grid)
        points = np.stack(np.indices(grid.shape), axis=-1) @ grid.affine[:3, :3].T + grid.affine[:3, 3] - CENTRE_MM
        down = points[..., 1] - points[..., 2] * np.tan(np.radians(18.5))
        expected = np.abs(down) <= scan.rows * scan.pixel_spacing_mm[0] / 2
        sure = np.abs(np.abs(down) - scan.rows * scan.pixel_spacing_mm[0] / 2) > 1e-6
        assert 0.05 < (~expected).mean() < 0.6
        np.testing.assert_array_equal(within[sure], expected[sure])
        assert np.all(values[within == 0] == -500)
        assert np.all(values[within == 1] > -500)


RECIPE = VolumeRecipe("RAS", (Resample(),), frozenset({"CT"}), ("CHEST",), frozenset(), buckets=Buckets((32, 16, 8)))


@pytest.fixture(scope="module")
def volumes():
    with VolumePreprocessor(RECIPE, threads=2) as preprocessor:
        yield preprocessor


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "rows and columns along -L+P",
        "rows and columns along +P-S",
        "rows and columns along +L-S",
        "oblique",
        "oblique and tilted",
        "uneven slices",
    ],
)
def test_files_in_any_order_become_the_volume_of_the_body(volumes, name):
    files = SCANS[name].files(landmarks)
    volume = volumes.read([files[n] for n in np.random.default_rng(1).permutation(len(files))])
    assert volume.grid.orientation == "RAS"
    away = np.linalg.norm(centroids_mm(volume.content, volume.grid) - LANDMARKS_MM, axis=1)
    assert away.max() < 0.1
    values, grid = made(stack_of(name), "RAS")
    np.testing.assert_allclose(volume.grid.affine, grid.affine, atol=1e-3)  # decimals of the attributes
    np.testing.assert_allclose(volume.content, values, atol=1e-3 * PEAK)
    assert volume.values.shape[1:] == tuple(-(-n // m) * m for n, m in zip(grid.shape, (32, 16, 8), strict=True))
