"""Resampling against scipy, SimpleITK and torch: one input, one grid; linear, anti-aliased linear, B-spline."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from math import log, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from wetread_preprocess.volumes.resample import resample
from wetread_preprocess.volumes.steps import Resample

from wetread_bench.volumes_rows import ONE_THREAD, OURS, Check, Findings, Way, in_turns
from wetread_bench.volumes_stack import as_values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wetread_bench.volumes_stack import Source, Values

LINEAR = Resample()
_OURS_ROUNDS = 15
"""Where others take a second ours takes a twentieth, and one wait for the kernel's pages doubles that."""
MOST_DIFFERENCE = 1e-3
"""Of the input's range."""
OTHER_GAUSSIAN = 0.05
"""The same, of scipy's anti-aliasing: it samples the continuous Gaussian, which within a voxel is another."""


@dataclass(frozen=True)
class Kind:
    """One way to interpolate."""

    name: str
    step: Resample
    margin: int
    """Old voxels from the border within which answers may differ: what lies beyond it is each library's own choice."""
    ways: tuple[str, ...]


KINDS = (
    Kind("linear", LINEAR, 1, ("scipy", "SimpleITK", "torch")),
    Kind("linear, anti-aliased", Resample(anti_alias=True), 10, ("scipy", "SimpleITK")),
    Kind("B-spline", Resample(interpolation="bspline"), 16, ("scipy", "SimpleITK")),
)


def compare_resampling(source: Source, name: str, threads: int, rounds: int, slow_rounds: int) -> Findings:
    """Time every kind, and compare the answers of the first round with ours, away from the border.

    scipy knows one thread only: with more it is left out.
    """
    found = Findings()
    for kind in KINDS:
        slow = {"scipy": slow_rounds, "SimpleITK": slow_rounds if kind.step.anti_alias else rounds}
        if kind.step.interpolation == "bspline":  # half a minute each
            slow = dict.fromkeys(slow, 1)
        others = [way for way in _OTHERS if way in kind.ways and (threads == 1 or way != "scipy") and _is_here(way)]
        often = _OURS_ROUNDS if rounds > 1 else 1
        ours = Way(OURS, lambda kind=kind: resampled(source, kind.step, threads), often)  # type: ignore[misc]
        ways = [
            ours,
            *_alone(source, kind.step, often, threads),
            *(Way(way, _OTHERS[way](source, kind, threads), slow.get(way)) for way in others),
        ]
        comparison = _Comparison(source, kind, name, resampled(source, kind.step, threads)[source.inner(kind.margin)])
        rows = in_turns(f"resample, {kind.name}", name, threads, ways, rounds, comparison.look)
        found += Findings(rows, tuple(comparison.checks))
    return found


@dataclass
class _Comparison:
    source: Source
    kind: Kind
    name: str
    ours: Values
    checks: list[Check] = field(default_factory=list)

    def look(self, way: str, made: object) -> None:
        """Note how far an answer is from ours."""
        if way in (OURS, ONE_THREAD):  # not one bit depends on the threads, which tests hold it to
            return
        stored = np.array([self.source.values.min(), self.source.values.max()], np.float32)
        low, high = self.source.real(stored).tolist()
        difference = self.source.real(as_values(made)[self.source.inner(self.kind.margin)])
        difference -= self.ours
        most = max(float(difference.max()), -float(difference.min())) / (high - low)
        allowed = OTHER_GAUSSIAN if self.kind.step.anti_alias and way == "scipy" else MOST_DIFFERENCE
        what = "largest difference away from the border, of the range"
        step = f"resample, {self.kind.name}"
        self.checks.append(Check(step, self.name, way, what, float(f"{most:.3g}"), allowed))


def _is_here(way: str) -> bool:
    """torch comes with the models extra."""
    return way != "torch" or find_spec("torch") is not None


def _alone(source: Source, step: Resample, rounds: int, threads: int) -> list[Way]:
    """Ours on one thread in turns with ours on several: between two processes memory alone may decide."""
    return [Way(ONE_THREAD, lambda: resampled(source, step, 1), rounds)] if threads > 1 else []


def resampled(source: Source, step: Resample, threads: int) -> Values:
    """Resample by our kernels, into memory of its own as every other way does."""
    out = np.empty(source.grid.shape, np.float32)
    resample(source.stack, source.grid, step, out=out, threads=threads, finish=None)
    return out


def _sigmas(source: Source) -> list[float]:
    """Of the anti-aliasing Gaussian along each axis, in old voxels: what widens a voxel of the old width to the new.

    As `wetread_preprocess.volumes.taps` has it: full widths at half maximum add by their squares.
    """
    return [sqrt(max(0.0, factor**2 - 1) / (8 * log(2))) for factor in source.factors]


def _scipy(source: Source, kind: Kind, _threads: int) -> Callable[[], object]:
    from scipy import ndimage  # noqa: PLC0415  # each process imports what it compares

    order = 3 if kind.step.interpolation == "bspline" else 1
    zooms = [1 / factor for factor in source.factors]
    mode = "mirror" if order == 3 else "nearest"

    def make() -> Values:
        values: Any = source.values
        if kind.step.anti_alias:
            values = ndimage.gaussian_filter(values, _sigmas(source), output=np.float32, mode="nearest")
        zoomed: Values = ndimage.zoom(values, zooms, np.float32, order, mode=mode, grid_mode=True)
        return zoomed

    return make


def _simpleitk(source: Source, kind: Kind, threads: int) -> Callable[[], object]:
    import SimpleITK as sitk  # noqa: N813, PLC0415  # the name all its users know

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    image = source.image()
    resampler = source.like(sitk.ResampleImageFilter())
    resampler.SetInterpolator(sitk.sitkBSpline if kind.step.interpolation == "bspline" else sitk.sitkLinear)
    resampler.SetOutputPixelType(sitk.sitkFloat32)

    def make() -> object:
        values = image
        if kind.step.anti_alias:
            variances = [sigma**2 for sigma in _sigmas(source)[::-1]]
            values = sitk.DiscreteGaussian(sitk.Cast(image, sitk.sitkFloat32), variances, 32, 0.01, False)
        made: object = resampler.Execute(values)
        return made

    return make


def _torch(source: Source, _kind: Kind, threads: int) -> Callable[[], object]:
    import torch  # noqa: PLC0415

    torch.set_num_threads(threads)
    values = torch.from_numpy(source.values)
    size = tuple(source.grid.shape)

    def make() -> Values:
        with torch.inference_mode():
            whole = values.to(torch.float32)[None, None]
            made = torch.nn.functional.interpolate(whole, size, mode="trilinear", align_corners=False)
        resampled: Values = made[0, 0].numpy()
        return resampled

    return make


_OTHERS: Mapping[str, Callable[[Source, Kind, int], Callable[[], object]]] = {
    "scipy": _scipy, "SimpleITK": _simpleitk, "torch": _torch,
}  # fmt: skip
