"""Which images of a series are of one kind: size, pixels, orientation; the odd ones are left out while they are few."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wetread_preprocess.attributes import attribute_name
from wetread_preprocess.errors import ImageError, InvalidDicom, UnsupportedImage
from wetread_preprocess.volumes.plane import Six
from wetread_preprocess.volumes.recipe import SeriesRules
from wetread_preprocess.volumes.slices import Image, Kind, name_of
from wetread_preprocess.volumes.stack import LeftOut, Point

_SKEW = 2e-3
"""Direction cosines may be off by this: unit length, and the cosine between rows and columns. Values written with
three decimals stay below; over 250 mm it is half a millimetre."""
_SAME_DIRECTION = 1e-3
"""Of the images of one stack, in radians: 0.06 degrees."""
_SAME_SPACING = 1e-3
"""Relative."""
_NAMED = 3
_LOCALISER_IMAGES = 24
_LOCALISER_ANGLE = math.radians(45.0)


@dataclass(frozen=True)
class Look:
    """What must be equal in the images of a stack."""

    rows: int
    columns: int
    bits: int
    signed: bool
    frame_of_reference_uid: str
    pixel_spacing_mm: tuple[float, float]
    row_direction: Point
    column_direction: Point

    def turn(self, other: "Look") -> float:
        """Radians between the planes' axes, the larger."""
        return max(
            _angle(self.row_direction, other.row_direction), _angle(self.column_direction, other.column_direction)
        )

    def differences(self, other: "Look") -> list[str]:
        """In words, what of this one is not as in `other`; none: they belong together."""
        found = []
        if (self.rows, self.columns) != (other.rows, other.columns):
            found.append(f"Rows x Columns {self.rows} x {self.columns}")
        if self.bits != other.bits:
            found.append(f"{attribute_name('BitsAllocated')} {self.bits}")
        if self.signed != other.signed:
            found.append(f"{attribute_name('PixelRepresentation')} {int(self.signed)}")
        if self.frame_of_reference_uid != other.frame_of_reference_uid:
            found.append(f"another {attribute_name('FrameOfReferenceUID')}")
        if not np.allclose(self.pixel_spacing_mm, other.pixel_spacing_mm, rtol=_SAME_SPACING, atol=0.0):
            rows, columns = self.pixel_spacing_mm
            found.append(f"{attribute_name('PixelSpacing')} {rows:g} and {columns:g} mm")
        if (turn := self.turn(other)) > _SAME_DIRECTION:
            found.append(f"planes turned by {math.degrees(turn):.1f} degrees")
        return found


@dataclass(frozen=True)
class Alike:
    """The images of a series that belong together."""

    images: list[Image]
    look: Look
    left_out: list[LeftOut]
    warnings: list[str]


def directions(orientation: Six) -> tuple[Point, Point]:
    """Give Image Orientation (Patient) as two unit vectors at a right angle, each moved as little as the other.

    Raises:
        InvalidDicom: they are further off than 0.002 (length, cosine between them).
    """
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    lengths = np.array([np.linalg.norm(row), np.linalg.norm(column)])
    if np.abs(lengths - 1.0).max() > _SKEW or abs(row @ column) > _SKEW:
        raise InvalidDicom(
            f"{attribute_name('ImageOrientationPatient')} holds no two unit vectors at a right angle "
            f"(lengths {lengths[0]:.4f} and {lengths[1]:.4f}, cosine {row @ column:.4f})"
        )
    row, column = row / lengths[0], column / lengths[1]
    if abs(row @ column) > 1e-12:
        along, across = row + column, row - column
        along, across = along / np.linalg.norm(along), across / np.linalg.norm(across)
        row, column = (along + across) / math.sqrt(2.0), (along - across) / math.sqrt(2.0)
    return _point(row.tolist()), _point(column.tolist())


def most_alike(images: Sequence[Image], rules: SeriesRules, files: int) -> Alike:
    """Take the largest group of images that fit each other.

    Raises:
        InvalidDicom, UnsupportedImage: none is sound, or the rest is more than `rules.most_odd_slices` of them.
    """
    groups, faulty = _groups(images)
    if not groups:
        raise _refusal(faulty, len(images), files)
    # The larger first; of equal ones the one that the images' order, which is not that of the request, puts first.
    (look, best), *others = sorted(groups, key=lambda group: -len(group[1]))
    odd = [(image, "; ".join(own.differences(look))) for own, group in others for image in group]
    if len(odd) + len(faulty) > rules.most_odd_slices * len(images):
        if len(faulty) >= len(odd):
            raise _refusal(faulty, len(images), files)
        raise _mixed(groups, len(images))
    left_out = [LeftOut(image.source, image.sop_instance_uid, f"unlike the others: {how}") for image, how in odd]
    left_out += [LeftOut(image.source, image.sop_instance_uid, str(fault)) for image, fault in faulty]
    names = [image for image, _ in odd] + [image for image, _ in faulty]
    warnings = _told(list(zip(names, left_out, strict=True)), files)
    return Alike(best, look, left_out, warnings)


def _told(left_out: list[tuple[Image, LeftOut]], files: int) -> list[str]:
    """One warning for each reason, with the first files that it is true of."""
    by_reason: dict[str, list[Image]] = {}
    for image, one in sorted(left_out, key=lambda pair: (pair[0].source, pair[0].frame)):
        by_reason.setdefault(one.why, []).append(image)
    return [
        f"{len(images)} of the series' images left out ({', '.join(name_of(image, files) for image in images[:_NAMED])}"
        f"{', ...' if len(images) > _NAMED else ''}): {why}"
        for why, images in by_reason.items()
    ]


def _groups(images: Sequence[Image]) -> tuple[list[tuple[Look, list[Image]]], list[tuple[Image, ImageError]]]:
    groups: list[tuple[Look, list[Image]]] = []
    faulty: list[tuple[Image, ImageError]] = []
    known: dict[int, list[Image] | ImageError] = {}
    for image in images:
        fault = image.fault or image.kind.fault
        if fault is not None:
            faulty.append((image, fault))
            continue
        place = known.get(id(image.kind))
        if place is None:
            place = known[id(image.kind)] = _place_of(image.kind, groups)
        if isinstance(place, ImageError):
            faulty.append((image, place))
        else:
            place.append(image)
    return groups, faulty


def _place_of(kind: Kind, groups: list[tuple[Look, list[Image]]]) -> list[Image] | ImageError:
    """The group that images of this kind belong to, a new one if need be."""
    try:
        look = _look(kind)
    except InvalidDicom as error:
        return error
    for other, group in groups:
        if not look.differences(other):
            return group
    groups.append((look, []))
    return groups[-1][1]


def _look(kind: Kind) -> Look:
    fmt, turn, spacing = kind.fmt, kind.orientation, kind.pixel_spacing_mm
    assert fmt is not None  # an image without them has a fault
    assert turn is not None
    assert spacing is not None
    row, column = directions(turn)
    return Look(
        fmt.rows, fmt.columns, fmt.bits_allocated, fmt.signed, kind.frame_of_reference_uid, spacing, row, column
    )


def _refusal(faulty: list[tuple[Image, ImageError]], images: int, files: int) -> ImageError:
    image, fault = min(faulty, key=lambda one: (one[0].source, one[0].frame))
    return type(fault)(f"{name_of(image, files)}: {fault} (so of {len(faulty)} of the series' {images} images)")


def _mixed(groups: list[tuple[Look, list[Image]]], images: int) -> UnsupportedImage:
    turned = any(a.turn(b) > _LOCALISER_ANGLE for (a, _), (b, _) in itertools.combinations(groups, 2))
    if turned and images <= _LOCALISER_IMAGES:
        return UnsupportedImage(f"a localiser: {images} images in {len(groups)} orientations")
    (look, best), *others = sorted(groups, key=lambda group: -len(group[1]))
    rest = "; ".join(f"{len(group)} have {', '.join(own.differences(look))}" for own, group in others[:4])
    size = f"Rows x Columns {look.rows} x {look.columns}"
    return UnsupportedImage(f"the series' {images} images are of several kinds: {len(best)} alike ({size}), {rest}")


def _angle(first: Point, second: Point) -> float:
    return math.acos(min(max(sum(a * b for a, b in zip(first, second, strict=True)), -1.0), 1.0))


def _point(values: list[float]) -> Point:
    return values[0], values[1], values[2]
