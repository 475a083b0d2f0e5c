"""N4 against SimpleITK called directly, with the same mask, shrinking, levels and threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from wetread_preprocess.volumes.bias_field import correct_bias_field, shrink_factors
from wetread_preprocess.volumes.foreground import foreground_threshold
from wetread_preprocess.volumes.steps import BiasField

from wetread_bench.volumes_resample import LINEAR, resampled
from wetread_bench.volumes_rows import OURS, Check, Findings, Way, in_turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from wetread_bench.volumes_stack import Source

    Values = npt.NDArray[np.float32]

STEP = "N4"
SIMPLEITK = "SimpleITK"
_MOST_PERCENT = 1.0


def compare_bias_fields(source: Source, threads: int, rounds: int) -> Findings:
    """Correct the MR at about 1 mm; what our call and SimpleITK's divide by must agree in the tissue."""
    values = resampled(source, LINEAR, threads)
    # Of an even number of voxels the middle lies between two, and the last digits of the spacing decide which of them
    # SimpleITK's Shrink takes: with a rounded spacing it takes the second, as we always do.
    first, second, third = (round(spacing, 6) for spacing in source.grid.spacing_mm)
    spacing = (first, second, third)
    mask = np.ones(values.shape, np.uint8)
    step = BiasField()

    def ours() -> Values:
        corrected = values.copy()
        correct_bias_field(corrected, spacing, step, mask=mask, threads=threads)
        return corrected

    theirs = _simpleitk(values, spacing, step, threads)
    tissue = values > foreground_threshold(values, mask)
    difference = field_difference(values, ours(), theirs(), tissue)
    ways = [Way(OURS, ours), Way(SIMPLEITK, theirs)]
    rows = in_turns(STEP, "mr", threads, ways, rounds)
    what = "largest difference of the field in tissue, %"
    return Findings(rows, (Check(STEP, "mr", SIMPLEITK, what, round(difference, 5), _MOST_PERCENT),))


def field_difference(values: Values, ours: Values, theirs: Values, tissue: npt.NDArray[np.bool_]) -> float:
    """How much the two fields differ at most, in percent, each first brought to a mean of 1 over the tissue.

    A field is known up to a factor. What was divided by is the quotient of the values before and after.
    """
    before = values[tissue].astype(np.float64)
    fields = [before / corrected[tissue] for corrected in (ours, theirs)]
    first, second = (field / field.mean() for field in fields)
    return float(np.max(np.abs(first / second - 1))) * 100


def _simpleitk(
    values: Values, spacing: tuple[float, float, float], step: BiasField, threads: int
) -> Callable[[], Values]:
    """Shrink, mask by Otsu, fit, take the log field at full size, divide."""
    import SimpleITK as sitk  # noqa: N813, PLC0415  # each process imports what it compares

    def make() -> Values:
        image = sitk.GetImageFromArray(values)
        image.SetSpacing(spacing[::-1])
        small = sitk.Shrink(image, shrink_factors(values.shape, spacing, step.shrink)[::-1])
        mask = sitk.And(sitk.OtsuThreshold(small, 0, 1, 200), sitk.Cast(small > 0, sitk.sitkUInt8))
        fit: Any = sitk.N4BiasFieldCorrectionImageFilter()
        fit.SetMaximumNumberOfIterations(list(step.iterations))
        fit.SetNumberOfControlPoints([step.control_points] * 3)
        fit.SetNumberOfThreads(threads)
        fit.Execute(small, mask)
        corrected: Values = sitk.GetArrayFromImage(image / sitk.Exp(fit.GetLogBiasFieldAsImage(image)))
        return corrected

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    return make
