"""Recipes for series that no pipeline's recipe is named for, and the changes that the command line makes to any."""

import math
from dataclasses import dataclass, replace

import numpy as np

from wetread_preprocess.volumes.geometry import source_affine
from wetread_preprocess.volumes.grid import LETTERS, axes_of
from wetread_preprocess.volumes.recipe import Buckets, VolumeRecipe, fault_of
from wetread_preprocess.volumes.stack import Series
from wetread_preprocess.volumes.steps import (
    BiasField,
    Denoise,
    DenoiseMethod,
    Hounsfield,
    Interpolation,
    Normalise,
    NormaliseMethod,
    Resample,
    Step,
    Window,
)
from wetread_preprocess.volumes.window import window_limits

Spacing = tuple[float, float, float]

AIR_HU = Hounsfield().air
_MOST_VOXELS = 2**30  # 4 GB: what a person asks for at a terminal, no server bears
PLAIN_RECIPES = {
    "ct": VolumeRecipe(
        orientation="RAS",
        steps=(Hounsfield(), Resample()),
        modalities=frozenset({"CT"}),
        body_parts=("",),  # any
        other_body_parts=frozenset(),
        buckets=Buckets(fill=AIR_HU),
        most_voxels=_MOST_VOXELS,
    ),
    "mr": VolumeRecipe(
        orientation="RAS",
        steps=(Resample(),),
        modalities=frozenset({"MR"}),
        body_parts=("",),
        other_body_parts=frozenset(),
        most_voxels=_MOST_VOXELS,
    ),
}
"""HU, or an MR's own values, at 1 mm; by the names that `--recipe` takes."""


@dataclass(frozen=True)
class Changes:
    """What is to differ from a recipe; None and False: nothing."""

    spacing_mm: Spacing | None = None
    orientation: str | None = None
    interpolation: Interpolation | None = None
    anti_alias: bool | None = None
    window: str | None = None
    normalise: NormaliseMethod | None = None
    denoise: DenoiseMethod | None = None
    bias_field: bool = False
    pad: bool = False
    """Keep the recipe's buckets; else the volume is not padded."""


def changed(recipe: VolumeRecipe, changes: Changes) -> VolumeRecipe:
    """Give the recipe with its changes.

    A window or a normalisation takes the place of the recipe's own window and normalisation.

    Raises:
        ValueError: a value that is none of its choices, or that makes no volume.
    """
    _check_modality(recipe, changes)
    before, resample, after = _parts(recipe)
    if changes.denoise is not None:
        before = [*(step for step in before if not isinstance(step, Denoise)), Denoise(method=changes.denoise)]
    resample = Resample(
        spacing_mm=changes.spacing_mm or resample.spacing_mm,
        interpolation=changes.interpolation or resample.interpolation,
        anti_alias=resample.anti_alias if changes.anti_alias is None else changes.anti_alias,
    )
    if changes.bias_field and not any(isinstance(step, BiasField) for step in after):
        after = [BiasField(), *after]
    buckets = recipe.buckets
    if last := _last_step(changes):
        after = [*(step for step in after if not isinstance(step, Window | Normalise)), last]
        buckets = replace(buckets, fill=0.0)  # the fill of other units says nothing in these
    if not changes.pad:
        buckets = replace(buckets, multiple=(1, 1, 1))
    made = replace(
        recipe,
        orientation=changes.orientation or recipe.orientation,
        steps=(*before, resample, *after),
        buckets=buckets,
    )
    if fault := fault_of(made):
        raise ValueError(fault)
    return made


def source_spacing(series: Series, orientation: str) -> Spacing:
    """Give the spacing of a series' own voxels along the axes of `orientation`; between slices it is the median."""
    stack = series.stack
    gaps = np.diff(stack.distances_mm)
    between = float(np.median(gaps)) if len(gaps) else 1.0
    own = (between, *stack.pixel_spacing_mm)
    axes = axes_of(source_affine(series))
    first, second, third = (
        own[axes.index(next(axis for axis, pair in enumerate(LETTERS) if letter in pair))] for letter in orientation
    )
    return first, second, third


def parse_spacing(text: str) -> Spacing | None:
    """Read `1`, `0.8,0.8,2` (mm) or `source` (None).

    Raises:
        ValueError: anything else.
    """
    if text == "source":
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 3) or not all(0 < number < math.inf for number in numbers):
        raise ValueError(f"{text!r} is not `source`, nor one or three lengths in mm above 0, as 1 or 0.8,0.8,2")
    first, second, third = numbers * (3 if len(numbers) == 1 else 1)
    return first, second, third


def _check_modality(recipe: VolumeRecipe, changes: Changes) -> None:
    if changes.window is not None and "CT" not in recipe.modalities:
        raise ValueError("windows are in HU, of a CT; `range` is the normalisation of an MR to 0..1")
    if changes.bias_field and "MR" not in recipe.modalities:
        raise ValueError("a bias field is a coil's, of an MR")


def _parts(recipe: VolumeRecipe) -> tuple[list[Step], Resample, list[Step]]:
    place = recipe.steps.index(recipe.resample)
    return list(recipe.steps[:place]), recipe.resample, list(recipe.steps[place + 1 :])


def _last_step(changes: Changes) -> Step | None:
    if changes.window is not None and changes.normalise is not None:
        raise ValueError("a window and a normalisation each set the scale: name one of them")
    if changes.window is not None:
        window = Window(name=changes.window)
        window_limits(window)
        return window
    return Normalise(method=changes.normalise) if changes.normalise is not None else None
