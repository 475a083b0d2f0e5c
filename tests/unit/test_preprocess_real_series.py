"""Real series against dcm2niix, SimpleITK and their own slices: geometry and values; pictures for the test report."""

import subprocess

import dcm2niix
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
import volume_pictures
from scipy.ndimage import map_coordinates
from tiers import tried
from wetread_preprocess.volumes.plain_recipes import PLAIN_RECIPES, Changes, changed, source_spacing
from wetread_preprocess.volumes.volume import VolumePreprocessor

pytestmark = [pytest.mark.data, pytest.mark.slow]

EVEN = ("ct_chest", "mr_t1")
RECIPES = {"ct_chest": "ct", "ct_tilted": "ct", "mr_t1": "mr"}
AIR = -1024.0
STEP = tried(2, 1)
"""Of the voxels at 1 mm that are compared, along each axis; all of them in the full tier."""
LOOK = {"ct_chest": (-1000.0, 400.0), "ct_tilted": (-40.0, 120.0), "mr_t1": (0.0, 110.0)}


@pytest.fixture(scope="module")
def folders(data_folder):
    return {name: data_folder / "dicom" / name for name in RECIPES}


@pytest.fixture(scope="module")
def ours(folders):
    """Our volume of a series by name, at 1 mm or at the source's spacing; each made once."""
    made = {}

    def get(name, at_source=False):
        if (name, at_source) not in made:
            files = [np.fromfile(path, np.uint8) for path in sorted(folders[name].glob("*.dcm"))]
            plain = PLAIN_RECIPES[RECIPES[name]]
            with VolumePreprocessor(changed(plain, Changes())) as preprocessor:
                series, doubts = preprocessor.take(files)
                if at_source:
                    spacing = source_spacing(series, plain.orientation)
                    preprocessor.recipe = changed(plain, Changes(spacing_mm=spacing))
                made[name, at_source] = preprocessor.make(series, doubts)
        return made[name, at_source]

    return get


@pytest.fixture(scope="module")
def theirs(folders, tmp_path_factory):
    """dcm2niix's volume of a series, of a tilted one the corrected; air and padding of a CT are -1024 as ours."""
    made = {}

    def get(name):
        if name not in made:
            out = tmp_path_factory.mktemp(name)
            command = [dcm2niix.bin, "-z", "n", "-b", "n", "-f", "volume", "-o", out, folders[name]]
            subprocess.run(command, check=True, capture_output=True)
            names = sorted(path.name for path in out.glob("*.nii"))
            (path,) = [out / each for each in names if "Eq" in each] or [out / each for each in names]
            image = nibabel.load(path)
            values = np.asanyarray(image.dataobj).astype(np.float32)
            made[name] = values if RECIPES[name] == "mr" else np.maximum(values, AIR), image.affine
        return made[name]

    return get


def corners(shape, affine):
    """Outer corners of a volume: [8, 3] mm."""
    index = np.array(np.meshgrid(*([-0.5, side - 0.5] for side in shape))).reshape(3, -1)
    return (affine[:3, :3] @ index + affine[:3, 3:]).T


def compared(values):
    """The voxels that are compared: every STEP-th along each axis."""
    return values[..., ::STEP, ::STEP, ::STEP]


def sampled(values, affine, grid, outside):
    """Another tool's volume at the centres of our `compared` voxels, linear, `outside` beyond its outermost centres."""
    between = (np.linalg.inv(affine) @ grid.ras_affine).astype(np.float32)
    index = compared(np.indices(grid.shape, np.float32))
    places = np.tensordot(between[:3, :3], index, 1) + between[:3, 3].reshape(3, 1, 1, 1)
    return map_coordinates(values, places, order=1, mode="constant", cval=outside, prefilter=False)


def inner(volume, margin=2):
    """Cut `margin` voxels of ours off every side of what is compared."""
    within = slice(margin // STEP, -(margin // STEP))
    return volume[within, within, within]


def draw(name, caption, ours, other, other_name):
    """Draw what was compared beside the other tool's."""
    window = LOOK[next(series for series in LOOK if name.startswith(series))]
    volume_pictures.draw(name, caption, ours, other, other_name=other_name, window=window, spacing_mm=(STEP,) * 3)


@pytest.mark.parametrize("name", EVEN)
def test_the_field_of_view_is_where_dcm2niix_has_it(ours, theirs, name):
    values, affine = theirs(name)
    other = corners(values.shape, affine)
    for at_source, tolerance_mm in ((True, 0.02), (False, 0.5)):
        grid = ours(name, at_source).grid
        mine = corners(grid.shape, grid.ras_affine)
        away = np.linalg.norm(mine[:, None] - other[None], axis=2).min(axis=1)
        # At 1 mm the number of voxels is rounded: half a voxel at most is between the edges, a quarter at each.
        assert away.max() < tolerance_mm, (at_source, away)


@pytest.mark.parametrize("name", EVEN)
def test_at_the_source_spacing_every_voxel_is_dcm2niixs(ours, theirs, name):
    values, affine = theirs(name)
    volume = ours(name, at_source=True)
    index = np.linalg.inv(affine) @ volume.grid.ras_affine
    np.testing.assert_allclose(index[:3], np.round(index[:3]), atol=0.02)
    axes = np.abs(index[:3, :3]).argmax(axis=0)
    flips = tuple(slice(None, None, -1) if index[axis, n] < 0 else slice(None) for n, axis in enumerate(axes))
    assert np.abs(volume.content - values.transpose(axes)[flips]).max() <= 1e-4 * np.ptp(values)


@pytest.mark.parametrize("name", EVEN)
def test_at_1_mm_it_is_dcm2niixs_volume_interpolated(ours, theirs, name):
    values, affine = theirs(name)
    volume = ours(name)
    mine = compared(volume.content)
    other = sampled(values, affine, volume.grid, AIR if RECIPES[name] == "ct" else 0.0)
    caption = f"{name}, 1 mm, beside dcm2niix's volume sampled at the same places"
    draw(f"{name}_dcm2niix", caption, mine, other, "dcm2niix")
    assert likeness(mine, other, 2) > 0.9999
    assert np.abs(inner(mine) - inner(other)).max() <= 1e-3 * np.ptp(values)


@pytest.mark.parametrize("name", EVEN)
def test_it_is_simpleitks_volume_resampled_to_the_same_grid(ours, folders, name):
    volume = ours(name)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folders[name])))
    image = SimpleITK.Cast(reader.Execute(), SimpleITK.sitkFloat32)
    if RECIPES[name] == "ct":
        image = SimpleITK.Maximum(image, AIR)  # before the interpolation, as ours: padding must not bleed in
    grid = volume.grid
    direction = grid.affine[:3, :3] / grid.spacing_mm
    mine = compared(volume.content)
    spacing_mm = [STEP * spacing for spacing in grid.spacing_mm]
    there = SimpleITK.Resample(
        image, mine.shape, SimpleITK.Transform(), SimpleITK.sitkLinear,
        grid.affine[:3, 3].tolist(), spacing_mm, direction.ravel().tolist(), AIR if RECIPES[name] == "ct" else 0.0,
    )  # fmt: skip
    other = SimpleITK.GetArrayFromImage(there).transpose(2, 1, 0)
    caption = f"{name}, 1 mm, beside SimpleITK: read by ImageSeriesReader and resampled to our grid"
    draw(f"{name}_simpleitk", caption, mine, other, "SimpleITK")
    assert np.abs(inner(mine) - inner(other)).max() <= 1e-3 * np.ptp(other)


class Slices:
    """The slices of a series where each lies, read by pydicom: a reference that knows no stack and no shear."""

    def __init__(self, folder):
        datasets = [pydicom.dcmread(path) for path in folder.glob("*.dcm")]
        orientation = np.array(datasets[0].ImageOrientationPatient, float).reshape(2, 3)
        self.normal = np.cross(*orientation)
        datasets.sort(key=lambda one: np.dot(one.ImagePositionPatient, self.normal))
        self.row, self.column = orientation
        self.spacing = np.array(datasets[0].PixelSpacing, float)
        self.origins = np.array([one.ImagePositionPatient for one in datasets], float)
        self.planes = [
            np.maximum(one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept), AIR) for one in datasets
        ]
        self.places = self.origins @ self.normal

    def at(self, which, points):
        """Bilinear in slice `which` at LPS points [n, 3] as if they lay in its plane; NaN beyond its centres."""
        away = points - self.origins[which]
        index = np.stack([away @ self.column / self.spacing[0], away @ self.row / self.spacing[1]])
        return map_coordinates(self.planes[which], index, order=1, mode="constant", cval=np.nan, prefilter=False)

    def between(self, points):
        """Linear between the two slices around each point."""
        place = points @ self.normal
        lower = np.clip(np.searchsorted(self.places, place) - 1, 0, len(self.places) - 2)
        share = (place - self.places[lower]) / (self.places[lower + 1] - self.places[lower])
        values = np.full(len(points), np.nan)
        for which in range(len(self.places) - 1):
            here = (lower == which) & (share >= 0) & (share <= 1)
            pair = self.at(which, points[here]), self.at(which + 1, points[here])
            values[here] = pair[0] * (1 - share[here]) + pair[1] * share[here]
        return values


def test_the_tilted_series_is_interpolated_between_its_slices_where_each_of_them_lies(ours, folders):
    volume, slices = ours("ct_tilted"), Slices(folders["ct_tilted"])
    mine, index = compared(volume.content), compared(np.indices(volume.grid.shape)).reshape(3, -1)
    points = (volume.grid.affine[:3, :3] @ index + volume.grid.affine[:3, 3:]).T
    reference = slices.between(points).reshape(mine.shape)
    known = ~np.isnan(reference)
    assert known.mean() > 0.7
    assert np.abs(mine - reference)[known].max() <= 1e-3 * np.ptp(reference[known])
    caption = "ct_tilted, 1 mm, tilt of 18.5 degrees, distances of 1.08-7.0 mm; beside each slice sampled at its place"
    draw("ct_tilted_slices", caption, mine, np.where(known, reference, AIR).astype(np.float32), "own slices")


def test_the_tilted_series_lies_where_dcm2niixs_corrected_volume_does(ours, theirs):
    values, affine = theirs("ct_tilted")
    volume = ours("ct_tilted")
    other = sampled(values, affine, volume.grid, AIR)
    caption = "ct_tilted, 1 mm, beside dcm2niix's tilt-corrected volume (made even first, 2.6 mm) sampled at its places"
    draw("ct_tilted_dcm2niix", caption, compared(volume.content), other, "dcm2niix")
    # dcm2niix first makes even distances of 2.6 mm of 1.1-7.0, we interpolate once: edges across slices differ in both,
    # places do not, and so any step away from where we have it is less like it.
    here = likeness(compared(volume.content), other)
    assert here > 0.999
    for axis in range(3):
        for step in (-1, 1):
            assert likeness(compared(np.roll(volume.content, step, axis)), other) < here - 0.001, (axis, step)


def likeness(one, other, margin=8):
    return np.corrcoef(inner(one, margin).ravel(), inner(other, margin).ravel())[0, 1]
