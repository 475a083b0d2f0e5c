"""Which images a pipeline reads, decided on the header alone."""

from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import UID

from wetread_preprocess.attributes import Attributes
from wetread_preprocess.errors import InvalidDicom, UnsupportedImage
from wetread_preprocess.header import PixelFormat
from wetread_preprocess.recipe import Recipe

_GRAYSCALE = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
# PS3.3 C.7.6.1.1.1: the first letter of a row's direction; on a frontal film rows run left or right.
_SAGITTAL_ROW = ("A", "P")


@dataclass(frozen=True)
class FilmOptions:
    """What a request says about its film."""

    declared_film: bool = False
    """The capture is a film: its sender wrapped it (a Secondary Capture is refused otherwise)."""
    any_body_part: bool = False
    """Body Part Examined (0018,0015) is known to be wrong or absent: do not refuse by it."""


def admit(dataset: Dataset, fmt: PixelFormat, recipe: Recipe, options: FilmOptions) -> list[str]:
    """Refuse what the pipeline does not read; return warnings for what it reads with doubt.

    Raises:
        UnsupportedImage: modality, view, body part, frames, colour model or size.
        InvalidDicom: Modality (0008,0060) is missing.
    """
    read = Attributes(dataset)
    _admit_modality(read, recipe, options)
    _admit_view(read, recipe)
    _admit_pixels(read, fmt, recipe)
    return [] if options.any_body_part else _admit_body_part(read, recipe)


def _admit_modality(read: Attributes, recipe: Recipe, options: FilmOptions) -> None:
    modality = read.text("Modality", "")
    welcome = ", ".join(sorted(recipe.modalities))
    if not modality:
        raise InvalidDicom(f"Modality (0008,0060) is missing; this pipeline reads {welcome}")
    if modality in recipe.declared_modalities:
        if not options.declared_film:
            raise UnsupportedImage(
                f"Modality (0008,0060) is {modality}, a capture; it is read only when the request declares it a film "
                "(parameter declared_film)"
            )
    elif modality not in recipe.modalities:
        raise UnsupportedImage(f"Modality (0008,0060) is {modality}; this pipeline reads {welcome}")
    if read.text("PresentationIntentType", "") == "FOR PROCESSING":
        raise UnsupportedImage(
            "Presentation Intent Type (0008,0068) is FOR PROCESSING; send the film's FOR PRESENTATION image"
        )


def _admit_view(read: Attributes, recipe: Recipe) -> None:
    view = read.text("ViewPosition", "")
    if view in recipe.lateral_views:
        raise UnsupportedImage(f"View Position (0018,5101) is {view}; only frontal films are read")
    for item in read.items("ViewCodeSequence"):
        code = Attributes(item).text("CodeValue", "")
        if code in recipe.lateral_view_codes:
            raise UnsupportedImage(
                f"View Code Sequence (0054,0220) names a lateral view ({code}); only frontal films are read"
            )
    row_direction = str(read.first("PatientOrientation") or "").strip().upper()
    if recipe.lateral_views and not view and row_direction.startswith(_SAGITTAL_ROW):
        raise UnsupportedImage(
            f"Patient Orientation (0020,0020) runs {row_direction} along the rows, a lateral view; "
            "only frontal films are read"
        )


def _admit_pixels(read: Attributes, fmt: PixelFormat, recipe: Recipe) -> None:
    frames = read.integer("NumberOfFrames", 1)
    if frames > 1:
        raise UnsupportedImage(f"Number of Frames (0028,0008) is {frames}; a film has one")
    allowed = _GRAYSCALE if fmt.samples == 1 else _COLOUR
    if fmt.photometric not in allowed:
        raise UnsupportedImage(
            f"Photometric Interpretation (0028,0004) is {fmt.photometric} with {fmt.samples} sample(s) per pixel; "
            f"read are {', '.join(allowed)}"
        )
    if min(fmt.rows, fmt.columns) < recipe.min_side:
        raise UnsupportedImage(
            f"the image is {fmt.rows} x {fmt.columns}; a side below {recipe.min_side} pixels is no film"
        )
    if fmt.rows * fmt.columns > recipe.limits.max_pixels:
        raise UnsupportedImage(
            f"Rows x Columns is {fmt.rows} x {fmt.columns}; films up to {recipe.limits.max_pixels} pixels are read"
        )


def _admit_body_part(read: Attributes, recipe: Recipe) -> list[str]:
    part = read.text("BodyPartExamined", "")
    if not part:
        return []
    if any(welcome in part for welcome in recipe.body_parts):
        return []
    if part.replace(" ", "").replace("_", "") in recipe.other_body_parts:
        raise UnsupportedImage(
            f"Body Part Examined (0018,0015) is {part}; if that is wrong, send the request parameter any_body_part "
            "(wetread read --any-body-part)"
        )
    return [f"Body Part Examined (0018,0015) is {part[:16]}, which this pipeline does not know"]


def syntax_name(transfer_syntax: str) -> str:
    """`JPEG 2000 Image Compression (1.2.840.10008.1.2.4.91)`, or the bare UID when it is not the standard's."""
    uid = UID(transfer_syntax)
    return f"{uid.name} ({uid})" if uid.name != str(uid) else str(uid)
