"""Which images of a request may be slices: not those of other modalities, localisers, captures and derived ones."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wetread_preprocess.attributes import attribute_name
from wetread_preprocess.volumes.recipe import SeriesRules
from wetread_preprocess.volumes.slices import Image, NoImage
from wetread_preprocess.volumes.stack import LeftOut

# Image Type (0008,0008), PS3.3 C.7.6.1.1.2 and C.8.2.1.1.1, and what scanners write for pictures of text.
_LOCALISER = "LOCALIZER"
_DERIVED = "DERIVED"
_PICTURES = frozenset({"SCREEN SAVE", "SCREENSAVE", "DOSE_INFO", "DOSE INFO"})
_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # Secondary Capture Image Storage and its multi-frame forms, PS3.4 B.5


@dataclass(frozen=True)
class Sifted:
    """The images of a request by the stacks that they may make."""

    groups: list[list[Image]]
    left_out: list[LeftOut]

    @staticmethod
    def warnings(images: Iterable[Image]) -> tuple[str, ...]:
        """What to say of a series that is read although it is no original, or a CT in units of its own."""
        found, units = list[str](), set[str]()
        for image in images:
            if _is_derived(image) and not found:
                found.append(f"{attribute_name('ImageType')} is DERIVED: the images are not as the scanner made them")
            if image.kind.modality == "CT":
                units.add(image.kind.rescale_type)
        # PS3.3 C.8.2.1.1: a CT's values are Hounsfield units where it does not say otherwise.
        if other := sorted(units - {"", "HU"}):
            found.append(
                f"{attribute_name('RescaleType')} is {other[0][:16]}; the values are taken for HU all the same"
            )
        return tuple(found)


def sift(read: Sequence[list[Image] | NoImage], modalities: frozenset[str], rules: SeriesRules) -> Sifted:
    """Take a request's images apart by series (and by stack, where frames name theirs); leave out what is no slice.

    Derived images are left out only where originals make a series of their own.
    """
    left_out = []
    images = []
    for one in read:
        if isinstance(one, NoImage):
            left_out.append(one.left_out)
            continue
        for image in one:
            why = _why_not(image, modalities)
            if why:
                left_out.append(LeftOut(image.source, image.sop_instance_uid, why))
            else:
                images.append(image)
    groups = [stack for series in _by_series(images) for stack in _by_stack(series, rules.least_slices)]
    originals = [sum(not _is_derived(image) for image in group) for group in groups]
    if max(originals, default=0) >= rules.least_slices:
        why = f"{attribute_name('ImageType')} is DERIVED, and the request holds originals"
        left_out += [
            LeftOut(image.source, image.sop_instance_uid, why)
            for group in groups
            for image in group
            if _is_derived(image)
        ]
        groups = [[image for image in group if not _is_derived(image)] for group in groups]
    return Sifted([group for group in groups if group], left_out)


def _why_not(image: Image, modalities: frozenset[str]) -> str:
    kind = image.kind
    if kind.modality not in modalities:
        said = f"is {kind.modality}" if kind.modality else "is missing"
        return f"{attribute_name('Modality')} {said}; this pipeline reads {', '.join(sorted(modalities))}"
    if _LOCALISER in kind.image_type:
        return f"a localiser by its {attribute_name('ImageType')}"
    if not _PICTURES.isdisjoint(kind.image_type):
        return f"a picture of text by its {attribute_name('ImageType')}"
    if kind.sop_class_uid.startswith(_CAPTURE) and image.position_mm is None:
        return "a secondary capture, which has no place in the patient"
    return ""


def _is_derived(image: Image) -> bool:
    return image.kind.image_type[:1] == (_DERIVED,)


def _by_series(images: list[Image]) -> list[list[Image]]:
    series: dict[str, list[Image]] = {}
    for image in images:
        series.setdefault(image.kind.series_instance_uid, []).append(image)
    return list(series.values())


def _by_stack(series: list[Image], least: int) -> list[list[Image]]:
    """The stacks that enhanced images name (Stack ID (0020,9056)); images that name none go with the largest."""
    stacks: dict[str, list[Image]] = {}
    for image in series:
        if image.fault is None and image.kind.fault is None:
            stacks.setdefault(image.kind.stack_id, []).append(image)
    if len(stacks) < 2 or max(map(len, stacks.values())) < least:
        return [series]
    largest = min(stacks, key=lambda name: (-len(stacks[name]), name))
    stacks[largest] += [image for image in series if image.fault or image.kind.fault]
    return list(stacks.values())
