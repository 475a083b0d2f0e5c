"""What the small steps cost on a CT or an MR of 1 mm: windowing, normalising, the mask, the bucket's padding.

Window and normalise work in place, here on a copy: its own cost stands beside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from wetread_preprocess.volumes.bucket import padded_shape
from wetread_preprocess.volumes.normalise import normalise
from wetread_preprocess.volumes.recipe import Buckets
from wetread_preprocess.volumes.resample import Finish, inside
from wetread_preprocess.volumes.steps import Normalise

from wetread_bench.volumes_resample import LINEAR, resampled
from wetread_bench.volumes_rows import OURS, Findings, Way, in_turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from wetread_bench.volumes_stack import Source

_NUMPY = "numpy"


def small_steps(source: Source, name: str, threads: int, rounds: int) -> Findings:
    """Time each step that follows resampling, by itself."""
    values = resampled(source, LINEAR, threads)
    mask = np.ones(values.shape, np.uint8)
    low, high = (float(value) for value in np.percentile(values[::4, ::4, ::4], [5, 95]))
    finish = Finish.of(low, high)

    def in_numpy() -> object:
        return ((values - low) / (high - low)).clip(0, 1)

    def pad() -> object:
        padded = np.empty(padded_shape(source.grid.shape, Buckets().multiple), np.float32)
        first, second, third = values.shape
        padded[first:], padded[:first, second:], padded[:first, :second, third:] = 0.0, 0.0, 0.0
        return padded

    def normalising(step: Normalise) -> Callable[[], None]:
        def work() -> None:
            normalise(values.copy(), step, mask=mask)

        return work

    def windowing() -> None:
        finish.apply(values.copy())

    found = in_turns("window", name, threads, [Way(OURS, windowing), Way(_NUMPY, in_numpy)], rounds)
    works: dict[str, Callable[[], object]] = {
        "copy": values.copy,
        "mask": lambda: inside(source.stack, source.grid),
        "padding": pad,
    }
    if name == "mr":
        works |= {f"normalise, {step.method}": normalising(step) for step in
                  (Normalise("z_score"), Normalise("white_matter_peak"), Normalise("range"))}  # fmt: skip
    for step, work in works.items():
        found += in_turns(step, name, threads, [Way(OURS, work)], rounds)
    return Findings(found)
