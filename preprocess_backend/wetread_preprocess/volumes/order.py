"""Slices where they lie: in order along the normal, one a place, without a gap too wide to be interpolated."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wetread_preprocess.errors import InvalidDicom, UnsupportedImage
from wetread_preprocess.volumes.alike import Look, most_alike
from wetread_preprocess.volumes.copies import one_a_place, without_copies
from wetread_preprocess.volumes.recipe import SeriesRules
from wetread_preprocess.volumes.slices import Image, name_of
from wetread_preprocess.volumes.stack import LeftOut, Vector

_SAME_PLACE_MM = 0.01
_WIDE = 1.5
"""Times the median distance: from here on a warning says that slices are interpolated between."""
_NARROW = 0.2
"""Times the median distance: below it a warning says so."""
_LEAST_TILT_DEGREES = 0.1
_MOST_TILT_DEGREES = 45.0
_MOST_STRAY = 0.1
"""Of the field of view: so far may slices lie off the line through them all, in their plane."""
_NAMED = 3


@dataclass(frozen=True)
class Placement:
    """Images of one stack, in order along the normal."""

    images: tuple[Image, ...]
    look: Look
    tilt_degrees: float
    left_out: tuple[LeftOut, ...]
    warnings: tuple[str, ...]


def place(images: Sequence[Image], rules: SeriesRules, files: int) -> Placement:
    """Put the images of one series in order, and say what keeps them from being a volume.

    `files`: in the request, for messages.

    Raises:
        InvalidDicom: an attribute is missing or malformed, a slice is missing or damaged.
        UnsupportedImage: too few images, images of several kinds or phases.
    """
    # The order of the request decides nothing but the names in messages.
    ordered = sorted(images, key=lambda image: (image.sop_instance_uid, image.frame, image.source))
    unique = without_copies(ordered, files)
    alike = most_alike(unique.images, rules, files)
    _admit_count(len(alike.images), rules)
    normal = np.cross(alike.look.row_direction, alike.look.column_direction)
    kept = one_a_place(_places(alike.images, normal), rules, files)
    _admit_count(len(kept.images), rules)
    positions = np.array([image.position_mm for image in kept.images], np.float64)
    distances = (positions - positions[0]) @ normal
    warnings: list[str] = []
    tilt, doubts = 0.0, list[str]()
    if len(kept.images) > 1:
        warnings = _gaps(kept.images, distances, rules, files)
        tilt, doubts = _line(positions, distances, normal, alike.look)
    for image in kept.images:
        if image.damage is not None:
            raise InvalidDicom(f"{name_of(image, files)}: {image.damage}")
    return Placement(
        tuple(kept.images),
        alike.look,
        tilt,
        (*unique.left_out, *alike.left_out, *kept.left_out),
        (*alike.warnings, *kept.warnings, *warnings, *doubts),
    )


def _admit_count(slices: int, rules: SeriesRules) -> None:
    if slices < rules.least_slices:
        raise UnsupportedImage(
            f"the series has {slices} slice{'s'[: slices != 1]}; a volume is made of {rules.least_slices} or more"
        )
    if slices > rules.most_slices:
        raise UnsupportedImage(f"the series has {slices} slices; up to {rules.most_slices} are read")


def _places(images: Sequence[Image], normal: Vector) -> list[list[Image]]:
    """Images in order along the normal, those at one distance together."""
    distances = np.array([image.position_mm for image in images], np.float64) @ normal
    places: list[list[Image]] = []
    last = -math.inf
    for number in np.argsort(distances, kind="stable").tolist():
        if distances[number] - last < _SAME_PLACE_MM:
            places[-1].append(images[number])
        else:
            places.append([images[number]])
            last = float(distances[number])
    return places


def _gaps(images: Sequence[Image], distances: npt.NDArray[np.float64], rules: SeriesRules, files: int) -> list[str]:
    """Warn of slices that are far apart, by their place.

    Raises:
        InvalidDicom: further than the rules allow.
    """
    steps = np.diff(distances)
    usual = float(np.median(steps))
    limit = max(rules.gap_mm, rules.gap_ratio * usual)

    def where(number: int) -> str:
        first, second = images[number], images[number + 1]
        names = f"between {name_of(first, files)} and {name_of(second, files)}, at {distances[number]:.1f} mm"
        return f"{names}: {steps[number]:.1f} mm, where slices are {usual:.1f} mm apart"

    widest = int(np.argmax(steps))
    if steps[widest] > limit:
        raise InvalidDicom(f"slices are missing {where(widest)}; up to {limit:.1f} mm is interpolated")
    warnings = []
    for numbers, what in (
        (np.flatnonzero(steps > _WIDE * usual).tolist(), "wide gaps are interpolated"),
        (np.flatnonzero(steps < _NARROW * usual).tolist(), "slices lie close together"),
    ):
        if numbers:
            more = f"; and {len(numbers) - _NAMED} more" if len(numbers) > _NAMED else ""
            warnings.append(f"{what} {'; '.join(map(where, numbers[:_NAMED]))}{more}")
    return warnings


def _line(positions: Vector, distances: npt.NDArray[np.float64], normal: Vector, look: Look) -> tuple[float, list[str]]:
    """Give the angle between the normal and the line through the slices' first pixels, in degrees.

    Raises:
        InvalidDicom: the slices do not follow each other along a line near the normal.
    """
    shifts = positions - positions[0] - distances[:, None] * normal
    centred = distances - distances.mean()
    slope = centred @ (shifts - shifts.mean(axis=0)) / (centred @ centred)
    tilt = math.degrees(math.atan(float(np.linalg.norm(slope))))
    stray = shifts - shifts.mean(axis=0) - centred[:, None] * slope
    furthest = float(np.linalg.norm(stray, axis=1).max())
    spacing = look.pixel_spacing_mm
    field_of_view = min(look.rows * spacing[0], look.columns * spacing[1])
    if tilt > _MOST_TILT_DEGREES or furthest > _MOST_STRAY * field_of_view:
        raise InvalidDicom(
            "Image Position (Patient) (0020,0032) does not lead along the slices' normal: it runs off by "
            f"{tilt:.0f} degrees, and by up to {furthest:.1f} mm in the plane"
        )
    doubts = []
    if furthest > max(spacing):
        doubts = [f"slices are shifted against each other in their plane, by up to {furthest:.1f} mm"]
    return (tilt if tilt >= _LEAST_TILT_DEGREES else 0.0), doubts
