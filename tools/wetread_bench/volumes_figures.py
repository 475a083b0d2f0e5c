"""The figures of the bench of volumes: quotients of two ways' median times in one run, and what goes with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wetread_bench.volumes_rows import ONE_THREAD, OURS, Findings

if TYPE_CHECKING:
    from collections.abc import Mapping

Key = tuple[str, str, str, int]
LINEAR, ANTI_ALIASED = "resample, linear", "resample, linear, anti-aliased"
SERIES, N4, NLM = "series, files to tensor", "N4", "non-local means 3D"
SLOW_NLM, FAST_NLM = "scikit-image, fast_mode=False", "scikit-image, fast_mode=True"


@dataclass(frozen=True)
class Quotient:
    """One time over another."""

    above: Key
    below: Key


QUOTIENTS: Mapping[str, Quotient] = {
    "resample_speedup_scipy": Quotient((LINEAR, "ct", "scipy", 1), (LINEAR, "ct", OURS, 1)),
    "resample_speedup_simpleitk": Quotient((LINEAR, "ct", "SimpleITK", 1), (LINEAR, "ct", OURS, 1)),
    "resample_aa_speedup_scipy": Quotient((ANTI_ALIASED, "ct", "scipy", 1), (ANTI_ALIASED, "ct", OURS, 1)),
    "resample_two_threads_over_one": Quotient((LINEAR, "ct", OURS, 2), (LINEAR, "ct", ONE_THREAD, 2)),
    "series_time_over_simpleitk": Quotient((SERIES, "ct", OURS, 2), (SERIES, "ct", "SimpleITK", 2)),
    "series_time_over_monai": Quotient((SERIES, "ct", OURS, 2), (SERIES, "ct", "MONAI", 2)),
    "nlm_speedup_skimage": Quotient((NLM, "mr", SLOW_NLM, 1), (NLM, "mr", OURS, 1)),
    "nlm_speedup_skimage_fast": Quotient((NLM, "mr", FAST_NLM, 1), (NLM, "mr", OURS, 1)),
    "n4_time_over_simpleitk": Quotient((N4, "mr", OURS, 2), (N4, "mr", "SimpleITK", 2)),
}
PEAK, RESAMPLE_DIFFERENCE = "peak_memory_over_output", "resample_max_difference"
PSNR_DIFFERENCE, FIELD_DIFFERENCE = "nlm_psnr_difference_db", "n4_field_difference"
OPTIONAL = frozenset({"series_time_over_monai"})
"""Without MONAI a result may be published all the same."""
REQUIRED = frozenset({*QUOTIENTS, PEAK, RESAMPLE_DIFFERENCE, PSNR_DIFFERENCE, FIELD_DIFFERENCE}) - OPTIONAL


def figures(found: Findings, peak_over_output: float | None) -> dict[str, float]:
    """The figures whose parts were measured.

    `n4_field_difference`: percent. `resample_max_difference`: of the range, the worst of both series, anti-aliased
    or not, against SimpleITK away from the border. `nlm_psnr_difference_db`: ours less that of `fast_mode=False`.
    """
    medians = {row.key: row.ms.median for row in found.rows}
    told = {
        name: medians[each.above] / medians[each.below]
        for name, each in QUOTIENTS.items()
        if each.above in medians and each.below in medians
    }
    if peak_over_output is not None:
        told[PEAK] = peak_over_output
    for name, steps, against in (
        (RESAMPLE_DIFFERENCE, (LINEAR, ANTI_ALIASED), "SimpleITK"),
        (FIELD_DIFFERENCE, (N4,), "SimpleITK"),
    ):
        values = [check.value for check in found.checks if check.step in steps and check.against == against]
        if values:
            told[name] = max(values, key=abs)
    if (ours := found.numbers.get(f"{NLM}, PSNR dB, {OURS}")) is not None:
        told[PSNR_DIFFERENCE] = ours - found.numbers[f"{NLM}, PSNR dB, {SLOW_NLM}"]
    return {name: float(f"{value:.4g}") for name, value in told.items()}
