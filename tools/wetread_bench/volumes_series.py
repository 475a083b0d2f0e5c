"""Whole series, files to tensor: ours against SimpleITK's reader and resampler and against MONAI's transforms."""

from __future__ import annotations

import statistics
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from wetread_preprocess.volumes import VolumePreprocessor, VolumeRecipe
from wetread_preprocess.volumes.steps import Hounsfield, Resample, Window
from wetread_preprocess.volumes.window import window_limits

from wetread_bench.volumes_monai_site import monai_worker
from wetread_bench.volumes_rows import OURS, Check, Findings, Way, in_turns
from wetread_bench.volumes_stack import as_values, read_files, set_grid

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wetread_preprocess.volumes import Volume

STEP = "series, files to tensor"
SIMPLEITK, SORTED, MONAI = "SimpleITK", "SimpleITK, order known", "MONAI"
WINDOW = Window(level=-300.0, width=1400.0)
"""Of the CT: both ends lie among the values that occur."""
_MOST_MEDIAN, _MOST_TAIL = 1e-3, 1e-2
_TAIL_PERCENT = 99.0
_MOST_MEAN = 0.02


def recipe(name: str) -> VolumeRecipe:
    """To 1 mm without anti-aliasing, as the others do; the CT windowed to 0..1."""
    steps = (Hounsfield(), Resample(), WINDOW) if name == "ct" else (Resample(),)
    return VolumeRecipe("SPL", steps, frozenset({name.upper()}), ("CHEST", "BRAIN"), frozenset())


def compare_series(folder: Path, name: str, threads: int, rounds: int, slow_rounds: int, monai: str) -> Findings:
    """Time whole series whose files are in the disk's cache. `monai`: the Python that has it; empty: without."""
    window = window_limits(WINDOW) if name == "ct" else None
    with VolumePreprocessor(recipe(name), threads) as preprocessor:
        volume = preprocessor.read(read_files(folder))
        ways = [
            Way(OURS, lambda: preprocessor.read(read_files(folder))),
            Way(SIMPLEITK, _simpleitk(folder, volume, threads)),
            Way(SORTED, _simpleitk(folder, volume, threads, order_known=True)),
        ]
        checks = _checks(folder, name, volume, threads, window)
        with monai_worker(monai, threads) if monai else nullcontext() as worker:
            if worker is not None:
                checks += (_monai_check(worker.ask("read", folder=str(folder), window=window), volume, name),)
                ways.append(Way(MONAI, lambda: worker.ask("time"), slow_rounds if threads > 1 else 1, own_clock=True))
            rows = in_turns(STEP, name, threads, ways, rounds)
        steps = _step_times(preprocessor, folder, rounds)
    numbers = {f"{name}, {threads} threads, {step} ms": ms for step, ms in steps.items()}
    return Findings(rows, checks, numbers)


def _step_times(preprocessor: VolumePreprocessor, folder: Path, rounds: int) -> dict[str, float]:
    """The median of each step of ours."""
    files = read_files(folder)
    seen = [preprocessor.read(files).timings_ms for _ in range(rounds)]
    return {step: round(statistics.median(one[step] for one in seen), 2) for step in seen[0]}


def _simpleitk(folder: Path, volume: Volume, threads: int, *, order_known: bool = False) -> Callable[[], object]:
    """SimpleITK's reader by GDCM, which rescales, and linear resampling to our volume's grid."""
    import SimpleITK as sitk  # noqa: N813, PLC0415  # the name all its users know

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    known = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))

    def make() -> object:
        reader = sitk.ImageSeriesReader()
        names = known if order_known else sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
        reader.SetFileNames(names)
        image = reader.Execute()
        resampler = sitk.ResampleImageFilter()
        set_grid(resampler, volume.grid)
        resampler.SetInterpolator(sitk.sitkLinear)
        resampler.SetOutputPixelType(sitk.sitkFloat32)
        made: object = resampler.Execute(image)
        return made

    return make


def _checks(
    folder: Path, name: str, volume: Volume, threads: int, window: tuple[float, float] | None
) -> tuple[Check, ...]:
    """Compare our tensor with SimpleITK's on the same grid, both scaled alike.

    Where padding meets the body SimpleITK mixes its value into the tissue and we mix air, and it knows no voxels
    beyond the outermost centres: hence a percentile and not the maximum, which the step above bounds.
    """
    ours = volume.content
    low, high = window or (float(ours.min()), float(ours.max()))
    other = np.clip((as_values(_simpleitk(folder, volume, threads)()) - low) / (high - low), 0, 1)
    same = ours if window else np.clip((ours - low) / (high - low), 0, 1)
    edge = tuple(slice(side // 32 + 2, -(side // 32 + 2)) for side in ours.shape)
    difference = np.abs(other[edge] - same[edge])
    median, tail = np.percentile(difference[::2, ::2, ::2], [50.0, _TAIL_PERCENT])
    return (
        Check(STEP, name, SIMPLEITK, "median difference, of 0..1", round(float(median), 7), _MOST_MEDIAN),
        Check(STEP, name, SIMPLEITK, f"{_TAIL_PERCENT:g}th percentile, of 0..1", round(float(tail), 7), _MOST_TAIL),
    )


def _monai_check(told: dict[str, Any], volume: Volume, name: str) -> Check:
    """MONAI's grid starts at the first voxel's centre, ours is centred: the means must agree, the shapes nearly."""
    shapes = zip(sorted(told["shape"]), sorted(volume.grid.shape), strict=True)
    near = all(abs(theirs - ours) <= 3 for theirs, ours in shapes)
    ours = volume.content if name == "ct" else volume.content / np.float32(volume.content.max())
    difference = float(ours.mean()) - float(told["mean"])
    return Check(STEP, name, MONAI, "difference of the means, of 0..1",
                 round(difference, 5) if near else float("nan"), _MOST_MEAN)  # fmt: skip
