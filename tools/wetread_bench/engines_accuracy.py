"""What a faster file says against the FP32 one, over the same films, read by the same server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from wetread_models.calibrate import auc
from wetread_models.statistics import agreement, bootstrap_difference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wetread_release.gate.films import FilmSet
    from wetread_release.gate.server import Answer


@dataclass(frozen=True)
class Compared:
    """One file against the FP32 one; the first finding."""

    films: int
    flips: int
    mean_change: float
    """Mean |difference of probability|."""
    auc: float | None = None
    auc_drop: float | None = None
    """FP32's less this one's; None: the films have no labels."""
    auc_drop_low: float | None = None
    """The 95 % interval, patients drawn with replacement."""
    auc_drop_high: float | None = None

    @property
    def flips_percent(self) -> float:
        """Give the share of films decided otherwise, in percent."""
        return 100 * self.flips / self.films if self.films else 0.0


def compare(
    reference: Sequence[Answer],
    other: Sequence[Answer],
    films: FilmSet,
    truth: Mapping[str, tuple[bool, ...]],
    thresholds: tuple[float, ...],
) -> Compared:
    """Compare the answers to the films that both sides read."""
    both = [index for index, (a, b) in enumerate(zip(reference, other, strict=True)) if a.is_read and b.is_read]
    old, new = (np.array([side[index].probability[0] for index in both]) for side in (reference, other))
    same = agreement(new, old, thresholds[0])
    named = [films.films[index] for index in both]
    labels = np.array([truth[film.name][0] for film in named if film.name in truth], dtype=np.int64)
    if len(labels) != len(both) or len(set(labels.tolist())) < 2:
        return Compared(len(both), len(same.flips), same.mean_change)
    patients = [film.patient or film.name for film in named]
    drop = bootstrap_difference(old, new, labels, patients).difference
    return Compared(len(both), len(same.flips), same.mean_change, auc(new, labels), drop.value, drop.low, drop.high)
