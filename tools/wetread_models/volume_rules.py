"""The rules that stand in files around a model of series, read by the same code that serves them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wetread_postprocess import load_answerer
from wetread_preprocess.volumes.recipe import VolumeRecipe

if TYPE_CHECKING:
    from collections.abc import Mapping, Set
    from pathlib import Path


def bucket_of(folder: Path) -> tuple[int, int, int]:
    """Read the recipe in `folder`; give what each side of VOLUME is a multiple of.

    Raises:
        ValueError: the recipe cannot be served; the message names file and key.
    """
    return VolumeRecipe.load(folder).buckets.multiple


def check_answers(folder: Path, inputs: Mapping[str, tuple[int, ...]], outputs: Set[str]) -> None:
    """Check pipeline.json in `folder` against the inputs, with their dims, and the outputs of postprocessing.

    Raises:
        ValueError: it cannot be served; the message names file and key.
        OSError: a file that it names is missing.
    """
    load_answerer(folder).fits(inputs, outputs)
