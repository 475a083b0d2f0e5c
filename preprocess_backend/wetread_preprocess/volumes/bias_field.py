"""N4: the slow unevenness of an MR coil, estimated by SimpleITK on a shrunk copy and divided out at full size."""

from typing import Any

import numpy as np
import numpy.typing as npt

from wetread_preprocess.errors import UnsupportedImage
from wetread_preprocess.volumes.bias_spline import divide_by_field, samples_for
from wetread_preprocess.volumes.foreground import span
from wetread_preprocess.volumes.intensity_kernels import Mask, Values
from wetread_preprocess.volumes.steps import BiasField

_LEAST_SIDE = 8
"""Voxels that an axis keeps when it is shrunk, where it has them."""
_OTSU_BINS = 200


def correct_bias_field(
    values: Values, spacing_mm: tuple[float, float, float], step: BiasField, *, mask: Mask, threads: int
) -> None:
    """Divide `values` float32 [a, b, c], any strides, in place by its bias field.

    N. J. Tustison et al., N4ITK: improved N3 bias correction (IEEE TMI 2010), as SimpleITK does it, on every n-th
    voxel along each axis (`shrink_factors`), where `mask` uint8 [a, b, c] is set, the value is above 0 and Otsu calls
    it tissue. The field is a smooth spline: a few samples of it are taken from SimpleITK and all voxels' values are
    made from them, as SimpleITK's own full-size field has them (the first and the last voxel of each axis stand where
    the first and the last of the shrunk one do). The same numbers come out whatever the number of threads.

    Raises:
        UnsupportedImage: nothing is inside the mask, all of it has one value, or too little of it is tissue for N4.
    """
    span(values, mask)
    factors = shrink_factors(values.shape, spacing_mm, step.shrink)
    chosen = tuple(_every(side, factor) for side, factor in zip(values.shape, factors, strict=True))
    small, inside = np.ascontiguousarray(values[chosen]), np.ascontiguousarray(mask[chosen])
    span(small, inside)
    spacing = tuple(one * factor for one, factor in zip(spacing_mm, factors, strict=True))
    spans = (step.control_points - 3) * 2 ** (len(step.iterations) - 1)
    divide_by_field(values, log_field_samples(small, inside, spacing, step, spans, threads), (spans,) * 3, threads)


def shrink_factors(shape: tuple[int, ...], spacing_mm: tuple[float, float, float], shrink: int) -> tuple[int, int, int]:
    """Give how many voxels along each axis become one: `shrink` of the finest axis, fewer of coarser ones, so that the
    shrunk voxels come close to cubes, and of short ones, so that 8 are left."""
    finest = min(spacing_mm)
    first, second, third = (
        max(1, min(round(shrink * finest / spacing), side // _LEAST_SIDE))
        for side, spacing in zip(shape, spacing_mm, strict=True)
    )
    return first, second, third


def log_field_samples(
    small: npt.NDArray[np.float32],
    inside: Mask,
    spacing_mm: tuple[float, ...],
    step: BiasField,
    spans: int,
    threads: int,
) -> npt.NDArray[np.float32]:
    """Run N4 and give float32 [m, m, m], even samples of the logarithm of its field from end to end of each axis."""
    import SimpleITK as sitk  # noqa: N813, PLC0415  # half a second that only MR pays; the name all its users know

    image = sitk.GetImageFromArray(small)
    image.SetSpacing(spacing_mm[::-1])
    covered = sitk.GetImageFromArray((inside != 0).astype(np.uint8))
    covered.CopyInformation(image)
    tissue = sitk.OtsuThreshold(image, covered, 0, 1, _OTSU_BINS, True, 1)
    held = (sitk.GetArrayFromImage(tissue) != 0) & (small > 0)
    if held.sum() < _LEAST_SIDE**2:
        raise UnsupportedImage(f"{int(held.sum())} voxels of the shrunk volume are tissue: too few for a bias field")
    masked = sitk.GetImageFromArray(held.astype(np.uint8))
    masked.CopyInformation(image)
    filtered: Any = sitk.N4BiasFieldCorrectionImageFilter()
    filtered.SetMaximumNumberOfIterations(list(step.iterations))
    filtered.SetNumberOfControlPoints([step.control_points] * 3)
    filtered.SetNumberOfThreads(threads)
    try:
        filtered.Execute(image, masked)
    except RuntimeError as error:
        raise UnsupportedImage(f"N4 finds no bias field: {str(error).splitlines()[-1].strip()}") from error
    count = samples_for(spans)
    reference = sitk.Image([count] * 3, sitk.sitkFloat32)
    return np.asarray(sitk.GetArrayFromImage(filtered.GetLogBiasFieldAsImage(reference)), np.float32)


def _every(side: int, factor: int) -> slice:
    """Every `factor`-th index, in the middle of the axis: those that SimpleITK's Shrink takes."""
    count = side // factor
    start = (side - 1 - (count - 1) * factor + 1) // 2
    return slice(start, start + (count - 1) * factor + 1, factor)
