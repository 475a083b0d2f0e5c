"""How far counts in bins lie from the fractions that a reference has there: PSI and the Kolmogorov-Smirnov distance."""

from __future__ import annotations

import bisect
import itertools
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_PRIOR = 0.5  # readings added to every bin: an empty one would make PSI infinite


def bin_of(value: float, edges: Sequence[float]) -> int:
    """Give the bin of a value: 0 below the first edge, a value on an edge belongs to the bin above it."""
    return bisect.bisect_right(edges, value)


def psi(fractions: Sequence[float], counts: Sequence[int]) -> float:
    """Population stability index: sum over bins of (p - q) ln(p / q); 0 for equal, above 0.25 for a shift.

    `fractions`: of the reference. Both sides get half a reading more in every bin, as if both had as many.
    """
    total, bins = sum(counts), len(counts)
    found = [(count + _PRIOR) / (total + _PRIOR * bins) for count in counts]
    wanted = [(fraction * total + _PRIOR) / (total + _PRIOR * bins) for fraction in fractions]
    return sum((p - q) * math.log(p / q) for p, q in zip(found, wanted, strict=True))


def ks(fractions: Sequence[float], counts: Sequence[int]) -> float:
    """Kolmogorov-Smirnov distance, 0 to 1: the largest gap between both distribution functions, at the bins' edges."""
    total = sum(counts)
    pairs = zip(itertools.accumulate(fractions), itertools.accumulate(counts), strict=True)
    return max(abs(expected - count / total) for expected, count in pairs)
