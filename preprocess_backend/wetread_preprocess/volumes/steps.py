"""The steps that a recipe may name, with their parameters; each is done by the module of its name."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

Interpolation = Literal["linear", "bspline"]
DenoiseMethod = Literal["nlm", "wavelet"]
PatchWeights = Literal["gaussian", "even"]
NormaliseMethod = Literal["z_score", "white_matter_peak", "range"]


@dataclass(frozen=True)
class Hounsfield:
    """CT numbers: padding and what is below air become air."""

    air: float = -1024.0


@dataclass(frozen=True)
class Denoise:
    """Noise of a level estimated from the image itself is taken out; before resampling, which would colour it."""

    method: DenoiseMethod = "nlm"
    planes: Literal[2, 3] = 3
    """Each slice for itself, or the volume as one."""
    strength: float = 0.8
    """Of nlm: the filter parameter h in standard deviations of the noise. Of wavelet: factor of the threshold."""
    patch: int = 3
    """Side of the compared patches in voxels, odd."""
    weights: PatchWeights = "gaussian"
    """Of nlm: what counts in a patch, its middle most or all voxels alike. `even` takes more out of much noise."""
    search: int = 7
    """Side of the window that is searched for like patches, odd."""

    def __post_init__(self) -> None:
        if self.planes not in {2, 3}:
            raise ValueError(f"planes is 2 or 3, not {self.planes}")
        if not self.strength > 0:
            raise ValueError(f"strength is above 0, not {self.strength:g}")
        if self.patch < 1 or self.search < 1 or self.patch % 2 == 0 or self.search % 2 == 0:
            raise ValueError(f"patch and search are odd and above 0, not {self.patch} and {self.search}")


@dataclass(frozen=True)
class Resample:
    """To a grid of the recipe's spacing, along the series' own axes."""

    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Along the axes of the recipe's orientation."""
    interpolation: Interpolation = "linear"
    anti_alias: bool = False
    """Blur along each axis that is made coarser, by what the coarser grid cannot show."""


@dataclass(frozen=True)
class BiasField:
    """N4: the slow unevenness of an MR coil is estimated on a shrunk, masked copy and divided out."""

    shrink: int = 4
    iterations: tuple[int, ...] = (50, 50, 30, 20)
    """At most, of each fitting level."""
    control_points: int = 4
    """Along each axis at the first level."""

    def __post_init__(self) -> None:
        if self.shrink < 1:
            raise ValueError(f"shrink is 1 or more, not {self.shrink}")
        if not self.iterations or min(self.iterations) < 1:
            raise ValueError(f"iterations are 1 or more of each level, not {list(self.iterations)}")
        if self.control_points < 4:
            raise ValueError(f"control_points is 4 or more, not {self.control_points}")


@dataclass(frozen=True)
class Window:
    """Clip to a window and scale it to 0..1. By name, or by level and width in HU."""

    name: str = ""
    level: float | None = None
    width: float | None = None


@dataclass(frozen=True)
class Normalise:
    """Bring MR intensities, which have no unit, to one scale."""

    method: NormaliseMethod = "z_score"
    percentiles: tuple[float, float] = (1.0, 99.0)
    """Of `range`: what becomes 0 and 1; values beyond are clipped."""

    def __post_init__(self) -> None:
        if len(self.percentiles) != 2 or not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise ValueError(f"percentiles are two rising numbers from 0 to 100, not {list(self.percentiles)}")


Step = Hounsfield | Denoise | Resample | BiasField | Window | Normalise
STEPS: dict[str, type[Step]] = {
    "hounsfield": Hounsfield,
    "denoise": Denoise,
    "resample": Resample,
    "bias_field": BiasField,
    "window": Window,
    "normalise": Normalise,
}
_CHOICES = {
    "method": frozenset(get_args(DenoiseMethod) + get_args(NormaliseMethod)),
    "interpolation": frozenset(get_args(Interpolation)),
    "weights": frozenset(get_args(PatchWeights)),
}
_BEFORE_RESAMPLE = (Hounsfield, Denoise)


def parse_steps(document: object) -> tuple[Step, ...]:
    """Read a recipe's `steps`: objects that name their `step` and its parameters.

    Raises:
        ValueError: an unknown step or parameter, a value out of its choices, an order that cannot be, not exactly one
            `resample`.
    """
    if not isinstance(document, list):
        raise ValueError("steps are a list")
    steps = tuple(_step(each) for each in document)
    where = [place for place, step in enumerate(steps) if isinstance(step, Resample)]
    if len(where) != 1:
        raise ValueError("the steps hold exactly one `resample`")
    for place, step in enumerate(steps):
        if place != where[0] and isinstance(step, _BEFORE_RESAMPLE) != (place < where[0]):
            name = next(name for name, kind in STEPS.items() if isinstance(step, kind))
            raise ValueError(f"`{name}` comes {'before' if place > where[0] else 'after'} `resample`")
    return steps


def _step(document: object) -> Step:
    if not isinstance(document, dict) or document.get("step") not in STEPS:
        raise ValueError(f"a step names one of {', '.join(STEPS)} as its `step`, not {document!r}")
    name = str(document["step"])
    values: dict[str, Any] = {
        key: tuple(v) if isinstance(v, list) else v for key, v in document.items() if key != "step"
    }
    if name == "resample" and isinstance(values.get("spacing_mm"), int | float):
        values["spacing_mm"] = (float(values["spacing_mm"]),) * 3
    for key, choices in _CHOICES.items():
        if key in values and values[key] not in choices:
            raise ValueError(f"{key} of `{name}` is {values[key]!r}, not one of {', '.join(sorted(choices))}")
    try:
        return STEPS[name](**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}`: {error}") from error
