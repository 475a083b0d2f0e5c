"""The versioned recipe: everything that decides how a film becomes a tensor."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self, get_args

SCHEMA = 1

Layout = Literal["NCHW", "NHWC"]


@dataclass(frozen=True)
class DecodeLimits:
    """What one film may cost before it is given up."""

    max_pixels: int = 64 * 2**20
    """Rows x Columns; the largest mammogram plates have 30 million."""
    max_inflated_bytes: int = 160 * 2**20
    """A deflated dataset may unpack to this much: max_pixels at 16 bit and a header."""
    timeout_s: float = 10.0
    """Wall clock for one decode; a full JPEG 2000 decode of 2048 x 2048 takes 0.2-0.6 s."""
    memory_bytes: int = 2**30
    """Address space a decoding process may add to what it starts with."""


@dataclass(frozen=True)
class Recipe:
    """How films of one pipeline are read; `recipe.json` in the version folder of the preprocess model."""

    size: tuple[int, int]
    """Rows and columns of IMAGE; the film is stretched to it."""
    mean: tuple[float, ...]
    """Of each channel; subtracted from the 0-255 gray value. In the file also one number for all channels."""
    scale: tuple[float, ...]
    """Of each channel; divides what the mean left. In the file also one number for all channels."""
    modalities: frozenset[str]
    """Modality (0008,0060) values that are read."""
    declared_modalities: frozenset[str]
    """Read too when the request declares the capture to be a film."""
    lateral_views: frozenset[str]
    """View Position (0018,5101) values that are refused."""
    lateral_view_codes: frozenset[str]
    """View Code Sequence (0054,0220) values that are refused."""
    body_parts: tuple[str, ...]
    """Body Part Examined (0018,0015) is welcome when it contains one of these."""
    other_body_parts: frozenset[str]
    """Body Part Examined values that plainly name another part and are refused."""
    min_side: int = 32
    """Rows and Columns below this hold no readable film."""
    reduce_from: int = 1024
    """Shorter side, in pixels, from which JPEG 2000 is decoded at a reduced resolution."""
    percentiles: tuple[float, float] = (0.5, 99.5)
    """The window of a film above 8 bits that states none."""
    limits: DecodeLimits = DecodeLimits()
    channels: int = 1
    """Of IMAGE, each the same film; 3 for networks that were trained on colour pictures first."""
    layout: Layout = "NCHW"
    """Where the channels stand in IMAGE: before the rows or after the columns."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """IMAGE of one film."""
        return (self.channels, *self.size) if self.layout == "NCHW" else (*self.size, self.channels)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `recipe.json` in `folder`.

        Raises:
            ValueError: an unknown schema, a key missing or not known, or a value that makes no tensor, by name.
        """
        path = folder / "recipe.json"
        document: dict[str, Any] = json.loads(path.read_text())
        schema = document.pop("schema", None)
        if schema != SCHEMA:
            raise ValueError(f"{path}: schema {schema} is not known here, this code reads {SCHEMA}; update Wetread")
        known = {field.name for field in fields(cls)}
        if unknown := document.keys() - known:
            raise ValueError(f"{path}: unknown keys {sorted(unknown)}")
        try:
            recipe = cls(
                **{
                    **document,
                    "size": tuple(document["size"]),
                    "mean": _by_channel(document, "mean"),
                    "scale": _by_channel(document, "scale"),
                    "modalities": frozenset(document["modalities"]),
                    "declared_modalities": frozenset(document["declared_modalities"]),
                    "lateral_views": frozenset(document["lateral_views"]),
                    "lateral_view_codes": frozenset(document["lateral_view_codes"]),
                    "body_parts": tuple(document["body_parts"]),
                    "other_body_parts": frozenset(document["other_body_parts"]),
                    "percentiles": tuple(document.get("percentiles", cls.percentiles)),
                    "limits": DecodeLimits(**document.get("limits", {})),
                }
            )
        except KeyError as error:
            raise ValueError(f"{path}: {error} is missing") from error
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error
        if fault := _fault(recipe):
            raise ValueError(f"{path}: {fault}")
        return recipe


def _by_channel(document: dict[str, Any], key: str) -> tuple[float, ...]:
    """Give a value of every channel, which the file may state once for all."""
    value = document[key]
    return tuple(map(float, value)) if isinstance(value, list) else (float(value),) * int(document.get("channels", 1))


def _fault(recipe: Recipe) -> str:
    """Say what keeps a recipe from making a tensor; empty: nothing."""
    if len(recipe.size) != 2 or not all(isinstance(side, int) and side > 0 for side in recipe.size):
        return f"size is {list(recipe.size)}, not rows and columns"
    if recipe.channels not in (1, 3):
        return f"channels is {recipe.channels}; a gray film fills 1 or 3"
    if recipe.layout not in get_args(Layout):
        return f"layout is {recipe.layout}, not one of {', '.join(get_args(Layout))}"
    for key, values in (("mean", recipe.mean), ("scale", recipe.scale)):
        if len(values) != recipe.channels:
            return f"{key} has {len(values)} values for {recipe.channels} channels"
    return "" if all(recipe.scale) else "scale has a 0, and nothing can be divided by it"
