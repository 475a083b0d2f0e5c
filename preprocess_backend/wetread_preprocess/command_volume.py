"""A series on disk to a NIfTI-1 volume: which one, by which recipe, and what was done."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import typer

from wetread_preprocess.command_outputs import Outputs, write_text, write_volume
from wetread_preprocess.command_screen import Screen, with_names
from wetread_preprocess.errors import ImageError, UnsupportedImage
from wetread_preprocess.recipe import Recipe
from wetread_preprocess.volumes.on_disk import Found, SeriesOnDisk
from wetread_preprocess.volumes.plain_recipes import PLAIN_RECIPES, Changes, changed, source_spacing
from wetread_preprocess.volumes.recipe import KIND, VolumeRecipe
from wetread_preprocess.volumes.report import as_text, describe_volume
from wetread_preprocess.volumes.volume import Clock, Volume, VolumeOptions, VolumePreprocessor


@dataclass(frozen=True)
class Wish:
    """What the call asks for."""

    changes: Changes
    recipe: Recipe | VolumeRecipe | None = None
    """None: the plain one of the series' modality."""
    series: str = ""
    """Number in the list or UID; empty: the best."""
    source_spacing: bool = False
    any_body_part: bool = False
    identifiers: bool = False
    int16: bool = False
    """Values rounded to whole numbers."""
    threads: int | None = None


@dataclass(frozen=True)
class _Made:
    volume: Volume
    recipe: VolumeRecipe
    clock: Clock


def recipe_at(name: str) -> Recipe | VolumeRecipe:
    """Give a plain recipe by its name, or read `recipe.json`, of a volume or of a film, or that of a version folder.

    Raises:
        ValueError: there is none, or it is none.
    """
    if name in PLAIN_RECIPES:
        return PLAIN_RECIPES[name]
    path = Path(name) / "recipe.json" if Path(name).is_dir() else Path(name)
    if not path.is_file():
        raise ValueError(f"no recipe {path}; built in are {', '.join(PLAIN_RECIPES)}")
    document = json.loads(path.read_text())
    if isinstance(document, dict) and document.get("kind") == KIND:
        return VolumeRecipe.load(path)
    if path.name != "recipe.json":
        raise ValueError(f"{path} is no volume recipe (kind {KIND!r}); a film's is called recipe.json")
    return Recipe.load(path.parent)


def candidates(found: Found, wish: Wish) -> list[SeriesOnDisk]:
    """Give the series to try, best first.

    Raises:
        typer.BadParameter: the series that is wished for is not there.
        UnsupportedImage: nothing there can be read.
    """
    welcome = (
        wish.recipe.modalities if wish.recipe else frozenset().union(*(r.modalities for r in PLAIN_RECIPES.values()))
    )
    if wish.series:
        one = _by_name(found, wish.series)
        if one.images and one.modality in welcome:
            return [one]
        raise UnsupportedImage(
            f"the series is {one.modality or 'of no modality'} with {one.images} images; the recipe reads "
            f"{', '.join(sorted(welcome))} (--recipe names another)"
        )
    if chosen := [one for one in found.series if one.images and one.modality in welcome]:
        return chosen
    others = ", ".join(f"{one.images} images of {one.modality or 'no modality'}" for one in found.series)
    there = f"but {others}" if others else "nor any other DICOM file"
    films = any(one.modality in ("CR", "DX", "RG") for one in found.series) and not isinstance(wish.recipe, Recipe)
    raise UnsupportedImage(
        f"no images of {', '.join(sorted(welcome))} are there, {there}"
        + ("; films are read with `wetread read`, or here with --recipe and a film's recipe" if films else "")
    )


def series_to_nifti(found: Found, chosen: Sequence[SeriesOnDisk], wish: Wish, outputs: Outputs, screen: Screen) -> None:
    """Write the volume of the first of `chosen` that makes one, its mask if wished, and the JSON of what was done.

    Raises:
        ImageError: the last reason, where none makes one.
        typer.BadParameter: the recipe cannot be changed as wished.
    """
    refused: dict[str, str] = {}
    for one in chosen:
        try:
            made = _make(one, wish, screen)
        except ImageError as error:
            reason = with_names(str(error), one.files)
            if one is chosen[-1]:
                raise type(error)(reason) from error
            screen.warn(
                f"series {found.series.index(one) + 1} ({one.modality}, {one.images} images) is not read: {reason}"
            )
            refused[one.uid] = str(error)
        else:
            others = [_other(other, refused, wish) for other in found.series if other is not one]
            _write(made, one.files, others, wish, outputs, screen)
            return


def _by_name(found: Found, name: str) -> SeriesOnDisk:
    for number, one in enumerate(found.series, 1):
        if name in (one.uid, str(number)):
            return one
    raise typer.BadParameter(f"no series {name} is there; --list shows the {len(found.series)} that are")


def _make(one: SeriesOnDisk, wish: Wish, screen: Screen) -> _Made:
    assert not isinstance(wish.recipe, Recipe)
    if wish.int16 and (wish.changes.window or wish.changes.normalise):
        raise typer.BadParameter("--int16 keeps whole numbers, which a window or a normalisation leaves none of")
    try:
        recipe = changed(wish.recipe or PLAIN_RECIPES[one.modality.lower()], wish.changes)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    clock = Clock()
    with clock.step("files"), screen.counting("reading", len(one.files)) as step:
        files = []
        for path in one.files:
            files.append(np.fromfile(path, np.uint8))
            step()
    options = VolumeOptions(any_body_part=wish.any_body_part or "" in recipe.body_parts)
    with screen.waiting(f"a volume of {one.images} images"), VolumePreprocessor(recipe, wish.threads) as preprocessor:
        series, doubts = preprocessor.take(files, options, clock)
        if wish.source_spacing:
            spacing = source_spacing(series, recipe.orientation)
            recipe = changed(recipe, replace(wish.changes, spacing_mm=spacing))
            preprocessor.recipe = recipe
        return _Made(preprocessor.make(series, doubts, clock), recipe, clock)


def _write(
    made: _Made, files: Sequence[Path], others: list[dict[str, Any]], wish: Wish, outputs: Outputs, screen: Screen
) -> None:
    volume, pad = made.volume, wish.changes.pad
    values: npt.NDArray[Any] = volume.values[0] if pad else volume.content
    if wish.int16:
        values = _rounded(values)
    affine, threads = volume.grid.ras_affine, wish.threads or len(os.sched_getaffinity(0))
    with screen.waiting(f"writing {outputs.volume}"), made.clock.step("write"):
        if outputs.mask is not None:
            held: npt.NDArray[np.uint8] = volume.mask[0]
            shape = values.shape
            write_volume(outputs.mask, held[: shape[0], : shape[1], : shape[2]], affine)
        write_volume(outputs.volume, values, affine, threads=threads)
    document = describe_volume(volume, made.recipe, list(files), identifiers=wish.identifiers, padded=pad)
    document["other_series"] = others
    document["timings_ms"] = made.clock.timings_ms()
    write_text(outputs.document, as_text(document))
    for warning in volume.warnings:
        screen.warn(with_names(warning, files))
    screen.left_out(volume.series.left_out, files)
    size = " x ".join(map(str, values.shape))
    spacing = " x ".join(f"{side:.4g}" for side in volume.grid.spacing_mm)
    screen.result(
        f"{outputs.volume}: {size} voxels of {spacing} mm, {volume.grid.orientation}, "
        f"from {len(volume.series.stack.slices)} images of {volume.series.modality}; {outputs.document}"
    )


def _rounded(values: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    limits = np.iinfo(np.int16)
    if values.min() < limits.min or values.max() > limits.max:
        raise UnsupportedImage(f"values of {values.min():g} to {values.max():g} do not fit int16; leave --int16 out")
    return np.rint(values).astype(np.int16)


def _other(one: SeriesOnDisk, refused: dict[str, str], wish: Wish) -> dict[str, Any]:
    why = refused.get(one.uid) or ("it has no images" if not one.images else "another was taken")
    known = {"series_instance_uid": one.uid} if wish.identifiers else {}
    return {"modality": one.modality, "images": one.images, "why": why, **known}
