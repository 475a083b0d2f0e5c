"""N4 on a shrunk copy: SimpleITK's field at every voxel, and the unevenness gone."""

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # as all its users call it
from wetread_preprocess.errors import UnsupportedImage
from wetread_preprocess.volumes.bias_field import correct_bias_field, shrink_factors
from wetread_preprocess.volumes.bias_spline import basis, divide_by_field, from_samples, samples_for
from wetread_preprocess.volumes.steps import BiasField

SHAPE = (48, 54, 43)
STEP = BiasField(shrink=3, iterations=(20, 12))
CUBE = (1.0, 1.0, 1.0)


def uneven(shape=SHAPE, noise=1.0):
    """A head of two tissues under a coil's field, the field, and where the head is."""
    z, y, x = np.meshgrid(*[np.linspace(-1.0, 1.0, side) for side in shape], indexing="ij")
    radius = np.sqrt(z**2 + y**2 + x**2)
    field = np.exp(0.3 * z + 0.2 * y * x - 0.25 * x**2)
    tissue = np.where(radius < 0.85, 60.0, 0.0) + np.where(radius < 0.6, 40.0, 0.0)
    noisy = tissue * field + np.random.default_rng(5).normal(0, noise, shape)
    return np.abs(noisy).astype(np.float32), field, radius < 0.85


def corrected(values, step=STEP, mask=None, threads=1, spacing_mm=CUBE):
    result = values.copy()
    inside = np.ones(values.shape, np.uint8) if mask is None else mask
    correct_bias_field(result, spacing_mm, step, mask=inside, threads=threads)
    return result


def by_simpleitk(values, step=STEP):
    """The field at full size as SimpleITK's users take it: Shrink, Otsu, N4, GetLogBiasFieldAsImage, exp."""
    image = sitk.GetImageFromArray(values)
    shrunk = sitk.Shrink(image, [step.shrink] * 3)
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations(list(step.iterations))
    n4.Execute(shrunk, sitk.OtsuThreshold(shrunk, 0, 1, 200))
    return sitk.GetArrayFromImage(sitk.Exp(n4.GetLogBiasFieldAsImage(image)))


@pytest.fixture(scope="module")
def phantom():
    values, field, head = uneven()
    return values, field, head, corrected(values)


@pytest.mark.slow
def test_the_field_is_simpleitks_within_a_hundredth_of_a_percent(phantom):
    values, _, _, result = phantom
    assert np.abs(values / result / by_simpleitk(values) - 1.0).max() < 1e-4


@pytest.mark.slow
def test_the_field_that_was_put_in_is_taken_out(phantom):
    values, field, head, result = phantom
    left = (values / result / field)[head]
    assert left.std() / left.mean() < 0.06
    assert left.std() / left.mean() < 0.35 * field[head].std() / field[head].mean()


def test_a_tissue_is_evener_afterwards(phantom):
    values, _, _, result = phantom
    inner = np.linalg.norm(np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")), axis=0) < 0.55
    assert result[inner].std() / result[inner].mean() < 0.5 * values[inner].std() / values[inner].mean()


@pytest.mark.slow
def test_any_number_of_threads_gives_the_same_numbers(phantom):
    values, _, _, result = phantom
    assert np.array_equal(corrected(values, threads=3), result)


@pytest.mark.slow
def test_a_view_into_a_bucket_is_corrected_and_nothing_around_it_changes(phantom):
    values, _, _, result = phantom
    bucket = np.full((50, 64, 64), -5.0, np.float32)
    content = bucket[:48, :54, :43]
    content[...] = values
    correct_bias_field(content, CUBE, STEP, mask=np.ones(SHAPE, np.uint8), threads=2)
    assert np.array_equal(content, result)
    content[...] = -5.0
    assert (bucket == -5.0).all()


@pytest.mark.slow
def test_voxels_outside_the_mask_do_not_count():
    values, _, _ = uneven()
    mask = np.ones(SHAPE, np.uint8)
    mask[:, :, 36:] = 0
    spoilt = values.copy()
    spoilt[mask == 0] = values.max()
    assert np.array_equal(corrected(values, mask=mask)[mask == 1], corrected(spoilt, mask=mask)[mask == 1])
    assert not np.array_equal(corrected(values), corrected(spoilt))


def test_a_coarse_axis_is_shrunk_less_and_a_short_one_is_left_whole():
    assert shrink_factors((160, 256, 256), CUBE, 4) == (4, 4, 4)
    assert shrink_factors((40, 256, 256), (5.0, 1.0, 1.0), 4) == (1, 4, 4)
    assert shrink_factors((80, 256, 256), (2.0, 1.0, 1.0), 4) == (2, 4, 4)
    assert shrink_factors((12, 256, 256), CUBE, 4) == (1, 4, 4)
    assert shrink_factors((3, 256, 256), CUBE, 4) == (1, 4, 4)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(9, 40, 44), (48, 20, 17)])
def test_thin_volumes_are_corrected(shape):
    values, field, head = uneven(shape)
    left = (values / corrected(values) / field)[head]
    assert left.std() / left.mean() < field[head].std() / field[head].mean()


@pytest.mark.parametrize(
    ("values", "says"),
    [(np.full((16, 16, 16), 7.0, np.float32), "every voxel"), (np.full((16, 16, 16), np.nan, np.float32), "finite")],
)
def test_a_volume_without_a_field_is_refused(values, says):
    with pytest.raises(UnsupportedImage, match=says):
        corrected(values)


def test_too_little_tissue_is_refused():
    values = np.zeros((24, 24, 24), np.float32)
    values[12:16, 12:16, 12:20] = 50.0
    with pytest.raises(UnsupportedImage, match="too few for a bias field"):
        corrected(values)


def test_nothing_inside_the_mask_is_refused():
    values, _, _ = uneven()
    with pytest.raises(UnsupportedImage, match="no voxel"):
        corrected(values, mask=np.zeros(SHAPE, np.uint8))


@pytest.mark.parametrize("spans", [1, 2, 8])
def test_a_cubic_is_reproduced_by_the_splines_and_they_sum_to_one(spans):
    at = np.linspace(0.0, 1.0, 37)
    assert np.allclose(basis(37, spans).sum(axis=1), 1.0)
    few = np.linspace(0.0, 1.0, samples_for(spans))
    cubic = 1.0 - 2.0 * at + 3.0 * at**2 - 0.5 * at**3
    sampled = 1.0 - 2.0 * few + 3.0 * few**2 - 0.5 * few**3
    assert np.abs(from_samples(37, spans) @ sampled - cubic).max() < 1e-9


def test_a_field_that_is_separable_is_divided_out_exactly():
    shape, spans = (13, 20, 17), (4, 4, 4)
    few = np.linspace(0.0, 1.0, samples_for(4)).astype(np.float32)
    samples = few[:, None, None] + 2.0 * few[None, :, None] - few[None, None, :]
    values = np.ones(shape, np.float32)
    divide_by_field(values, samples, spans, 3)
    z, y, x = np.meshgrid(*[np.linspace(0.0, 1.0, side) for side in shape], indexing="ij")
    assert np.abs(values * np.exp(z + 2.0 * y - x) - 1.0).max() < 1e-5
