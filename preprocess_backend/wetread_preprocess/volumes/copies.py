"""Several images at one place: copies are left out, phases (contrast, echo, b-value, time) are told apart by a tag."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from wetread_preprocess.attributes import attribute_name
from wetread_preprocess.errors import ImageError, InvalidDicom, UnsupportedImage
from wetread_preprocess.volumes.pixels import raw_bytes
from wetread_preprocess.volumes.recipe import SeriesRules
from wetread_preprocess.volumes.slices import PHASES, Image, name_of
from wetread_preprocess.volumes.stack import LeftOut

_NAMED = 6


@dataclass
class Kept:
    """What is kept of a series, and what is not."""

    images: list[Image]
    left_out: list[LeftOut] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def without_copies(images: Sequence[Image], files: int) -> Kept:
    """Leave out images that carry the SOP Instance UID of another one.

    Raises:
        InvalidDicom: two such images have different pixels.
    """
    by_uid: dict[tuple[str, int], list[Image]] = {}
    for image in images:
        by_uid.setdefault((image.sop_instance_uid or f"file {image.source}", image.frame), []).append(image)
    kept = Kept([])
    for twins in by_uid.values():
        if len(twins) == 1:
            kept.images.append(twins[0])
            continue
        best, *others = sorted(twins, key=_preference)
        kept.images.append(best)
        for other in others:
            same_syntax = other.place.transfer_syntax == best.place.transfer_syntax
            if same_syntax and not _broken(other) and not _broken(best) and not _same_pixels(best, other):
                raise InvalidDicom(
                    f"{name_of(best, files)} and {name_of(other, files)} carry the same "
                    f"{attribute_name('SOPInstanceUID')} and are not the same image"
                )
            kept.left_out.append(_copy_of(other, best, files))
    return kept


def one_a_place(places: Sequence[Sequence[Image]], rules: SeriesRules, files: int) -> Kept:
    """Keep one image of each of `places`, which are in order along the normal.

    Raises:
        UnsupportedImage: several images differ, and no attribute tells them apart.
    """
    kept = Kept([])
    left: list[tuple[int, Image]] = []
    for number, place in enumerate(places):
        left += [(number, image) for image in (_distinct(place, files, kept) if len(place) > 1 else place)]
    if len(left) > len(places):
        left = _first_phase(left, len(places), rules, kept)
    held: dict[int, Image] = {}
    for number, image in left:
        if number in held:
            raise UnsupportedImage(
                f"{name_of(held[number], files)} and {name_of(image, files)} lie at one place and differ, and no "
                f"attribute ({', '.join(attribute_name(keyword) for keyword in PHASES[:4])}, ...) tells the series' "
                "images apart; send one phase"
            )
        held[number] = image
    kept.images = list(held.values())
    return kept


def _distinct(place: Sequence[Image], files: int, kept: Kept) -> list[Image]:
    """Without those that have the pixels of another one."""
    by_sum: dict[int, list[Image]] = {}
    for image in place:
        known = by_sum.setdefault(zlib.crc32(b"" if _broken(image) else raw_bytes(image)), [])
        twin = next((other for other in known if not _broken(image) and _same_image(image, other)), None)
        if twin is None:
            known.append(image)
        else:
            kept.left_out.append(_copy_of(image, twin, files))
    return [image for images in by_sum.values() for image in images]


def _first_phase(left: list[tuple[int, Image]], places: int, rules: SeriesRules, kept: Kept) -> list[tuple[int, Image]]:
    """Split by each tag that has all its values at (nearly) all places, and take the first value."""
    for number, keyword in enumerate(PHASES):
        if len(left) == places:
            break
        groups: dict[str, list[tuple[int, Image]]] = {}
        for place, image in left:
            groups.setdefault(image.kind.phase[number], []).append((place, image))
        covered = min(len({place for place, _ in group}) for group in groups.values())
        if len(groups) == 1 or covered < (1.0 - rules.most_odd_slices) * places:
            continue
        first, *others = sorted(groups, key=_in_order)
        name = attribute_name(keyword)
        for value in others:
            why = f"{name} is {_shown(value)}; read are the images with {_shown(first)}"
            kept.left_out += [LeftOut(image.source, image.sop_instance_uid, why) for _, image in groups[value]]
        named = ", ".join(map(_shown, others[:_NAMED])) + (" and more" if len(others) > _NAMED else "")
        kept.warnings.append(
            f"several images lie at each place: read are those with {name} {_shown(first)}, left out are {named}"
        )
        left = groups[first]
    return left


def _in_order(value: str) -> tuple[int, float, str]:
    """Numbers by their size, before texts."""
    try:
        return (0, float(value), value)
    except ValueError:
        return (1, 0.0, value)


def _shown(value: str) -> str:
    return value or "(none)"


def _preference(image: Image) -> tuple[bool, bool, str, str]:
    """Of copies: the sound one, uncompressed before compressed."""
    return _broken(image), image.place.encapsulated, image.place.transfer_syntax, image.kind.series_instance_uid


def _broken(image: Image) -> bool:
    if image.fault or image.damage or image.kind.fault:
        return True
    try:
        raw_bytes(image)
    except ImageError:
        return True
    return False


def _same_pixels(first: Image, second: Image) -> bool:
    one, other = raw_bytes(first), raw_bytes(second)
    return len(one) == len(other) and np.array_equal(np.frombuffer(one, np.uint8), np.frombuffer(other, np.uint8))


def _same_image(first: Image, second: Image) -> bool:
    meaning = [(each.slope, each.intercept, each.place.transfer_syntax) for each in (first, second)]
    return meaning[0] == meaning[1] and _same_pixels(first, second)


def _copy_of(image: Image, other: Image, files: int) -> LeftOut:
    return LeftOut(image.source, image.sop_instance_uid, f"the same image as {name_of(other, files)}")
