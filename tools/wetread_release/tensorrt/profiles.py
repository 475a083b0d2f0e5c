"""Smallest, best and largest shape of every input: what TensorRT compiles kernels for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from wetread_release.errors import BadModel
from wetread_release.tensorrt.refusals import Refusal


class AxisRange(NamedTuple):
    """Sizes that an axis may have; kernels are chosen for the optimum."""

    minimum: int
    optimum: int
    maximum: int

    @classmethod
    def parse(cls, text: str, what: str) -> "AxisRange":
        """Read `16`, `1,16` or `1,8,16`; a lone number n is 1 to n, fastest at n.

        Raises:
            BadModel: it is none of these, or not in order.
        """
        try:
            sizes = [int(size) for size in text.split(",")]
        except ValueError:
            sizes = []
        if not 1 <= len(sizes) <= 3 or sizes != sorted(sizes) or sizes[0] < 1:
            raise BadModel(f"{what} {text!r} is no range: give smallest,best,largest as in 1,8,16")
        if len(sizes) == 1:
            sizes.insert(0, 1)
        return cls(sizes[0], sizes[len(sizes) // 2], sizes[-1])


@dataclass(frozen=True)
class InputShape:
    """An input as the file declares it; an axis that may differ has a name instead of a size."""

    name: str
    axes: tuple[int | str, ...]

    @property
    def dynamic(self) -> tuple[str, ...]:
        """Give the names of the axes that may differ."""
        return tuple(axis for axis in self.axes if isinstance(axis, str))


@dataclass(frozen=True)
class InputProfile:
    """Three shapes of one input."""

    name: str
    minimum: tuple[int, ...]
    optimum: tuple[int, ...]
    maximum: tuple[int, ...]


BATCH = AxisRange(1, 8, 16)


def batch_axes(inputs: Sequence[InputShape]) -> frozenset[str]:
    """Give the names of the first axes that may differ: Triton batches along them."""
    return frozenset(shape.axes[0] for shape in inputs if shape.axes and isinstance(shape.axes[0], str))


def ranges_of(
    inputs: Sequence[InputShape], batch: AxisRange, axes: Mapping[str, AxisRange]
) -> tuple[dict[str, AxisRange], tuple[Refusal, ...]]:
    """Give the range of every axis that may differ, and a refusal for each that nobody gave one for.

    Args:
        inputs: of the model.
        batch: for the first axis of every input, unless `axes` names it.
        axes: by the axis' name.
    """
    batches = batch_axes(inputs)
    found: dict[str, AxisRange] = {}
    missing = []
    for shape in inputs:
        for axis in shape.dynamic:
            if axis in axes:
                found[axis] = axes[axis]
            elif axis in batches:
                found[axis] = batch
            else:
                missing.append(_without_range(shape, axis))
    return found, tuple(missing)


def profiles_of(inputs: Sequence[InputShape], ranges: Mapping[str, AxisRange]) -> tuple[InputProfile, ...]:
    """Give the three shapes of every input that has an axis that may differ."""
    profiles = []
    for shape in inputs:
        if shape.dynamic:
            sizes = [ranges[axis] if isinstance(axis, str) else AxisRange(axis, axis, axis) for axis in shape.axes]
            minimum, optimum, maximum = zip(*sizes, strict=True)
            profiles.append(InputProfile(shape.name, minimum, optimum, maximum))
    return tuple(profiles)


def _without_range(shape: InputShape, axis: str) -> Refusal:
    return Refusal(
        shape.name,
        "input",
        f"axis {axis} may have any size, and TensorRT compiles for a smallest, best and largest one",
        f"Say which: --axis {axis}=64,128,256 (smallest,best,largest), or export the model with a fixed size.",
    )
