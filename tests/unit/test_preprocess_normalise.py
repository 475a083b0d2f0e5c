"""MR intensities to one scale, in place on a view, by what is inside the mask."""

import numpy as np
import pytest
from wetread_preprocess.errors import UnsupportedImage
from wetread_preprocess.volumes.foreground import foreground_threshold, percentiles
from wetread_preprocess.volumes.normalise import normalise, white_matter_peak
from wetread_preprocess.volumes.steps import Normalise

METHODS = ("z_score", "white_matter_peak", "range")


def head(white=100.0, grey=65.0, noise=3.0, shape=(24, 60, 56)):
    """A T1: air, grey matter around white matter, and bright fat in a thin shell."""
    rng = np.random.default_rng(11)
    z, y, x = np.meshgrid(*[np.linspace(-1.0, 1.0, side) for side in shape], indexing="ij")
    radius = np.sqrt(z**2 + y**2 + x**2)
    values = np.zeros(shape)
    for reach, value in ((0.95, 1.6 * white), (0.9, grey), (0.7, white), (0.25, 0.3 * grey)):
        values[radius < reach] = value
    return np.abs(values + rng.normal(0, noise, shape)).astype(np.float32), radius


def in_bucket(values):
    """The values as the content of a padded bucket, and the bucket."""
    bucket = np.full(tuple(side + 7 for side in values.shape), -77.0, np.float32)
    content = bucket[: values.shape[0], : values.shape[1], : values.shape[2]]
    content[...] = values
    return content, bucket


def everywhere(values):
    return np.ones(values.shape, np.uint8)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_outside_the_view_changes(method):
    content, bucket = in_bucket(head()[0])
    normalise(content, Normalise(method), mask=everywhere(content))
    assert not np.array_equal(content, head()[0])
    content[...] = -77.0
    assert (bucket == -77.0).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_view_gives_what_a_volume_of_its_own_gives(method):
    content, _ = in_bucket(head()[0])
    whole = head()[0]
    normalise(content, Normalise(method), mask=everywhere(content))
    normalise(whole, Normalise(method), mask=everywhere(whole))
    assert np.array_equal(content, whole)


@pytest.mark.parametrize("method", METHODS)
def test_voxels_outside_the_mask_do_not_count(method):
    values, _ = head()
    spoilt = values.copy()
    mask = everywhere(values)
    mask[:2], mask[:, :, -3:] = 0, 0
    spoilt[mask == 0] = 9e5
    normalise(values, Normalise(method), mask=mask)
    normalise(spoilt, Normalise(method), mask=mask)
    assert np.array_equal(values[mask == 1], spoilt[mask == 1])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("factor", [0.01, 37.0])
def test_the_unit_of_the_scanner_does_not_matter(method, factor):
    values, _ = head()
    scaled = values * np.float32(factor)
    normalise(values, Normalise(method), mask=everywhere(values))
    normalise(scaled, Normalise(method), mask=everywhere(values))
    assert np.abs(values - scaled).max() < 2e-3 * np.abs(values).max()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, 412.0])
def test_a_constant_volume_is_refused(method, value):
    values = np.full((8, 9, 10), value, np.float32)
    with pytest.raises(UnsupportedImage, match="every voxel of the volume is"):
        normalise(values, Normalise(method), mask=everywhere(values))


@pytest.mark.parametrize("method", METHODS)
def test_a_volume_with_nothing_inside_the_mask_is_refused(method):
    values, _ = head()
    with pytest.raises(UnsupportedImage, match="no voxel"):
        normalise(values, Normalise(method), mask=np.zeros(values.shape, np.uint8))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("method", METHODS)
def test_a_voxel_that_is_no_number_is_refused(method, wrong):
    values, _ = head()
    values[3, 4, 5] = wrong
    with pytest.raises(UnsupportedImage, match="not a finite number"):
        normalise(values, Normalise(method), mask=everywhere(values))


def test_two_flat_tissues_are_refused_by_the_z_score_of_the_brighter_one():
    values = np.zeros((8, 9, 10), np.float32)
    values[2:6] = 50.0
    with pytest.raises(UnsupportedImage, match="all tissue of the volume has the value 50"):
        normalise(values, Normalise("z_score"), mask=everywhere(values))


def test_the_z_score_is_of_the_tissue_and_not_of_the_air():
    values, radius = head()
    tissue = radius < 0.95
    bright = values > foreground_threshold(values, everywhere(values))
    assert (bright == tissue).mean() > 0.97
    normalise(values, Normalise("z_score"), mask=everywhere(values))
    assert abs(values[bright].mean()) < 1e-4
    assert abs(values[bright].std() - 1.0) < 1e-4


@pytest.mark.parametrize("white", [55.0, 100.0, 900.0])
@pytest.mark.parametrize("noise", [0.01, 0.04])
def test_white_matter_comes_to_one_beside_brighter_fat(white, noise):
    values, radius = head(white, 0.65 * white, noise * white)
    normalise(values, Normalise("white_matter_peak"), mask=everywhere(values))
    matter = values[(radius < 0.65) & (radius > 0.3)]
    assert abs(np.median(matter) - 1.0) < 0.02
    assert values.min() >= 0


def test_the_peak_stays_where_much_more_grey_than_white_matter_is_seen():
    values, radius = head()
    values[(radius < 0.7) & (radius > 0.58)] = np.random.default_rng(2).normal(65.0, 3.0, values.shape)[
        (radius < 0.7) & (radius > 0.58)
    ]
    assert abs(white_matter_peak(values, everywhere(values)) - 100.0) < 3.0


def test_a_peak_below_zero_is_no_white_matter():
    values = head()[0] - 1000.0
    with pytest.raises(UnsupportedImage, match="white matter is above 0"):
        normalise(values, Normalise("white_matter_peak"), mask=everywhere(values))


def test_percentiles_become_zero_and_one_and_the_rest_is_clipped():
    values, _ = head()
    low, high = np.percentile(values, [1, 99])
    expected = np.clip((values - low) / (high - low), 0, 1)
    normalise(values, Normalise("range", (1.0, 99.0)), mask=everywhere(values))
    assert np.abs(values - expected).max() < 0.005
    assert (values.min(), values.max()) == (0.0, 1.0)


@pytest.mark.parametrize("percents", [(0.0, 100.0), (1.0, 99.0), (5.0, 60.0), (49.0, 51.0)])
def test_percentiles_are_numpys_within_a_64th_of_their_distance(percents):
    values = np.random.default_rng(3).gamma(2.0, 50.0, (20, 50, 50)).astype(np.float32)
    found = np.array(percentiles(values, everywhere(values), percents))
    exact = np.percentile(values, percents)
    assert np.abs(found - exact).max() <= (exact[1] - exact[0]) / 64


def test_one_voxel_of_metal_does_not_spread_the_percentiles():
    values = np.random.default_rng(3).gamma(2.0, 50.0, (20, 50, 50)).astype(np.float32)
    values[3, 4, 5] = 3e7
    found = np.array(percentiles(values, everywhere(values), (1.0, 99.0)))
    exact = np.percentile(values, (1.0, 99.0))
    assert np.abs(found - exact).max() <= (exact[1] - exact[0]) / 64


def test_percentiles_that_are_one_value_are_refused():
    values = np.zeros((10, 20, 20), np.float32)
    values[5, 5, 5:8] = 100.0
    with pytest.raises(UnsupportedImage, match="percentiles 1 and 99 of the volume are one value"):
        normalise(values, Normalise("range"), mask=everywhere(values))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_the_threshold_parts_two_tissues_of_any_share(share):
    rng = np.random.default_rng(4)
    bright = rng.random((10, 40, 40)) < share
    values = np.where(bright, 80.0, 20.0) + rng.normal(0, 4, bright.shape)
    threshold = foreground_threshold(values.astype(np.float32), np.ones(bright.shape, np.uint8))
    assert ((values > threshold) == bright).mean() > 0.999
