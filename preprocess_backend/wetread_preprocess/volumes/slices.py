"""A file of a series to what its header says of each image, before any pixel is looked at."""

import functools
import io
from dataclasses import dataclass, replace

import numpy as np
import pydicom.config
from pydicom.dataset import Dataset
from pydicom.uid import UID

from wetread_preprocess.attributes import Attributes, attribute_name
from wetread_preprocess.codecs import fragments_by_frame
from wetread_preprocess.errors import ImageError, InvalidDicom, UnsupportedImage
from wetread_preprocess.header import Buffer, PixelFormat, is_deflated, padding_range, parse, pixel_format
from wetread_preprocess.recipe import DecodeLimits
from wetread_preprocess.volumes.elements import WANTED, Fetched, scan
from wetread_preprocess.volumes.plane import Six, as_written, orientation, pixel_spacing, position, rescale, texts
from wetread_preprocess.volumes.stack import LeftOut, Point

# What may tell images at one place apart, in the order in which it is tried.
PHASES = (
    "AcquisitionNumber", "TemporalPositionIdentifier", "EchoNumbers", "EchoTime", "DiffusionBValue", "TriggerTime",
    "ConvolutionKernel", "ImageType",
)  # fmt: skip
# What differs from slice to slice of a sound series; the rest is converted once for all slices that say the same.
_OWN = ("SOPInstanceUID", "ImagePositionPatient", "RescaleSlope", "RescaleIntercept")
_OWN_TAGS = frozenset(WANTED[keyword][0] for keyword in _OWN)
_IMAGE = "Image Storage"  # in the name of every SOP class of images, PS3.6 A
_MOST_INFLATED = 2**31
"""Bytes that the deflated files of one request may unpack to together."""
_DIRECTORY = "1.2.840.10008.1.3.10"  # Media Storage Directory Storage, PS3.4 B.5


@dataclass(frozen=True)
class Kind:
    """What the images of one stack have in common."""

    series_instance_uid: str = ""
    series_number: int = 0
    sop_class_uid: str = ""
    modality: str = ""
    body_part: str = ""
    image_type: tuple[str, ...] = ()
    frame_of_reference_uid: str = ""
    frames: int = 1
    fmt: PixelFormat | None = None
    padding: tuple[int, int] | None = None
    orientation: Six | None = None
    """Image Orientation (Patient) (0020,0037) as it stands: neither unit vectors nor at right angles for sure."""
    pixel_spacing_mm: tuple[float, float] | None = None
    rescale_type: str = ""
    phase: tuple[str, ...] = ("",) * len(PHASES)
    stack_id: str = ""
    fault: ImageError | None = None
    """Why no slice can be made of such an image."""


@dataclass(frozen=True)
class PixelPlace:
    """Where a file's pixels lie."""

    transfer_syntax: str
    pixels: memoryview
    encapsulated: bool
    frames: int = 1
    offsets: tuple[int, ...] = ()
    """Of each frame's first item (Extended Offset Table (7FE0,0001)); empty: not stated."""

    @functools.cached_property
    def fragments(self) -> list[list[memoryview]]:
        """Of each frame of an encapsulated image.

        Raises:
            InvalidDicom: the items are malformed, or nothing says which are a frame's.
        """
        return fragments_by_frame(self.pixels, self.frames, self.offsets)


@dataclass(frozen=True)
class Image:
    """One image of a file: all that is known of it without its pixels."""

    source: int
    """The file that holds it, by its place in the request, from 1."""
    frame: int
    sop_instance_uid: str
    kind: Kind
    place: PixelPlace
    position_mm: Point | None
    slope: float = 1.0
    intercept: float = 0.0
    fault: ImageError | None = None
    """Why no slice can be made of it, though it may be left out."""
    damage: ImageError | None = None
    """Why it cannot be read, though it has its place in the series."""


@dataclass(frozen=True)
class NoImage:
    """A file that holds no slice."""

    left_out: LeftOut
    broken: bool = False
    """It may be damaged rather than something else."""


def name_of(image: Image, files: int) -> str:
    """`file 7 of 100`, as messages name an image; with its frame where the file has several."""
    frame = f", frame {image.frame + 1}" if image.place.frames > 1 else ""
    return f"file {image.source} of {files}{frame}"


class Reader:
    """Reads the headers of one request's files; remembers what they have in common."""

    def __init__(self, limits: DecodeLimits, most_frames: int) -> None:
        self._limits = limits
        self._most_frames = most_frames
        self._inflated_left = _MOST_INFLATED
        self._kinds: dict[frozenset[tuple[int, bytes]], Kind] = {}
        # Odd values are judged here, by attribute; pydicom would log them.
        pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

    def read(self, source: int, dicom: Buffer) -> list[Image] | NoImage:
        """Give the images of a file, or why it holds none that could be a slice."""
        view = dicom.data if isinstance(dicom, np.ndarray) else memoryview(dicom)
        found = scan(view)
        if found is None:
            return self._parsed(source, view)
        common = frozenset((tag, value) for tag, value in found.values.items() if tag not in _OWN_TAGS)
        read = Fetched(found.values)
        kind = self._kinds.get(common)
        if kind is None:
            kind = self._kinds[common] = read_kind(read, self._limits)
        if kind.frames > 1:
            kind = replace(kind, fault=_missing("PerFrameFunctionalGroupsSequence", "each frame is placed by it"))
        place = PixelPlace(found.transfer_syntax, found.pixels, found.encapsulated)
        damage = None
        if found.missing:
            damage = InvalidDicom(f"Pixel Data (7FE0,0010) is cut short by {found.missing} bytes")
        return [read_image(source, read, kind, place, damage)]

    def _parsed(self, source: int, view: memoryview) -> list[Image] | NoImage:
        """The same by pydicom."""
        from wetread_preprocess.volumes.multiframe import read_frames  # noqa: PLC0415 -- it builds on this module

        try:
            file = parse(view, min(self._limits.max_inflated_bytes, self._inflated_left))
        except ImageError as error:
            return self._without_pixels(source, view, error)
        if is_deflated(view):
            self._inflated_left -= len(file.pixels)
        read = Attributes(file.dataset)
        place = PixelPlace(file.transfer_syntax, file.pixels, file.encapsulated)
        kind = read_kind(read, self._limits)
        if kind.frames > 1 or "PerFrameFunctionalGroupsSequence" in file.dataset:
            return read_frames(source, read, kind, place, self._most_frames)
        return [read_image(source, read, kind, place, None)]

    def _without_pixels(self, source: int, view: memoryview, why: ImageError) -> list[Image] | NoImage:
        """What can be said of a file whose pixels cannot be had."""
        unreadable = NoImage(LeftOut(source, "", f"it cannot be read: {why}"), broken=True)
        if is_deflated(view):  # pydicom would unpack it, however large
            return unreadable
        try:
            dataset = pydicom.dcmread(io.BytesIO(view), stop_before_pixels=True)
            read = Attributes(dataset)
            instead = _what_instead(dataset.file_meta, read)
            if instead:
                return NoImage(LeftOut(source, read.text("SOPInstanceUID", ""), instead))
            if read.first("Rows") is None:
                return unreadable
            kind = read_kind(read, self._limits)
            nothing = PixelPlace("", memoryview(b""), encapsulated=False)
            if isinstance(why, UnsupportedImage) or kind.frames > 1:
                return [read_image(source, read, replace(kind, fault=why), nothing, None)]
            return [read_image(source, read, kind, nothing, why)]
        except Exception:  # noqa: BLE001 -- whatever pydicom raises of a file that `parse` gave up, `why` says it
            return unreadable


def _what_instead(meta: Dataset, read: Attributes) -> str:
    """What a file is that holds no image, in words; empty: an image, perhaps cut short."""
    if str(meta.get("MediaStorageSOPClassUID", "")) == _DIRECTORY:
        return "it is a DICOMDIR, an index of files"
    name = UID(read.text("SOPClassUID", "")).name
    if read.first("Rows") is not None or not name or _IMAGE in name:
        return ""
    return f"it is no image but {name}"


def read_kind(read: Attributes, limits: DecodeLimits) -> Kind:
    """Read what a file's images have in common; what is wrong with it becomes its `fault`."""
    kind = Kind()
    try:
        kind = Kind(
            series_instance_uid=read.text("SeriesInstanceUID", ""),
            series_number=read.integer("SeriesNumber", 0),
            sop_class_uid=read.text("SOPClassUID", ""),
            modality=read.text("Modality", ""),
            body_part=read.text("BodyPartExamined", ""),
            image_type=texts(read, "ImageType"),
            frame_of_reference_uid=read.text("FrameOfReferenceUID", ""),
            frames=read.integer("NumberOfFrames", 1),
            rescale_type=read.text("RescaleType", ""),
            phase=tuple(as_written(read, keyword) for keyword in PHASES),
        )
        fmt = _format(read, limits)
        kind = replace(kind, fmt=fmt, padding=padding_range(read, fmt))
        return replace(kind, orientation=orientation(read), pixel_spacing_mm=pixel_spacing(read))
    except ImageError as error:
        return replace(kind, fault=error)


def read_image(source: int, read: Attributes, kind: Kind, place: PixelPlace, damage: ImageError | None) -> Image:
    """Read what is one image's own, of a file that holds one."""
    uid = read.text("SOPInstanceUID", "")
    fault = kind.fault
    slope, intercept = 1.0, 0.0
    where: Point | None = None
    try:
        if fault is None and kind.orientation is None:
            fault = _missing("ImageOrientationPatient", "a slice is placed by it")
        if fault is None and kind.pixel_spacing_mm is None:
            fault = _missing("PixelSpacing", "a volume needs the size of its pixels")
        where = position(read)
        if fault is None and where is None:
            fault = _missing("ImagePositionPatient", "a slice is placed by it")
        slope, intercept = rescale(read)
        if read.items("ModalityLUTSequence"):
            fault = fault or UnsupportedImage(f"{attribute_name('ModalityLUTSequence')} is not read; only a slope is")
    except ImageError as error:
        fault = fault or error
    return Image(source, 0, uid, kind, place, where, slope, intercept, fault, damage)


def _format(read: Attributes, limits: DecodeLimits) -> PixelFormat:
    fmt = pixel_format(read)
    if fmt.samples != 1:
        raise UnsupportedImage(f"{attribute_name('SamplesPerPixel')} is {fmt.samples}: the image is in colour")
    if fmt.photometric != "MONOCHROME2":
        raise UnsupportedImage(
            f"{attribute_name('PhotometricInterpretation')} is {fmt.photometric}; of series, MONOCHROME2 is read"
        )
    if fmt.rows < 1 or fmt.columns < 1:
        raise InvalidDicom(f"Rows x Columns is {fmt.rows} x {fmt.columns}")
    if fmt.rows * fmt.columns > limits.max_pixels:
        raise UnsupportedImage(
            f"Rows x Columns is {fmt.rows} x {fmt.columns}; images up to {limits.max_pixels} pixels are read"
        )
    return fmt


def _missing(keyword: str, why: str) -> InvalidDicom:
    return InvalidDicom(f"{attribute_name(keyword)} is missing; {why}")
