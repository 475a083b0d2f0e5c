"""The versioned recipe of a volume pipeline: everything that decides how a series becomes a tensor."""

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from wetread_preprocess.recipe import DecodeLimits
from wetread_preprocess.volumes.grid import LETTERS
from wetread_preprocess.volumes.steps import Resample, Step, Window, parse_steps
from wetread_preprocess.volumes.window import window_limits

SCHEMA = 1
KIND = "volume"


@dataclass(frozen=True)
class SeriesRules:
    """Which series are whole enough to be read, and what one may cost."""

    least_slices: int = 8
    """Fewer make no volume."""
    most_slices: int = 4096
    gap_ratio: float = 3.0
    gap_mm: float = 8.0
    """Neighbouring slices this far apart are interpolated between: the larger of `gap_mm` and `gap_ratio` times the
    median distance. A wider gap refuses the series."""
    most_odd_slices: float = 0.2
    """Share of a series' images that may be left out as unlike the rest (size, orientation, pixel type)."""


@dataclass(frozen=True)
class Buckets:
    """The sizes that volumes are padded to, so that like ones can share a batch."""

    multiple: tuple[int, int, int] = (32, 32, 32)
    """Each axis is padded at its end to the next multiple."""
    fill: float = 0.0
    """Of the padding, and of voxels outside every slice, in the units of the finished volume."""


@dataclass(frozen=True)
class VolumeRecipe:
    """How series of one pipeline are read; `recipe.json` in the version folder of the preprocess model."""

    orientation: str
    """Where the axes of VOLUME lead, axis 0 first: RAS is x to the right, y to the front, z upwards (nibabel's order);
    SPL is slices upwards, rows to the back, columns to the left (DICOM's order). The nearest axes are taken: nothing
    is turned by less than a right angle."""
    steps: tuple[Step, ...]
    modalities: frozenset[str]
    """Modality (0008,0060) values that are read."""
    body_parts: tuple[str, ...]
    """Body Part Examined (0018,0015) is welcome when it contains one of these."""
    other_body_parts: frozenset[str]
    """Body Part Examined values that plainly name another part and are refused."""
    series: SeriesRules = SeriesRules()
    buckets: Buckets = Buckets()
    most_voxels: int = 96 * 2**20
    """Of VOLUME with its padding; a larger one is refused."""
    limits: DecodeLimits = field(default_factory=DecodeLimits)

    @property
    def resample(self) -> Resample:
        """The one step that every recipe has."""
        return next(step for step in self.steps if isinstance(step, Resample))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `recipe.json` in `folder`, or a file of any name.

        Raises:
            ValueError: an unknown schema, a key missing or not known, or a value that makes no tensor, by name.
        """
        path = folder / "recipe.json" if folder.is_dir() else folder
        document: dict[str, Any] = json.loads(path.read_text())
        schema, kind = document.pop("schema", None), document.pop("kind", None)
        if (schema, kind) != (SCHEMA, KIND):
            raise ValueError(
                f"{path}: schema {schema} of kind {kind} is not known here, this code reads {SCHEMA} of {KIND}"
            )
        if unknown := document.keys() - {each.name for each in fields(cls)}:
            raise ValueError(f"{path}: unknown keys {sorted(unknown)}")
        try:
            recipe = cls(
                orientation=str(document["orientation"]),
                steps=parse_steps(document["steps"]),
                modalities=frozenset(document["modalities"]),
                body_parts=tuple(document["body_parts"]),
                other_body_parts=frozenset(document["other_body_parts"]),
                series=SeriesRules(**document.get("series", {})),
                buckets=Buckets(**_tuples(document.get("buckets", {}))),
                most_voxels=int(document.get("most_voxels", cls.most_voxels)),
                limits=DecodeLimits(**document.get("limits", {})),
            )
        except KeyError as error:
            raise ValueError(f"{path}: {error} is missing") from error
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error
        if fault := fault_of(recipe):
            raise ValueError(f"{path}: {fault}")
        return recipe


def _tuples(document: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in document.items()}


def fault_of(recipe: VolumeRecipe) -> str:
    """Say what keeps a recipe from making a tensor; empty: nothing."""
    axes = [next((axis for axis, pair in enumerate(LETTERS) if letter in pair), -1) for letter in recipe.orientation]
    if sorted(axes) != [0, 1, 2]:
        return f"orientation is {recipe.orientation!r}; it has one letter each of L or R, P or A, S or I"
    if len(recipe.buckets.multiple) != 3 or not all(isinstance(n, int) and n > 0 for n in recipe.buckets.multiple):
        return f"buckets.multiple is {recipe.buckets.multiple}, not three whole numbers above 0"
    try:
        for step in recipe.steps:
            if isinstance(step, Window):
                window_limits(step)
    except ValueError as error:
        return str(error)
    if len(recipe.resample.spacing_mm) != 3 or not all(spacing > 0 for spacing in recipe.resample.spacing_mm):
        return f"spacing_mm is {recipe.resample.spacing_mm}, not one or three numbers above 0"
    return ""
