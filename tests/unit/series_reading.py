"""Reads series as the pipelines do, for the tests: rules small enough for phantoms of a few slices."""

import atexit
import functools
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from wetread_preprocess.errors import ImageError
from wetread_preprocess.header import Buffer
from wetread_preprocess.recipe import DecodeLimits
from wetread_preprocess.sandbox import Sandbox
from wetread_preprocess.volumes.recipe import SeriesRules
from wetread_preprocess.volumes.series import read_series
from wetread_preprocess.volumes.stack import Series

RULES = SeriesRules(least_slices=4)


def noise(slices: int = 10, rows: int = 6, columns: int = 5, seed: int = 0) -> np.ndarray:
    """Pixels no two slices of which are equal."""
    return np.random.default_rng(seed).integers(-1000, 3000, (slices, rows, columns)).astype(np.int16)


@functools.cache
def _sandbox() -> Sandbox:
    """One for all tests: it starts a process at the first compressed slice."""
    sandbox = Sandbox(DecodeLimits())
    atexit.register(sandbox.close)
    return sandbox


def read(
    files: Sequence[Buffer],
    *,
    modalities: Sequence[str] = ("CT", "MR"),
    limits: DecodeLimits | None = None,
    **rules: float,
) -> Series:
    limits = limits or DecodeLimits()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # pydicom's, as the preprocessor does
        return read_series(files, replace(RULES, **rules), limits, _sandbox(), frozenset(modalities))


def refused(files: Sequence[Buffer], error: type[ImageError], *texts: str, **options: object) -> None:
    """Check that a series is refused, and that all of these (patterns) are said."""
    with pytest.raises(error) as caught:
        read(files, **options)  # type: ignore[arg-type]
    for text in texts:
        assert re.search(text, str(caught.value)), (text, str(caught.value))


def why(series: Series) -> dict[int, str]:
    """Why each file was left out."""
    return {one.source: one.why for one in series.left_out}


def values(series: Series) -> np.ndarray:
    """All stored values, [slices, rows, columns]."""
    return np.stack([one.pixels for one in series.stack.slices])
