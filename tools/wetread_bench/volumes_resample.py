"""Resampling against scipy, SimpleITK and torch: one input, one grid; linear, anti-aliased linear, B-spline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from wetread_preprocess.volumes.resample import resample
from wetread_preprocess.volumes.steps import Resample

from wetread_bench.volumes_rows import OURS, Check, Findings, Way, in_turns, timed
from wetread_bench.volumes_stack import as_values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wetread_bench.volumes_stack import Source, Values

LINEAR = Resample()
MOST_DIFFERENCE = 1e-3
"""Of the input's range."""


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
    """Time every kind. scipy knows one thread only: with more it is left out, as is what it would show again."""
    found = Findings()
    for kind in KINDS:
        makers = {OURS: _ours(source, kind, threads)}
        makers |= {way: _OTHERS[way](source, kind, threads) for way in kind.ways if threads == 1 or way != "scipy"}
        if threads > 1 and kind.name == "B-spline":
            makers = {OURS: makers[OURS]}
        checks = _checks(source, kind, name, makers) if threads == 1 else ()
        slow = {"scipy": slow_rounds}
        if kind.name == "B-spline":
            slow |= {"scipy": max(1, slow_rounds - 1), "SimpleITK": slow_rounds}
        ways = [Way(way, timed(make), slow.get(way)) for way, make in makers.items()]
        found += Findings(in_turns(f"resample, {kind.name}", name, threads, ways, rounds), checks)
    return found


def _checks(source: Source, kind: Kind, name: str, makers: Mapping[str, Callable[[], object]]) -> tuple[Check, ...]:
    """Compare each answer with ours, away from the border."""
    inner = source.inner(kind.margin)
    ours = as_values(makers[OURS]())[inner]
    values = source.real(np.array([source.values.min(), source.values.max()], np.float32))
    span = float(values[1] - values[0])
    checks = []
    for way, make in makers.items():
        if way == OURS:
            continue
        other = source.real(as_values(make())[inner])
        other -= ours
        most = max(float(other.max()), -float(other.min())) / span
        what = "largest difference away from the border, of the range"
        checks.append(Check(f"resample, {kind.name}", name, way, what, float(f"{most:.3g}"), MOST_DIFFERENCE))
    return tuple(checks)


def resampled(source: Source, step: Resample, threads: int) -> Values:
    """Resample by our kernels, into memory of its own as every other way does."""
    out = np.empty(source.grid.shape, np.float32)
    resample(source.stack, source.grid, step, out=out, threads=threads, finish=None)
    return out


def _ours(source: Source, kind: Kind, threads: int) -> Callable[[], object]:
    return lambda: resampled(source, kind.step, threads)


def _sigmas(source: Source) -> list[float]:
    """Of the anti-aliasing Gaussian along each axis, in old voxels."""
    from wetread_preprocess.volumes.resample import anti_alias_sigma  # noqa: PLC0415

    return [anti_alias_sigma(factor) for factor in source.factors]


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
            values = sitk.DiscreteGaussian(sitk.Cast(image, sitk.sitkFloat32), variances, 32, 0.001, False)
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
