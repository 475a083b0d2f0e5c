"""The files of a request to one series: which of them are its slices, where those lie, and their stored values."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from wetread_preprocess.attributes import attribute_name
from wetread_preprocess.errors import ImageError, InvalidDicom, UnsupportedImage
from wetread_preprocess.header import Buffer
from wetread_preprocess.recipe import DecodeLimits
from wetread_preprocess.sandbox import Sandbox
from wetread_preprocess.volumes.order import Placement, place
from wetread_preprocess.volumes.pixels import read_pixels
from wetread_preprocess.volumes.recipe import SeriesRules
from wetread_preprocess.volumes.sift import Sifted, sift
from wetread_preprocess.volumes.slices import Image, NoImage, Reader, name_of
from wetread_preprocess.volumes.stack import LeftOut, Pixels, Series, Slice, Stack

_MOST_DECODED = 2**29
"""Pixels of a compressed series: a gigabyte as 16 bit."""


@dataclass(frozen=True)
class _Candidate:
    images: list[Image]
    placement: Placement | None
    refusal: ImageError | None

    @property
    def merit(self) -> tuple[int, int, str]:
        """The most images first; of equal series the lower Series Number (0020,0011)."""
        kind = self.images[0].kind
        count = len(self.placement.images if self.placement else self.images)
        return -count, kind.series_number, f"{kind.series_instance_uid} {kind.stack_id}"


def read_series(
    files: Sequence[Buffer], rules: SeriesRules, limits: DecodeLimits, sandbox: Sandbox, modalities: frozenset[str]
) -> Series:
    """Make one series of DICOM files (uint8 [n] or bytes each) in any order.

    Of several series the one with the most images is read that can be; files are named by their place, from 1. Native
    pixels stay views of the files' bytes.

    Raises:
        InvalidDicom: no file is DICOM, the series lacks slices, or one is damaged.
        UnsupportedImage: no series is for this pipeline, or none is whole.
    """
    reader = Reader(limits, rules.most_slices)
    read = [reader.read(source, dicom) for source, dicom in enumerate(files, start=1)]
    broken = [one.left_out for one in read if isinstance(one, NoImage) and one.broken]
    sifted = sift(read, modalities, rules)
    candidates = [_tried(images, rules, len(files)) for images in sifted.groups]
    if not candidates:
        raise _nothing(sifted, len(files), modalities, all_broken=len(broken) == len(files))
    candidates.sort(key=lambda each: (each.placement is None, each.merit))
    best, *others = candidates
    if best.placement is None:
        assert best.refusal is not None
        raise type(best.refusal)(f"{best.refusal}{_also(others)}{_unreadable(broken, len(files))}")
    slices, padding = _slices(best.placement, sandbox, len(files))
    stack = Stack(
        slices,
        best.placement.look.row_direction,
        best.placement.look.column_direction,
        best.placement.look.pixel_spacing_mm,
        padding,
    )
    left_out = [*sifted.left_out, *best.placement.left_out, *(one for other in others for one in _rest(other))]
    unread = tuple(f"file {one.source} of {len(files)} is left out: {one.why}" for one in broken)
    kind = best.placement.images[0].kind
    return Series(
        stack,
        kind.modality,
        _body_part(best.placement),
        kind.series_instance_uid,
        best.placement.tilt_degrees,
        _gathered(left_out),
        (*unread, *sifted.warnings(best.images), *best.placement.warnings),
    )


def _tried(images: list[Image], rules: SeriesRules, files: int) -> _Candidate:
    try:
        return _Candidate(images, place(images, rules, files), None)
    except ImageError as error:
        return _Candidate(images, None, error)


def _slices(placement: Placement, sandbox: Sandbox, files: int) -> tuple[tuple[Slice, ...], tuple[int, int] | None]:
    """Give the slices with their stored values, and the padding range that holds for all of them."""
    look = placement.look
    compressed = sum(image.place.encapsulated for image in placement.images)
    if compressed * look.rows * look.columns > _MOST_DECODED:
        raise UnsupportedImage(
            f"the series has {compressed} compressed slices of {look.rows} x {look.columns}; up to {_MOST_DECODED} "
            "pixels are decoded"
        )
    stated = Counter(image.kind.padding for image in placement.images if image.kind.padding is not None)
    padding = min(stated, key=lambda each: (-stated[each], each)) if stated else None
    slices = []
    for image in placement.images:
        assert image.position_mm is not None  # an image without one has a fault and no place
        try:
            pixels = read_pixels(image, sandbox)
        except ImageError as error:
            raise type(error)(f"{name_of(image, files)}: {error}") from error
        if padding is not None and image.kind.padding not in (None, padding):
            pixels = _padded_alike(pixels, image.kind.padding, padding)
        uid = image.sop_instance_uid
        slices.append(Slice(image.source, image.frame, uid, image.position_mm, image.slope, image.intercept, pixels))
    return tuple(slices), padding


def _padded_alike(pixels: Pixels, own: tuple[int, int] | None, common: tuple[int, int]) -> Pixels:
    """A copy whose padding is the other slices'."""
    if own is None:
        return pixels
    made = pixels.copy()
    made[(pixels >= own[0]) & (pixels <= own[1])] = common[0]
    return made


def _body_part(placement: Placement) -> str:
    named = Counter(image.kind.body_part for image in placement.images if image.kind.body_part)
    return min(named, key=lambda part: (-named[part], part)) if named else ""


def _rest(other: _Candidate) -> list[LeftOut]:
    why = f"of another series of {len(other.images)} images: {other.refusal or 'the larger one is read'}"
    return [LeftOut(image.source, image.sop_instance_uid, why) for image in other.images]


def _gathered(left_out: list[LeftOut]) -> tuple[LeftOut, ...]:
    """Each file once for each reason, in the request's order, however many of its frames it is true of."""
    counted = Counter(left_out)
    return tuple(
        one if count == 1 else replace(one, why=f"{count} frames: {one.why}")
        for one, count in sorted(counted.items(), key=lambda item: (item[0].source, item[0].why))
    )


def _also(others: list[_Candidate]) -> str:
    if not others:
        return ""
    return f"; of the request's other series ({len(others)}) none can be read either: {others[0].refusal}"


def _unreadable(broken: list[LeftOut], files: int) -> str:
    return "".join(f"; file {one.source} of {files}: {one.why}" for one in broken[:3])


def _nothing(sifted: Sifted, files: int, modalities: frozenset[str], *, all_broken: bool) -> ImageError:
    if not files:
        return InvalidDicom("the request holds no file")
    named: dict[str, int] = {}
    for one in sifted.left_out:
        named.setdefault(one.why, one.source)
    reasons = "; ".join(f"file {source} of {files}: {why}" for why, source in list(named.items())[:3])
    if all_broken:
        return InvalidDicom(reasons)
    wanted = ", ".join(sorted(modalities))
    return UnsupportedImage(f"no file is a slice of a series of {attribute_name('Modality')} {wanted}: {reasons}")
