"""Series to volumes: the one entry that the Triton backend, the command line and the benchmarks share."""

import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from wetread_preprocess.errors import UnsupportedImage
from wetread_preprocess.header import Buffer
from wetread_preprocess.sandbox import Sandbox
from wetread_preprocess.volumes.admit import admit
from wetread_preprocess.volumes.bias_field import correct_bias_field
from wetread_preprocess.volumes.bucket import padded_shape
from wetread_preprocess.volumes.compiled import compile_kernels
from wetread_preprocess.volumes.denoise import denoise
from wetread_preprocess.volumes.geometry import describe
from wetread_preprocess.volumes.grid import Grid
from wetread_preprocess.volumes.normalise import normalise
from wetread_preprocess.volumes.recipe import VolumeRecipe
from wetread_preprocess.volumes.resample import Finish, inside, resample, target_grid
from wetread_preprocess.volumes.series import read_series
from wetread_preprocess.volumes.stack import Series, Stack
from wetread_preprocess.volumes.steps import BiasField, Denoise, Hounsfield, Normalise, Step, Window
from wetread_preprocess.volumes.window import window_limits

_MOST_THREADS = 8


@dataclass(frozen=True)
class VolumeOptions:
    """What a request says about its series."""

    any_body_part: bool = False
    """Body Part Examined (0018,0015) is known to be wrong or absent: do not refuse by it."""


_NOTHING_SAID = VolumeOptions()


@dataclass(frozen=True)
class Volume:
    """A series ready for the model."""

    values: npt.NDArray[np.float32]
    """[1, a, b, c], axes as the recipe's orientation says, padded to its bucket."""
    mask: npt.NDArray[np.uint8]
    """[1, a, b, c]: 1 where `values` come from a slice, 0 in padding and outside every slice."""
    grid: Grid
    """Of the volume without its padding: `content` lies on it."""
    series: Series
    geometry: bytes
    """UTF-8 JSON, see `geometry.describe`."""
    warnings: tuple[str, ...] = ()
    timings_ms: dict[str, float] = field(default_factory=dict)

    @property
    def content(self) -> npt.NDArray[np.float32]:
        """The volume without padding, a view of `values`."""
        first, second, third = self.grid.shape
        return self.values[0, :first, :second, :third]


class VolumePreprocessor:
    """Reads series by one recipe. Not thread-safe: one a thread or process, closed at the end."""

    def __init__(self, recipe: VolumeRecipe, threads: int | None = None) -> None:
        """`threads`: of the kernels; by default one a core, at most 8."""
        self.recipe = recipe
        self._threads = threads or min(len(os.sched_getaffinity(0)), _MOST_THREADS)
        self._sandbox = Sandbox(recipe.limits)

    @classmethod
    def load(cls, folder: Path, threads: int | None = None) -> Self:
        """A preprocessor for the version folder that holds `recipe.json`."""
        return cls(VolumeRecipe.load(folder), threads)

    def start(self) -> None:
        """Start the decoding process in the background, and compile the kernels or fetch them from their cache."""
        self._sandbox.start()
        compile_kernels()

    def read(self, files: Sequence[Buffer], options: VolumeOptions = _NOTHING_SAID) -> Volume:
        """Read a series from its DICOM files' bytes (uint8 [n] or bytes each), in any order.

        Raises:
            InvalidDicom: the series is broken, with the file's place in the request and the attribute.
            UnsupportedImage: it is not for this pipeline, or no decoder reads it.
        """
        clock = Clock()
        series, doubts = self.take(files, options, clock)
        return self.make(series, doubts, clock)

    def take(
        self, files: Sequence[Buffer], options: VolumeOptions = _NOTHING_SAID, clock: "Clock | None" = None
    ) -> tuple[Series, tuple[str, ...]]:
        """Make a series of the files and let it in, with the warnings of both; raises as `read` does."""
        clock = clock or Clock()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # pydicom's; odd values are judged here, by attribute
            with clock.step("series"):
                series = read_series(
                    files, self.recipe.series, self.recipe.limits, self._sandbox, self.recipe.modalities
                )
                doubts = admit(series, self.recipe, any_body_part=options.any_body_part)
        return series, (*series.warnings, *doubts)

    def make(self, series: Series, doubts: tuple[str, ...] = (), clock: "Clock | None" = None) -> Volume:
        """Make the volume of a series that has been read; raises as `read` does."""
        clock = clock or Clock()
        place = next(n for n, step in enumerate(self.recipe.steps) if step is self.recipe.resample)
        stack = series.stack
        for step in self.recipe.steps[:place]:
            with clock.step(_name(step)):
                stack = self._prepared(stack, step)
        after = list(self.recipe.steps[place + 1 :])
        grid = target_grid(stack, self.recipe.resample.spacing_mm, self.recipe.orientation)
        padded = padded_shape(grid.shape, self.recipe.buckets.multiple)
        if padded[0] * padded[1] * padded[2] > self.recipe.most_voxels:
            raise UnsupportedImage(
                f"the series makes a volume of {padded[0]} x {padded[1]} x {padded[2]} voxels; read are volumes up to "
                f"{self.recipe.most_voxels} voxels"
            )
        with clock.step("resample"):
            values = np.empty((1, *padded), np.float32)
            content = values[0, : grid.shape[0], : grid.shape[1], : grid.shape[2]]
            finish = None
            if after and isinstance(first := after[0], Window):  # in the same pass, while a plane is in the cache
                finish, after = Finish.of(*window_limits(first)), after[1:]
            resample(stack, grid, self.recipe.resample, out=content, threads=self._threads, finish=finish)
        with clock.step("mask"):
            mask = np.empty((1, *padded), np.uint8)  # unlike zeros, of huge pages
            held = mask[0, : grid.shape[0], : grid.shape[1], : grid.shape[2]]
            within = inside(stack, grid)
            held[...] = 1 if within is None else within
            _fill(mask[0], grid.shape, 0)
        for step in after:
            with clock.step(_name(step)):
                self._finish(content, held, grid, step)
        with clock.step("padding"):
            _fill(values[0], grid.shape, self.recipe.buckets.fill)
            if within is not None:
                for plane, there in zip(content, held, strict=True):
                    plane[there == 0] = self.recipe.buckets.fill
        timings = clock.timings_ms()
        return Volume(values, mask, grid, series, describe(series, grid, padded, doubts, timings), doubts, timings)

    def close(self) -> None:
        """End the decoding process."""
        self._sandbox.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepared(self, stack: Stack, step: Step) -> Stack:
        if isinstance(step, Hounsfield):
            return replace(stack, floor=step.air)
        assert isinstance(step, Denoise)
        return denoise(stack, step, self._threads)

    def _finish(self, content: npt.NDArray[np.float32], mask: npt.NDArray[np.uint8], grid: Grid, step: Step) -> None:
        if isinstance(step, BiasField):
            correct_bias_field(content, grid.spacing_mm, step, mask=mask, threads=self._threads)
        elif isinstance(step, Window):
            low, high = window_limits(step)
            Finish.of(low, high).apply(content)
        else:
            assert isinstance(step, Normalise)
            normalise(content, step, mask=mask)


def _name(step: Step) -> str:
    names: dict[type[Step], str] = {
        Hounsfield: "hounsfield", Denoise: "denoise", BiasField: "bias_field", Window: "window", Normalise: "normalise",
    }  # fmt: skip
    return names[type(step)]


def _fill(values: npt.NDArray[np.generic], shape: tuple[int, int, int], fill: float) -> None:
    """Set all outside the first `shape` voxels."""
    first, second, third = shape
    values[first:] = fill
    values[:first, second:] = fill
    values[:first, :second, third:] = fill


class Clock:
    """How long each step took."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._taken: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the time of what is done within to the step of that name."""
        started = self._now()
        yield
        self._taken[name] = self._taken.get(name, 0.0) + (self._now() - started) * 1e3

    def timings_ms(self) -> dict[str, float]:
        """Give what each step has taken until now, in the order in which they began."""
        return {name: round(taken, 2) for name, taken in self._taken.items()}
