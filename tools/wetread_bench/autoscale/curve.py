"""The service curve of one pod: films a second by films under way, and how far single readings spread."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

LEVELS = (1, 2, 4, 8, 16)
SHAPE_POINTS = 101


@dataclass(frozen=True)
class ServiceCurve:
    """What one pod does with n works under way, measured for some n; between them it is interpolated."""

    levels: tuple[int, ...]
    works_per_s: tuple[float, ...]
    shapes: tuple[tuple[float, ...], ...]
    """Of each level: evenly spaced quantiles of a reading's time over its mean."""
    queue_over_compute: tuple[float, ...] = ()
    """Of each level: Triton's queue time over its compute time, over the steps; empty: not measured."""
    pending: tuple[float, ...] = ()
    """Of each level: requests that wait in Triton, over the steps; empty: not measured."""

    @classmethod
    def of(cls, levels: Sequence[Mapping[str, Any]]) -> Self:
        """Take the levels of a result of `wetread bench capacity`."""
        return cls(
            tuple(level["concurrency"] for level in levels),
            tuple(level["films_per_s"] for level in levels),
            tuple(tuple(level["shape"]) for level in levels),
            tuple(level.get("queue_over_compute", 0.0) for level in levels),
            tuple(level.get("pending", 0.0) for level in levels),
        )

    @classmethod
    def load(cls, file: Path, precision: str = "fp32") -> Self:
        """Take a pipeline of a result's file; ValueError: it holds no such precision."""
        for each in json.loads(file.read_text())["measurements"]["pipelines"]:
            if each["precision"] == precision:
                return cls.of(each["levels"])
        raise ValueError(f"{file} holds no pipeline in {precision}")

    def rate(self, under_way: float) -> float:
        """Give the works a second of a pod with so many under way."""
        return float(np.interp(under_way, (0, *self.levels), (0.0, *self.works_per_s)))

    def peak(self, slots: int) -> float:
        """Give the most works a second that a reader with so many slots gets."""
        return max(self.rate(n) for n in range(1, slots + 1))

    def rates(self, most: int) -> Floats:
        """Give works a second for 0 to `most` under way."""
        return np.array([self.rate(n) for n in range(most + 1)])

    def sizes(self, most: int) -> Floats:
        """Give the quantiles of a work's size, mean 1, by works under way: [most + 1, points]."""
        nearest = [int(np.argmin([abs(level - n) for level in self.levels])) for n in range(most + 1)]
        table = np.array([self.shapes[at] for at in nearest])
        middles = (table[:, :-1] + table[:, 1:]) / 2  # a draw lies between two quantiles, evenly
        means: Floats = middles.mean(axis=1, keepdims=True)
        return np.divide(table, means)

    def queue_ratio(self, under_way: float) -> float:
        """Give Triton's queue time over its compute time with so many under way."""
        return self._between(under_way, self.queue_over_compute)

    def pending_requests(self, under_way: float) -> float:
        """Give the requests that wait in Triton with so many under way."""
        return self._between(under_way, self.pending)

    def _between(self, under_way: float, values: tuple[float, ...]) -> float:
        return float(np.interp(under_way, (0, *self.levels), (0.0, *values))) if values else 0.0


def shape_of(latencies: Sequence[float], points: int = SHAPE_POINTS) -> tuple[float, ...]:
    """Give evenly spaced quantiles of values over their mean."""
    values = np.asarray(latencies, np.float64)
    quantiles = np.quantile(values, np.linspace(0.0, 1.0, points)) / values.mean()
    return tuple(float(f"{value:.4g}") for value in quantiles)


def exponential(rate: float, points: int = 2001) -> ServiceCurve:
    """A single server whose works take exponential times, the M of queueing theory."""
    shares = np.linspace(0.0, 1.0 - 0.25 / points, points)
    return ServiceCurve((1,), (rate,), (tuple((-np.log1p(-shares)).tolist()),))


def constant(rate: float) -> ServiceCurve:
    """A single server whose works all take the same time, the D of queueing theory."""
    return ServiceCurve((1,), (rate,), ((1.0, 1.0),))
