"""Enhanced multi-frame images: the functional groups of each frame (PS3.3 C.7.6.16), over what all frames share."""

import struct
from dataclasses import replace

from pydicom.dataset import Dataset

from wetread_preprocess.attributes import Attributes, attribute_name
from wetread_preprocess.errors import ImageError, InvalidDicom
from wetread_preprocess.volumes.plane import Six, as_written, orientation, pixel_spacing, position, rescale, texts
from wetread_preprocess.volumes.slices import PHASES, Image, Kind, NoImage, PixelPlace
from wetread_preprocess.volumes.stack import LeftOut

# PS3.3 C.7.6.16, C.8.13, C.8.15: where a frame says what may tell it from another at its place, as PHASES orders it.
_PHASE_GROUPS = {
    "AcquisitionNumber": ("FrameContentSequence", "FrameAcquisitionNumber"),
    "TemporalPositionIdentifier": ("FrameContentSequence", "TemporalPositionIndex"),
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "DiffusionBValue": ("MRDiffusionSequence", "DiffusionBValue"),
    "TriggerTime": ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    "ConvolutionKernel": ("CTReconstructionSequence", "ConvolutionKernel"),
}
_FRAME_TYPES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence")
_OFFSETS = struct.Struct("<Q")


class _Groups:
    """The functional groups of one frame: its own, else the shared ones."""

    def __init__(self, own: Dataset, shared: Dataset | None) -> None:
        self._own = Attributes(own)
        self._shared = None if shared is None else Attributes(shared)

    def item(self, sequence: str) -> Attributes:
        """The group's item, empty when there is none."""
        for groups in (self._own, self._shared):
            items = groups.items(sequence) if groups is not None else ()
            if items:
                return Attributes(items[0])
        return Attributes(Dataset())


def read_frames(source: int, read: Attributes, kind: Kind, place: PixelPlace, most: int) -> list[Image] | NoImage:
    """Give the images of a multi-frame file: `kind` is what its top level says.

    `most`: frames beyond which it is left out.
    """
    uid = read.text("SOPInstanceUID", "")
    try:
        frames = kind.frames
        if not 1 <= frames <= most:
            why = f"{attribute_name('NumberOfFrames')} is {frames}; up to {most} are read"
            return NoImage(LeftOut(source, uid, why))
        place = replace(place, frames=frames, offsets=_offsets(read, frames))
        per_frame = read.items("PerFrameFunctionalGroupsSequence")
        if len(per_frame) != frames and kind.fault is None:
            name = attribute_name("PerFrameFunctionalGroupsSequence")
            kind = replace(kind, fault=InvalidDicom(f"{name} has {len(per_frame)} items for {frames} frames"))
        if kind.fault is not None:
            return [Image(source, 0, uid, kind, place, None, fault=kind.fault)]
        shared = next(iter(read.items("SharedFunctionalGroupsSequence")), None)
    except ImageError as error:
        return [Image(source, 0, uid, replace(kind, fault=error), place, None, fault=error)]
    kind = replace(kind, body_part=kind.body_part or _anatomy(read))
    kinds: dict[tuple[object, ...], Kind] = {}
    made = []
    for number, own in enumerate(per_frame):
        made.append(_frame(source, number, uid, kind, place, _Groups(own, shared), kinds))
    return made


def _frame(
    source: int,
    number: int,
    uid: str,
    kind: Kind,
    place: PixelPlace,
    groups: _Groups,
    kinds: dict[tuple[object, ...], Kind],
) -> Image:
    try:
        content = groups.item("FrameContentSequence")
        where = position(groups.item("PlanePositionSequence"))
        plane, measures = groups.item("PlaneOrientationSequence"), groups.item("PixelMeasuresSequence")
        turn, spacing = orientation(plane), pixel_spacing(measures)
        slope, intercept = rescale(groups.item("PixelValueTransformationSequence"))
        frame_type = next((found for name in _FRAME_TYPES if (found := texts(groups.item(name), "FrameType"))), ())
        phase = _phase(groups, kind, frame_type)
        key = (turn, spacing, frame_type, phase, content.text("StackID", ""))
        own = kinds.get(key)
        if own is None:
            own = kinds[key] = replace(
                kind,
                orientation=turn,
                pixel_spacing_mm=spacing,
                image_type=frame_type or kind.image_type,
                phase=phase,
                stack_id=content.text("StackID", ""),
            )
        fault = _absent(where, turn, spacing)
    except ImageError as error:
        return Image(source, number, uid, kind, place, None, fault=error)
    return Image(source, number, uid, own, place, where, slope, intercept, fault)


def _absent(where: object, turn: Six | None, spacing: object) -> InvalidDicom | None:
    for value, keyword in (
        (where, "ImagePositionPatient"), (turn, "ImageOrientationPatient"), (spacing, "PixelSpacing"),
    ):  # fmt: skip
        if value is None:
            return InvalidDicom(
                f"{attribute_name(keyword)} is missing from the frame's functional groups; a slice is placed by it"
            )
    return None


def _phase(groups: _Groups, kind: Kind, frame_type: tuple[str, ...]) -> tuple[str, ...]:
    found = []
    for keyword, top in zip(PHASES, kind.phase, strict=True):
        sequence, name = _PHASE_GROUPS.get(keyword, ("", ""))
        own = as_written(groups.item(sequence), name) if sequence else ""
        if keyword == "ImageType":
            own = "\\".join(frame_type)
        found.append(own or top)
    return tuple(found)


def _anatomy(read: Attributes) -> str:
    """The body part in words: enhanced images code it (Anatomic Region Sequence (0008,2218))."""
    for holder in (read, *map(Attributes, read.items("SharedFunctionalGroupsSequence"))):
        for inner in (holder, *map(Attributes, holder.items("FrameAnatomySequence"))):
            for item in inner.items("AnatomicRegionSequence"):
                return Attributes(item).text("CodeMeaning", "")
    return ""


def _offsets(read: Attributes, frames: int) -> tuple[int, ...]:
    """Extended Offset Table (7FE0,0001): of each frame's first item, from the first byte of the first frame's item."""
    table = read.raw("ExtendedOffsetTable")
    if not isinstance(table, bytes) or not table:
        return ()
    if len(table) != 8 * frames:
        raise InvalidDicom(f"{attribute_name('ExtendedOffsetTable')} has {len(table)} bytes for {frames} frames")
    return tuple(offset for (offset,) in _OFFSETS.iter_unpack(table))
