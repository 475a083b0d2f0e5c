"""The rules that stand in files around a film classifier, read by the same code that serves them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wetread_postprocess import Postprocessor
from wetread_preprocess import Recipe

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class FilmInput:
    """What a recipe makes of a film."""

    shape: tuple[int, int, int]
    """Of IMAGE, one film."""
    span: tuple[float, float]
    """The values of black and white, the lowest and highest over the channels."""


def film_input(folder: Path) -> FilmInput:
    """Read the recipe in `folder`; ValueError, naming the file and key, when it cannot be served."""
    recipe = Recipe.load(folder)
    ends = [(level - mean) / scale for level in (0, 255) for mean, scale in zip(recipe.mean, recipe.scale, strict=True)]
    return FilmInput(recipe.shape, (min(ends), max(ends)))


def check_reading(folder: Path, scores: int, *, heatmap: bool, novelty: bool) -> None:
    """Check pipeline.json in `folder` against a classifier with `scores` columns and these outputs.

    Raises:
        ValueError: it cannot be served; the message names file and key.
        OSError: a file that it names is missing.
    """
    Postprocessor.load(folder).fits(scores, heatmap=heatmap, novelty=novelty)
